"""Properties of a GPU that must hold exactly or within rounding; skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.inference.flowgmm import load
from flowgmm_cli.runs import Run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
WORDS = ("run.device=cuda", "train.epochs=2")


def weights(run: Run) -> dict[str, torch.Tensor]:
    from flowgmm_cli.files import read_tensors

    return read_tensors(run.path / "model.safetensors", "model")[0]


def test_flows_agree_with_the_cpu_in_float32(load_benchmark: Callable[[str], Any]) -> None:
    gpu = load_benchmark("gpu")
    errors = gpu.agreement(torch.device("cuda"))
    assert {name: error for name, error in errors.items() if error > gpu.TOLERANCE} == {}


def test_two_runs_have_the_same_weights(train_run: Any) -> None:
    first, second = (weights(train_run(name, *WORDS)[0]) for name in ("first", "second"))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_resumed_run_has_the_weights_of_one_that_did_not_stop(
    load_benchmark: Callable[[str], Any], tmp_path: Path
) -> None:
    assert load_benchmark("gpu").resume_difference(torch.device("cuda"), tmp_path) == 0.0


def test_a_model_of_the_gpu_predicts_the_same_on_both_devices(train_run: Any) -> None:
    run, _ = train_run("run", *WORDS)
    rows = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    answers = [load(run.path, device=device).predict(rows).to_pandas() for device in ("cpu", "cuda")]
    assert (answers[0]["prediction"] == answers[1]["prediction"]).mean() > 0.995
    np.testing.assert_allclose(answers[0]["confidence"], answers[1]["confidence"], atol=1e-4)
