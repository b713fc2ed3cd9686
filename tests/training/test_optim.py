from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.optim import (
    averaged,
    learning_rate,
    make_optimiser,
    make_teacher,
    set_learning_rate,
    update_teacher,
)

MakeModel = Callable[..., FlowMixture]


def rates(steps: int, **config: object) -> list[float]:
    train = TrainConfig.model_validate({"lr": 1.0, **config})
    return [learning_rate(train, step, steps) for step in range(steps)]


def test_one_cycle_rises_to_the_highest_rate_and_falls_to_almost_nothing() -> None:
    found = rates(100, schedule="one_cycle", warmup=0.1)
    assert found[0] < 0.1
    assert found[9] == max(found) == pytest.approx(1)
    assert found[10] == pytest.approx(1)
    assert found[:10] == sorted(found[:10])
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[-1] == pytest.approx(1e-4)
    # half way down the cosine
    assert rates(21, schedule="one_cycle", warmup=0.0)[10] == pytest.approx((1 + 1e-4) / 2)


def test_cosine_warms_up_in_a_straight_line() -> None:
    found = rates(100, schedule="cosine", warmup=0.1)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10:] == rates(100, schedule="one_cycle", warmup=0.1)[10:]


def test_constant_stays_after_the_warm_up() -> None:
    found = rates(50, schedule="constant", warmup=0.2)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(found[10:]) == {1.0}


def test_steps_falls_to_a_tenth_twice() -> None:
    found = rates(10, schedule="steps", warmup=0.0)
    assert found == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant", "steps"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_runs_have_sensible_rates(schedule: str, warmup: float, steps: int) -> None:
    found = rates(steps, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 1 + 1e-12 and math.isfinite(rate) for rate in found)
    assert max(found) == pytest.approx(1) or (schedule == "steps" and warmup >= 0.5)


def test_without_warm_up_the_first_rate_is_the_highest() -> None:
    assert rates(10, warmup=0.0)[0] == 1
    assert rates(1, warmup=0.0) == [1]


def test_only_matrices_of_the_flow_decay(make_model: MakeModel) -> None:
    model = make_model()
    optimiser = make_optimiser(model, TrainConfig(weight_decay=0.5, lr=0.1))
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    found = {name: decays[id(parameter)] for name, parameter in model.named_parameters()}
    assert found["mixture.means"] == 0  # a matrix, but no weight of a network
    for name, decay in found.items():
        assert decay == (0.5 if name.startswith("flow.") and name.endswith("weight") else 0)


@pytest.mark.parametrize(("kind", "shift"), [("adam", True), ("adamw", False)])
def test_the_decay_of_adam_goes_through_the_gradient(make_model: MakeModel, kind: str, shift: bool) -> None:
    model = make_model()
    optimiser = make_optimiser(
        model, TrainConfig.model_validate({"optimiser": kind, "weight_decay": 0.5, "lr": 0.1})
    )
    weights = [p for name, p in model.flow.named_parameters() if name.endswith("weight")]
    before = [weight.detach().clone() for weight in weights]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for old, new in zip(before, weights, strict=True):
        # Adam normalises whatever gradient there is, that of the decay too; AdamW shrinks by lr * decay
        expected = old - 0.1 * old.sign() if shift else old * (1 - 0.1 * 0.5)
        torch.testing.assert_close(new.detach(), expected, rtol=1e-3, atol=1e-4)


def test_parameters_that_are_not_learned_are_not_optimised(make_model: MakeModel) -> None:
    model = make_model()
    model.flow.requires_grad_(False)
    optimiser = make_optimiser(model, TrainConfig())
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2  # means and scales
    fixed = GaussianMixture(torch.zeros(2, 2), learn_means=False, learn_scales=False)
    only_flow = FlowMixture(make_model().flow, fixed)
    names = {name for name, _ in only_flow.named_parameters()}
    assert all(name.startswith("flow.") for name in names)
    assert len(make_optimiser(only_flow, TrainConfig()).param_groups) == 2


def test_the_rate_is_set_in_every_group(make_model: MakeModel) -> None:
    optimiser = make_optimiser(make_model(), TrainConfig())
    set_learning_rate(optimiser, 0.125)
    assert [group["lr"] for group in optimiser.param_groups] == [0.125, 0.125]


def test_the_teacher_is_a_copy_that_takes_no_gradient(make_model: MakeModel) -> None:
    model = make_model()
    teacher = make_teacher(model)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not teacher.training
    for mine, theirs in zip(model.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_the_average_is_that_of_a_loop_by_hand(make_model: MakeModel, decay: float) -> None:
    model = make_model(seed=0)
    teacher = make_teacher(make_model(seed=1))
    expected = {name: value.detach().double().clone() for name, value in teacher.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=generator)
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in model.named_parameters():
            expected[name] = keep * expected[name] + (1 - keep) * value.detach().double()
        update_teacher(*averaged(teacher, model), decay=decay, step=step)
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_without_averaging_the_teacher_is_the_model(make_model: MakeModel) -> None:
    model, teacher = make_model(seed=0), make_teacher(make_model(seed=1))
    update_teacher(*averaged(teacher, model), decay=0.0, step=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), teacher.parameters(), strict=True))


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimiser_is_torchs_own_to_the_bit(
    make_model: MakeModel, name: str, kind: type[torch.optim.Adam]
) -> None:
    models = make_model(), make_model()
    config = TrainConfig.model_validate({"optimiser": name, "lr": 0.01})
    ours = make_optimiser(models[0], config)
    assert isinstance(ours, kind)
    groups = make_optimiser(models[1], config).param_groups
    theirs = kind(
        [{"params": one["params"], "weight_decay": one["weight_decay"]} for one in groups],
        lr=0.01,
        fused=True,
    )
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        for model, optimiser in zip(models, (ours, theirs), strict=True):
            optimiser.zero_grad()
            torch.autograd.backward(-model.log_prob(x).mean())
            optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    saved = ours.state_dict()
    ours.load_state_dict(theirs.state_dict())
    assert saved["state"].keys() == ours.state_dict()["state"].keys()


def test_training_starts_without_torchs_compiler(tmp_path: Path) -> None:
    # importing it takes longer than a short run trains
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from flowgmm_cli.recipe.load import load_recipe\n"
        "from flowgmm_cli.runs import create_run\n"
        "from flowgmm_cli.training.pipeline import train\n"
        "words = ['train.max_steps=2', 'calibration.method=none', 'run.device=cpu']\n"
        "recipe = load_recipe('two_moons', words)\n"
        f"train(recipe, create_run(recipe, argv=[], directory=Path({str(tmp_path / 'run')!r})))\n"
        "print([name for name in ('torch._dynamo', 'torch._inductor', 'sympy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
