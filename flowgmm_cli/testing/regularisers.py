"""Checks of regularisers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowgmm_cli.api import Batch, Kind
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.tensors import diff_tensors, toy_model

_VIEWS = {"weak", "strong"}


class RegulariserConformance(Conformance):
    """Checks of a regulariser on a small model with D = 4 and K = 3.

        class TestMyTerm(RegulariserConformance):
            name = "my_term"

    Attributes:
        epoch: epoch of the checks, after all ramps.
        learns: True if its terms depend on the model's parameters at `epoch`.
    """

    kind: ClassVar[Kind] = "regulariser"
    epoch: ClassVar[float] = 50.0
    learns: ClassVar[bool] = True

    def model(self) -> FlowMixture:
        """Make a small model, the student; override it for terms that need another flow."""
        return toy_model()

    def batch(
        self,
        model: FlowMixture,
        regulariser: Any,
        *,
        labelled: int = 5,
        unlabelled: int = 12,
        epoch: float | None = None,
        seed: int = 0,
    ) -> Batch:
        """Make a step's rows, with the student's latents of the views that the regulariser declares."""
        numbers = torch.Generator().manual_seed(seed)
        rows, labels = model.sample(labelled + unlabelled, numbers)
        weak = rows[labelled:]
        strong = weak + 0.3 * torch.randn(weak.shape, generator=numbers)
        views = {"labelled": rows[:labelled], "weak": weak, "strong": strong}
        guide = torch.rand(unlabelled, 3, generator=numbers)
        return Batch(
            **views,
            labels=labels[:labelled],
            student={name: model(views[name]) for name in ("labelled", *regulariser.reads)},
            temperature=1.5,
            step=1000,
            epoch=self.epoch if epoch is None else epoch,
            generator=torch.Generator().manual_seed(seed + 1),
            guide=guide / guide.sum(1, keepdim=True),
        )

    def terms(
        self, *, seed: int = 0, values: Mapping[str, Any] | None = None, **sizes: Any
    ) -> dict[str, Tensor]:
        """Compute the terms of a new regulariser on a new model."""
        model, regulariser = self.model(), self.build_with(values or {})
        return self._call(model, regulariser, self.batch(model, regulariser, seed=seed, **sizes))

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return the computation of the terms."""
        model, regulariser = self.model(), self.build()
        batch = self.batch(model, regulariser)
        return {"it": lambda: self._call(model, regulariser, batch)}

    def _call(self, model: FlowMixture, regulariser: Any, batch: Batch) -> dict[str, Tensor]:
        return dict(regulariser(model, copy.deepcopy(model).requires_grad_(False).eval(), batch))

    @check("set `reads = frozenset({...})` to the views whose student latents are used: `weak`, `strong`")
    def test_declares_what_it_reads(self) -> None:
        """`reads` is a subset of weak and strong."""
        regulariser = self.build()
        reads = regulariser.reads if hasattr(regulariser, "reads") else None
        expect(isinstance(reads, frozenset | set), f"`reads` is {reads!r}, not a frozenset")
        unknown = set(reads or ()) - _VIEWS
        expect(not unknown, f"`reads` names {', '.join(map(str, unknown))}; the views are weak and strong")

    @check("name the view in `reads`; `labelled` is always present, and `batch.weak` are the rows themselves")
    def test_reads_only_what_it_declares(self) -> None:
        """It reads no view of the student that it does not declare."""
        model, regulariser = self.model(), self.build()
        batch = self.batch(model, regulariser)
        for view in sorted(_VIEWS - set(regulariser.reads)):
            student = {**batch.student, view: model(torch.full_like(batch.weak, math.nan))}
            terms = self._call(model, regulariser, replace(batch, student=student))
            finite = all(bool(value.isfinite().all()) for value in terms.values())
            expect(finite, f"it reads `{view}`, which `reads` does not name")

    @check("return a mapping from names to scalar tensors: means over rows, not a value for each row")
    def test_terms_are_finite_scalars(self) -> None:
        """Its terms are named, scalar and finite, at the start of training as well."""
        for epoch in (0.0, self.epoch):
            terms = self.terms(epoch=epoch)
            expect(terms, "it has no term")
            for name, value in terms.items():
                expect(isinstance(name, str) and name, f"the term {name!r} has no name")
                expect(isinstance(value, Tensor), f"`{name}` is a `{type(value).__name__}`, not a tensor")
                expect(value.ndim == 0, f"`{name}` has the shape {tuple(value.shape)}, not ()")
                expect(bool(value.isfinite()), f"`{name}` is {value.item()} at epoch {epoch:g}")

    @check("compute from `batch.student` or `model(x)`, with no detach() and no `.item()` on the way")
    def test_gradients_reach_the_student(self) -> None:
        """The terms' gradients reach the student's parameters and are finite."""
        model, regulariser = self.model(), self.build()
        terms = self._call(model, regulariser, self.batch(model, regulariser))
        total = torch.stack(list(terms.values())).sum()
        if not self.learns:
            return
        expect(total.requires_grad, "the terms do not depend on the model's parameters")
        torch.autograd.backward(total)
        grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        expect(any(bool(grad.any()) for grad in grads), "every gradient is zero")
        expect(all(bool(grad.isfinite().all()) for grad in grads), "a gradient is not finite")

    @check("call the teacher under torch.no_grad(), and change neither model in place")
    def test_teacher_is_untouched(self) -> None:
        """No gradient reaches the teacher, and neither model is changed."""
        model, regulariser = self.model(), self.build()
        teacher = copy.deepcopy(model)  # with parameters that could take gradients
        before = [copy.deepcopy(part.state_dict()) for part in (model, teacher)]
        modes = (model.training, teacher.training)
        terms = regulariser(model, teacher, self.batch(model, regulariser))
        total = torch.stack(list(terms.values())).sum()
        if total.requires_grad:
            torch.autograd.backward(total)
        reached = [name for name, value in teacher.named_parameters() if value.grad is not None]
        expect(not reached, f"a gradient reaches the teacher's `{reached[0] if reached else ''}`")
        for label, part, state in zip(("model", "teacher"), (model, teacher), before, strict=True):
            changed = diff_tensors(part.state_dict(), state)
            expect(not changed, f"it changes `{changed[0] if changed else ''}` of the {label}")
        frozen = [name for name, value in model.named_parameters() if not value.requires_grad]
        expect(not frozen, f"it freezes `{frozen[0] if frozen else ''}` of the model")
        expect(modes == (model.training, teacher.training), "it switches between train() and eval()")

    @check("make new tensors instead of changing those of the batch in place")
    def test_batch_is_left_alone(self) -> None:
        """It changes no rows, labels or latents of the batch."""
        model, regulariser = self.model(), self.build()
        batch = self.batch(model, regulariser)
        tensors = {name: getattr(batch, name) for name in ("labelled", "labels", "weak", "strong")}
        tensors |= {f"student {name}": latents.z for name, latents in batch.student.items()}
        before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._call(model, regulariser, batch)
        changed = diff_tensors(tensors, before)
        expect(not changed, f"it changes {', '.join(changed)}")

    @check("divide by `max(1, number of rows)`: the mean of nothing is NaN")
    def test_no_rows(self) -> None:
        """Without unlabelled or labelled rows its terms are finite, too."""
        cases: list[dict[str, Any]] = [{"unlabelled": 0}, {"labelled": 0}, {"labelled": 1, "unlabelled": 1}]
        for sizes in cases:
            for name, value in self.terms(**sizes).items():
                counts = ", ".join(f"{count} {kind} rows" for kind, count in sizes.items())
                expect(bool(value.isfinite()), f"with {counts} `{name}` is {value.item()}")

    @check("return unweighted terms: training multiplies them by `weight`")
    def test_terms_are_not_weighted(self) -> None:
        """The parameter `weight` does not change the terms."""
        terms = [self.terms(values={"weight": weight}) for weight in (1.0, 3.0)]
        expect(not diff_tensors(*terms), "the terms change with `weight`")

    @check("keep no state between calls, since a resumed run lacks it; let ramps be functions of `epoch`")
    def test_no_state_between_calls(self) -> None:
        """Earlier calls do not change its terms."""
        model, regulariser = self.model(), self.build()
        batches = [self.batch(model, regulariser, seed=seed) for seed in (0, 5, 6, 7, 0)]
        first, *_, again = [self._call(model, regulariser, batch) for batch in batches]
        same = all(torch.allclose(first[name], again[name], atol=1e-6) for name in first)
        expect(same, "the same step gives other terms after calls with other rows")
