from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flowgmm_cli.api import Batch
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.guard import NonFiniteGuard
from flowgmm_cli.training.optim import create_ema_model, create_optimiser, update_ema
from flowgmm_cli.training.step import TrainingStep, build_step
from flowgmm_cli.views.pipeline import AugmentationPipeline


class Spy:
    """An objective and regulariser that remembers its batch and returns the given terms."""

    pool: Literal["all"] = "all"
    temperature = 3.0

    def __init__(self, reads: set[str], **terms: float) -> None:
        self.reads = frozenset(reads)
        self.terms = terms
        self.batch: Batch | None = None

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        self.batch = batch
        return {name: torch.tensor(value) for name, value in self.terms.items()}


def rows(labelled: int = 2, unlabelled: int = 5) -> tuple[Tensors, Tensors]:
    generator = torch.Generator().manual_seed(0)
    return (
        Tensors(torch.randn(labelled, 2, generator=generator), torch.arange(labelled) % 2),
        Tensors(torch.randn(unlabelled, 2, generator=generator)),
    )


@pytest.mark.parametrize(
    ("reads", "rows_in_pass"), [(("weak", "strong"), 2 + 5 + 5), (("weak", "weak"), 2 + 5), (("", ""), 2)]
)
def test_labelled_rows_and_the_views_that_are_read_share_a_forward_pass(
    make_model: Any, reads: tuple[str, str], rows_in_pass: int
) -> None:
    model, calls = make_model(classes=2), []
    model.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    objective, regulariser = (Spy({name} - {""}, **{f"term{i}": 1.0}) for i, name in enumerate(reads))
    strong = AugmentationPipeline("strong", features=[lambda x, generator: x + 1])
    step = TrainingStep(model, objective, [(1.0, regulariser)], strong=strong)
    step(create_ema_model(model), *rows(), torch.Generator(), step=7, epoch=1.5)
    assert calls == [rows_in_pass]
    batch = objective.batch
    assert batch is not None
    assert batch is regulariser.batch
    assert set(batch.student) == {"labelled", *reads} - {""}
    assert torch.equal(batch.strong, batch.weak + 1)  # both views are there, also unread
    assert (batch.temperature, batch.step, batch.epoch) == (3.0, 7, 1.5)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 5), (0, 5), (2, 0)])
def test_each_part_of_the_pass_equals_a_pass_of_its_rows_alone(
    make_model: Any, labelled: int, unlabelled: int
) -> None:
    model, objective = make_model(classes=2), Spy({"weak", "strong"}, a=1.0)
    given = rows(labelled, unlabelled)
    weak = AugmentationPipeline("weak", features=[lambda x, generator: x + 1])
    strong = AugmentationPipeline("strong", features=[lambda x, generator: x * 2])
    step = TrainingStep(model, objective, [], weak=weak, strong=strong)
    step(create_ema_model(model), *given, torch.Generator())
    batch = objective.batch
    assert batch is not None
    expected = {
        "labelled": given[0].x + 1,  # a weak view concerns labelled rows, too
        "weak": given[1].x + 1,
        "strong": given[1].x * 2,
    }
    for name, x in expected.items():
        assert torch.equal(getattr(batch, name), x)
        torch.testing.assert_close(vars(batch.student[name]), vars(model(x)))


def test_views_are_applied_first_to_last_with_the_generator_of_the_step(make_model: Any) -> None:
    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator)

    def double(x: Tensor, generator: torch.Generator) -> Tensor:
        return 2 * x

    objective = Spy(set(), a=1.0)
    strong = AugmentationPipeline("strong", features=[double, noise])
    step = TrainingStep(make_model(), objective, [], strong=strong)
    given, state = rows(2, 3), torch.get_rng_state()
    draw = torch.randn(3, 2, generator=torch.Generator().manual_seed(4))
    step(create_ema_model(step.model), *given, torch.Generator().manual_seed(4))
    assert objective.batch is not None
    torch.testing.assert_close(objective.batch.strong, 2 * given[1].x + draw)
    assert torch.equal(objective.batch.weak, given[1].x)
    assert torch.equal(objective.batch.labelled, given[0].x)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_applied_and_terms_of_equal_name_are_added(make_model: Any) -> None:
    model = make_model()
    regularisers = [
        (2.0, Spy(set(), shared=1.0, own=10.0)),
        (0.5, Spy(set(), shared=1.0)),
        (0.0, Spy(set(), off=1.0)),
        (3.0, Spy(set(), main=1.0)),
    ]
    step = TrainingStep(model, Spy(set(), main=5.0), regularisers)
    terms = step(create_ema_model(model), *rows(), torch.Generator())
    expected = {"main": 5.0 + 3.0, "shared": 2.0 + 0.5, "own": 20.0, "off": 0.0}
    assert {name: float(term) for name, term in terms.items()} == expected


