"""`flowgmm check`: a verdict for people and programs, and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from flowgmm_cli.model_file import read_model, write_model


def damage(run: Path) -> None:
    """Make all weights of a layer enormous, in a model whose files belong together."""
    values, tensors = read_model(run)
    name = next(name for name in tensors if name.startswith("model.flow") and name.endswith("weight"))
    write_model(run, values, {**tensors, name: torch.full_like(tensors[name], 3e38)})


def test_the_json_keeps_its_contract(flowgmm: Any, run: Path) -> None:
    value = flowgmm("check", "--rows", "4", "--json").json
    assert (value["schema"], value["run"], value["rows"]) == ("flowgmm/check/1", str(run), 8)
    assert value["jacobian_rows"] == 4
    assert value["verdict"] in ("ok", "warning")
    assert {"check", "verdict", "message", "meaning", "advice", "details"} == set(value["checks"][0])
    assert {"name", "round_trip", "log_det"} <= set(value["layers"][0])
    assert flowgmm("check", "--data", "t.csv", "--json").json["rows"] == 60


def test_a_damaged_model_fails_by_name_with_exit_code_1(flowgmm: Any, run: Path) -> None:
    damage(run)
    outcome = flowgmm("check", "--quiet", code=1)
    assert outcome.err == ""
    assert "failed: finite" in outcome.out
    assert "`flow." in outcome.out
    assert "remedy:" in outcome.out
    assert outcome.out.splitlines()[-1] == "verdict: failed"
    value = flowgmm("check", "--json", code=1).json
    assert (value["schema"], value["verdict"]) == ("flowgmm/check/1", "failed")
