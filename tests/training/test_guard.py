from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import build_flow
from flowgmm_cli.training import optim
from flowgmm_cli.training.pipeline import train

WORDS = ("train.epochs=10", "checkpoint.every_steps=4", "run.log_every=7", "calibration.method=none")


class BadGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * float("nan")


class Poison(Bijection):
    """The identity until it has been trained for some steps; then `kind` decides what goes wrong."""

    def __init__(self, kind: str, good_steps: int) -> None:
        super().__init__()
        self.kind = kind
        self.left = good_steps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        log_det = zero_log_det(x)
        if torch.is_grad_enabled():  # as only the student's pass in a step has it
            self.left -= 1
            bad = self.left < 0 if self.kind != "once" else self.left == -1
            if bad and self.kind == "gradient":
                x = BadGradient.apply(x)
            elif bad and self.kind == "log_det":
                log_det = log_det + float("inf")
            elif bad:
                x = x * float("nan")
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        return z


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Let every flow that is trained go bad at a step (counted from 0)."""

    def set_up(kind: str, step: int) -> None:
        def build(*args: Any) -> Sequential:
            return Sequential([build_flow(*args), Poison(kind, step)])  # type: ignore[list-item]

        monkeypatch.setattr("flowgmm_cli.training.model_init.build_flow", build)
        monkeypatch.setattr("flowgmm_cli.trained_model.build_flow", build)

    return set_up


def require_failure(run: Run, message: str) -> RunFailedError:
    """Train a run that fails with a message."""
    with pytest.raises(RunFailedError, match=message) as caught:
        train(run.recipe(), run)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("value", r"at step 18 .*that of flow\.layers\.1 \(Poison\)"),
        ("log_det", r"at step 18 .*that of flow\.layers\.1 \(Poison\)"),
        ("gradient", r"at step 18 .*gradient of flow\.layers\.0\..* is not finite, though the loss is"),
        ("once", r"at step 18 .*a replay of the step is finite"),
    ],
)
def test_training_stops_at_a_value_that_is_not_finite_and_names_its_origin(
    new_run: Any, shared_run: Any, state_of: Any, poison: Any, kind: str, message: str
) -> None:
    poison("none yet", 10**6)
    good, _ = shared_run(*WORDS, "run.log_every=7")  # of the poisoned flow
    poison(kind, 18)
    run = new_run("run", *WORDS)
    error = require_failure(run, message)
    assert error.exit_code == 1
    assert error.hint is not None
    assert run.status() == "failed"
    assert "step 18" in run.info()["error"]
    assert all(line["loss"] is not None for line in read_metrics(run.metrics) if line["split"] == "train")
    state_of(run)  # is finite
    assert not (run.path / "model.safetensors").exists()

    # where the fault is gone, the last good checkpoint leads to the model it should have been
    poison("none any more", 10**6)
    train(run.recipe(), run)
    first, other = state_of(good), state_of(run)
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_weights_stay_the_same_from_the_first_bad_step(
    new_run: Any, poison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Tensor]] = []

    real = optim.update_ema

    def spy(teacher: list[Tensor], model: list[Tensor], **options: Any) -> None:
        seen.append([parameter.detach().clone() for parameter in model])
        real(teacher, model, **options)

    monkeypatch.setattr(optim, "update_ema", spy)
    poison("once", 14)
    run = new_run("run", *WORDS, "run.log_every=100", "train.batch_size=10", "checkpoint.every_steps=100")
    require_failure(run, "at step 14")
    assert len(seen) == 18  # the end of the epoch, where it is noticed
    assert not all(torch.equal(a, b) for a, b in zip(seen[12], seen[13], strict=True))
    for later in seen[14:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[13], later, strict=True))


def test_a_mixture_that_is_not_finite_is_named(new_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.mixture.gaussian import GaussianMixture

    real = GaussianMixture.class_log_prob

    def bad(self: GaussianMixture, z: Tensor) -> Tensor:
        result = real(self, z)
        return result + float("nan") if torch.is_grad_enabled() else result

    monkeypatch.setattr(GaussianMixture, "class_log_prob", bad)
    require_failure(new_run("run", *WORDS), "that of the mixture")


def test_a_term_that_is_not_finite_is_named(new_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.regularisers.terms import Consistency

    def bad(self: Consistency, model: Any, teacher: Any, batch: Any) -> dict[str, Tensor]:
        return {"consistency": torch.tensor(float("inf" if batch.step >= 5 else 0))}

    monkeypatch.setattr(Consistency, "__call__", bad)
    require_failure(new_run("run", *WORDS), r"at step 5 .*term loss\.consistency")


def test_rows_that_are_not_finite_are_named(new_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.training.fit_job import FitJob, PreparedFit

    real = FitJob.prepare

    def spoil(self: FitJob, *args: Any) -> PreparedFit:
        fit = real(self, *args)
        x: Any = fit.rows.x
        x[3] = float("inf")
        return fit

    monkeypatch.setattr(FitJob, "prepare", spoil)
    require_failure(new_run("run", *WORDS), "rows themselves")