def test_a_recipe_becomes_its_components(moons: Any, make_model: Any) -> None:
    recipe = moons("regularisers.0.weight=2.5")
    step = build_step(recipe, make_model(classes=2), features=2, labelled=3, unlabelled=9)
    assert [weight for weight, _ in step.regularisers] == [2.5]
    assert type(step.objective).__name__ == "Hybrid"
    assert [type(view).__name__ for view in step.views["strong"].features] == ["Noise", "Drop"]
    assert not step.views["weak"].features
    assert step.reads == {"strong"}
    plain = build_step(moons("regularisers=[]"), make_model(classes=2), features=2, labelled=3, unlabelled=9)
    assert plain.regularisers == ()


def test_losses_of_another_model_are_those_it_would_have_as_the_student(moons: Any, make_model: Any) -> None:
    first, other = make_model(classes=2, seed=0), make_model(classes=2, seed=1)
    step, same = (
        build_step(moons(), model, features=2, labelled=2, unlabelled=5) for model in (first, other)
    )
    teacher = create_ema_model(first)
    result = step(teacher, *rows(), torch.Generator().manual_seed(0), model=other)
    expected = same(teacher, *rows(), torch.Generator().manual_seed(0))
    assert all(torch.equal(result[name], expected[name]) for name in expected)


class NoSync(TorchDispatchMode):
    """Refuses everything that makes the host wait for the device."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket._qualified_op_name
        if name in ("aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal"):
            raise AssertionError(f"the step waits for the device: {name}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("words", [(), ("objective.use=joint",), ("flow.actnorm=true", "flow.mixing=lu")])
def test_a_step_never_waits_for_the_device(moons: Any, words: tuple[str, ...]) -> None:
    recipe = moons(*words)
    from flowgmm_cli.training.model_init import initialise_model

    given = rows(4, 6)
    x, labels = torch.cat([given[0].x, given[1].x]), torch.tensor([0, 1, 0, 1] + [-1] * 6)
    model = initialise_model(recipe, x, labels, classes=2, seed=0)
    step = build_step(recipe, model, features=2, labelled=4, unlabelled=6)
    teacher, optimiser = create_ema_model(model), create_optimiser(model, recipe.train)
    guard, generator = NonFiniteGuard(torch.device("cpu")), torch.Generator().manual_seed(0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for number in range(2):
        with NoSync():
            terms = step(teacher, *given, generator)
            loss = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            guard.watch(optimiser, number, norm)
            optimiser.step()
            update_ema(list(teacher.parameters()), list(model.parameters()), decay=0.9, step=number)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(AssertionError, match="waits"), NoSync():
        guard.first_bad_step()


def test_views_of_images_and_copies_of_texts_never_wait_for_the_device(make_model: Any) -> None:
    from flowgmm_cli.data.tensors import TextCopies
    from flowgmm_cli.views.geometry import Affine
    from flowgmm_cli.views.pipeline import ImageColumnView
    from flowgmm_cli.views.specs import AffineConfig

    move = Affine(AffineConfig(pixels=1, degrees=10, zoom=0.1, shear=5), shape=(1, 4, 4), high=1.0)
    images = ImageColumnView(move, slice(0, 16), (1, 4, 4))
    view = AugmentationPipeline("strong", inputs=[images], transforms=[])
    step = TrainingStep(
        make_model(16), Spy({"strong"}, a=1.0), [], strong=view, weak=AugmentationPipeline("weak")
    )
    copies = {"weak": TextCopies(torch.randn(6, 3, 16))}
    forms = Tensors(torch.randn(6, 16), torch.arange(6) % 2, inputs=torch.rand(6, 16), copies=copies)
    given = forms[:2], forms[torch.arange(6)]
    teacher, generator = create_ema_model(step.model), torch.Generator().manual_seed(0)
    with NoSync():
        assert step(teacher, *given, generator)


def without_data(model: FlowMixture) -> FlowMixture:
    """Replace all tensors of a model by some without data."""
    for module in model.modules():
        for kind in (module._parameters, module._buffers):
            for name, value in kind.items():
                assert value is not None
                moved = torch.empty(value.shape, dtype=value.dtype)
                learned = isinstance(value, torch.nn.Parameter)
                kind[name] = torch.nn.Parameter(moved, value.requires_grad) if learned else moved
    return model


def test_a_step_fits_together_on_tensors_without_data(moons: Any, make_model: Any) -> None:
    # so nothing in it looks at a number, and a compiler can trace it
    model, teacher = make_model(64, 10), create_ema_model(make_model(64, 10))
    with FakeTensorMode():
        model, teacher = without_data(model), without_data(teacher)
        step = build_step(moons("data.views.strong=[]"), model, features=64, labelled=8, unlabelled=32)
        labelled = Tensors(torch.empty(8, 64), torch.zeros(8, dtype=torch.int64))
        given = labelled, Tensors(torch.empty(32, 64))
        terms = step(teacher, *given, torch.Generator())
        assert all(isinstance(term, FakeTensor) for term in terms.values())
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
        update_ema(list(teacher.parameters()), list(model.parameters()), decay=0.5, step=0)
