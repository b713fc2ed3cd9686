"""The parts of `benchmarks/gpu.py` on a CPU, at tiny sizes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

CPU = torch.device("cpu")


@pytest.fixture
def gpu(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("gpu")


def test_every_built_in_flow_agrees_with_itself(gpu: Any) -> None:
    errors = gpu.agreement(CPU)
    assert set(errors) == {"glow", "realnvp", "realnvp_image"}
    assert max(errors.values()) == 0.0


def test_steps_rows_and_resume_are_measured(gpu: Any, tmp_path: Path) -> None:
    parts = gpu.parts_of(CPU, tmp_path, tiny=True)
    results = gpu.run_parts({name: parts[name] for name in ("steps", "rows")}, minutes=5)
    steps = results["steps"]["figures"]["tiny"]
    assert {"matrix products, fp32", "flowgmm, fp32", "flowgmm, default losses, bf16"} <= set(steps)
    assert min(steps.values()) > 0
    assert results["rows"]["figures"]["predict, rows/s"] > 0
    text = "\n".join(gpu.table(results))
    assert "flowgmm, default losses, bf16" in text
    assert gpu.resume_difference(CPU, tmp_path, epochs=2) == 0.0


def test_a_recipe_of_images_trains_one_epoch(gpu: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(gpu._IMAGES, "mnist", ("NO_IMAGES", (80, 8, 8)))
    words = (
        "train.compile=false",
        "train.batch_size=16",
        "train.labelled_batch_size=8",
        "data.labels.count=20",
    )
    small = ("flow.steps=1", "flow.hidden=8", "train.precision=fp32", "data.views.strong=[]")
    figures = gpu.recipe_epoch("mnist", CPU, tmp_path, (*words, *small))
    assert figures["data"] == "random"
    assert figures["steps"] >= 3
    assert figures["epoch, s"] > 0


def test_parts_that_fail_or_come_too_late_leave_the_others(gpu: Any) -> None:
    results = gpu.run_parts({"bad": lambda: 1 / 0, "good": lambda: {"x": 1.0}}, minutes=1)
    assert results["bad"]["figures"] == "ZeroDivisionError: division by zero"
    assert results["good"]["figures"] == {"x": 1.0}
    assert gpu.run_parts({"late": lambda: 1}, minutes=-1) == {
        "late": {"figures": "left out after -1 minutes"}
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_told(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="torch finds no GPU on this machine"):
        gpu.main()
