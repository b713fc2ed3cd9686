"""Checks of regularisers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowgmm_cli.api import Batch, Kind
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.testing.check import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.surroundings import random_numbers_left_alone
from flowgmm_cli.testing.toys import WatchedStudent, toy_batch, toy_model

_VIEWS = {"weak", "strong"}


class RegulariserConformance(Conformance):
    """What holds for every regulariser; it is checked on a small model with D = 4 and K = 3.

        class TestMyTerm(RegulariserConformance):
            name = "my_term"

    Attributes:
        epoch: when in training it is looked at; beyond all ramps.
        learns: whether its terms depend on the model's parameters at `epoch`.
    """

    kind: ClassVar[Kind] = "regulariser"
    epoch: ClassVar[float] = 50.0
    learns: ClassVar[bool] = True

    def model(self) -> FlowMixture:
        """A fresh small model, the student; give it another flow where the terms need one."""
        return toy_model()

    def batch(self, model: FlowMixture, regulariser: Any, **sizes: Any) -> Batch:
        """A step's rows; the student has seen what the regulariser declares to read."""
        return toy_batch(model, frozenset(regulariser.reads), **{"epoch": self.epoch, **sizes})

    def terms(
        self, *, seed: int = 0, values: Mapping[str, Any] | None = None, **sizes: Any
    ) -> dict[str, Tensor]:
        """The terms of a fresh regulariser on a fresh model."""
        model, regulariser = self.model(), self.build_with(values or {})
        batch = self.batch(model, regulariser, seed=seed, **sizes)
        return dict(regulariser(model, _teacher(model), batch))

    @check("set `reads = frozenset({...})` with the views whose student latents are used: `weak`, `strong`")
    def test_declares_what_it_reads(self) -> None:
        """`reads` is a subset of weak and strong."""
        regulariser = self.build()
        reads = getattr(regulariser, "reads", None)
        expect(isinstance(reads, frozenset | set), f"`reads` is {reads!r}, not a frozenset")
        strange = set(reads or ()) - _VIEWS
        expect(not strange, f"`reads` names {', '.join(map(str, strange))}; the views are weak and strong")

    @check("name the view in `reads`; `labelled` is always there, and `batch.weak` are the rows themselves")
    def test_reads_only_what_it_declares(self) -> None:
        """It looks up no view of the student that it does not declare."""
        model, regulariser = self.model(), self.build()
        student = WatchedStudent({name: model(torch.zeros(12, 4)) for name in ("labelled", *_VIEWS)})
        batch = self.batch(model, regulariser)
        watched = Batch(**{**vars(batch), "student": student})
        labelled = model(batch.labelled)
        student._seen["labelled"] = labelled
        regulariser(model, _teacher(model), watched)
        undeclared = student.asked - set(regulariser.reads) - {"labelled"}
        expect(not undeclared, f"it reads `{', '.join(sorted(undeclared))}`, which `reads` does not name")

    @check("return a mapping from names to scalar tensors: means over rows, not one value a row")
    def test_terms_are_finite_scalars(self) -> None:
        """Its terms are named, scalar and finite, at the start of training as well."""
        for epoch in (0.0, self.epoch):
            terms = self.terms(epoch=epoch)
            expect(terms, "there is no term")
            for name, value in terms.items():
                expect(isinstance(name, str) and name, f"the term {name!r} has no name")
                expect(isinstance(value, Tensor), f"`{name}` is a `{type(value).__name__}`, not a tensor")
                expect(value.ndim == 0, f"`{name}` has the shape {tuple(value.shape)}, not ()")
                expect(bool(value.isfinite()), f"`{name}` is {value.item()} at epoch {epoch:g}")

    @check("compute from `batch.student` or `model(x)`, with no detach() and no `.item()` on the way")
    def test_gradients_reach_the_student(self) -> None:
        """The terms' gradients reach the student's parameters and are finite."""
        model, regulariser = self.model(), self.build()
        terms = regulariser(model, _teacher(model), self.batch(model, regulariser))
        total: Any = torch.stack(list(terms.values())).sum()
        if not self.learns:
            return
        expect(total.requires_grad, "the terms do not depend on the model's parameters")
        total.backward()
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        expect(any(bool(one.any()) for one in gradients), "every gradient is zero")
        expect(all(bool(one.isfinite().all()) for one in gradients), "a gradient is not finite")

    @check("call the teacher under torch.no_grad(), and change neither model in place")
    def test_teacher_is_untouched(self) -> None:
        """No gradient reaches the teacher, and neither model is changed."""
        model, regulariser = self.model(), self.build()
        teacher = copy.deepcopy(model)  # its parameters could take gradients: none may come
        before = [{name: one.clone() for name, one in part.state_dict().items()} for part in (model, teacher)]
        modes = (model.training, teacher.training)
        terms = regulariser(model, teacher, self.batch(model, regulariser))
        total: Any = torch.stack(list(terms.values())).sum()
        if total.requires_grad:
            total.backward()
        reached = [name for name, one in teacher.named_parameters() if one.grad is not None]
        expect(not reached, f"a gradient reaches the teacher's `{reached[0] if reached else ''}`")
        for what, part, state in zip(("model", "teacher"), (model, teacher), before, strict=True):
            changed = [name for name, one in part.state_dict().items() if not torch.equal(one, state[name])]
            expect(not changed, f"it changes `{changed[0] if changed else ''}` of the {what}")
        frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
        expect(not frozen, f"it freezes `{frozen[0] if frozen else ''}` of the model")
        expect(modes == (model.training, teacher.training), "it switches between train() and eval()")

    @check("make new tensors instead of changing those of the batch in place")
    def test_batch_is_left_alone(self) -> None:
        """It changes no rows, labels or latents of the batch."""
        model, regulariser = self.model(), self.build()
        batch = self.batch(model, regulariser)
        tensors = {name: getattr(batch, name) for name in ("labelled", "labels", "weak", "strong")}
        tensors |= {f"student {name}": one.z for name, one in batch.student.items()}
        before = {name: one.detach().clone() for name, one in tensors.items()}
        regulariser(model, _teacher(model), batch)
        changed = [name for name, one in tensors.items() if not torch.equal(one.detach(), before[name])]
        expect(not changed, f"it changes {', '.join(changed)}")

    @check("divide by `max(1, number of rows)`: the mean of nothing is NaN")
    def test_no_rows(self) -> None:
        """Without unlabelled or labelled rows its terms are finite all the same."""
        cases: tuple[dict[str, Any], ...] = (
            {"unlabelled": 0},
            {"labelled": 0},
            {"labelled": 1, "unlabelled": 1},
        )
        for sizes in cases:
            for name, value in self.terms(**sizes).items():
                words = ", ".join(f"{count} {what} rows" for what, count in sizes.items())
                expect(bool(value.isfinite()), f"with {words} `{name}` is {value.item()}")

    @check("return terms as they are: training multiplies them by `weight`")
    def test_terms_are_not_weighted(self) -> None:
        """The parameter `weight` leaves the terms as they are."""
        one, two = self.terms(values={"weight": 1.0}), self.terms(values={"weight": 3.0})
        same = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
        expect(same, "the terms change with `weight`")

    @check("draw random numbers from `batch.generator`, with `generator=` or a seed taken from it")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Its random numbers are those of the batch's generator; the same step gives the same terms."""
        model, regulariser = self.model(), self.build()
        batch, teacher = self.batch(model, regulariser), _teacher(model)
        with random_numbers_left_alone("it"):
            regulariser(model, teacher, batch)
        one, two = self.terms(), self.terms()
        expect(all(torch.equal(one[name], two[name]) for name in one), "the same step gives other terms")

    @check("keep nothing between calls: a resumed run would not have it. What grows is a function of `epoch`")
    def test_no_state_between_calls(self) -> None:
        """What it was shown before does not change its terms."""
        model, regulariser = self.model(), self.build()
        teacher = _teacher(model)
        first = dict(regulariser(model, teacher, self.batch(model, regulariser)))
        for seed in (5, 6, 7):
            regulariser(model, teacher, self.batch(model, regulariser, seed=seed))
        again = dict(regulariser(model, teacher, self.batch(model, regulariser)))
        same = all(torch.allclose(first[name], again[name], atol=1e-6) for name in first)
        expect(same, "the same step gives other terms once other rows have been seen")


def _teacher(model: FlowMixture) -> FlowMixture:
    return copy.deepcopy(model).requires_grad_(False).eval()
