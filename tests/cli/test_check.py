"""`flowgmm check`: a verdict for people and programs, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from flowgmm_cli.files import read_tensors, write_tensors


def damage(run: Path) -> str:
    """Put a NaN into a weight of the flow; returns the weight's name."""
    file = run / "model.safetensors"
    tensors, metadata = read_tensors(file, "model")
    name = next(name for name in tensors if name.startswith("model.flow") and name.endswith("weight"))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = torch.nan
    write_tensors(file, tensors, metadata)
    return name


def test_a_trained_model_passes(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("check", str(run))
    assert outcome.out.splitlines()[0].startswith(f"{run}: errors at 8 rows")
    assert outcome.out.splitlines()[-1] in ("verdict: ok", "verdict: warning")
    for word in ("transforms.0", "AffineCoupling", "log-det", "round trip", "conditioning"):
        assert word in outcome.out


def test_the_json_keeps_its_contract(flowgmm: Any, run: Path) -> None:
    value = flowgmm("check", "--rows", "4", "--json").json
    assert (value["schema"], value["run"], value["rows"]) == ("flowgmm/check/1", str(run), 8)
    assert value["jacobian_rows"] == 4
    assert value["verdict"] in ("ok", "warning")
    assert {"check", "verdict", "message", "meaning", "advice", "details"} == set(value["checks"][0])
    assert {"name", "round_trip", "log_det"} <= set(value["layers"][0])


def test_rows_of_a_file_can_be_taken(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("check", "--data", "t.csv", "--json")
    assert outcome.json["rows"] == 60


def test_a_damaged_model_fails_by_name_with_exit_code_1(flowgmm: Any, run: Path) -> None:
    name = damage(run).removeprefix("model.")
    outcome = flowgmm("check", "--quiet", code=1)
    assert outcome.err == ""
    assert f"model.{name}: 1 of" in outcome.out
    assert "failed: weights" in outcome.out
    assert "remedy:" in outcome.out
    assert outcome.out.splitlines()[-1] == "verdict: failed"
    value = flowgmm("check", "--json", code=1).json
    assert (value["schema"], value["verdict"]) == ("flowgmm/check/1", "failed")
