"""`flowgmm runs`: list, show and compare."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from own_files import change


@pytest.fixture
def older(run: Path) -> Path:
    """A run that failed long ago."""
    other = run.parents[1] / "digits" / "old"
    shutil.copytree(run, other)
    change(other, created="2001-01-01T00:00:00.000+00:00", status="failed", error="it broke", test=None)
    return other


def test_the_list_has_the_newest_run_first(flowgmm: Any, run: Path, older: Path) -> None:
    value = flowgmm("runs", "list", "--json").json
    assert value["schema"] == "flowgmm/runs/1"
    assert [row["run"] for row in value["runs"]] == [str(run), str(older)]
    assert [row["status"] for row in value["runs"]] == ["done", "failed"]
    assert value["runs"][0]["test"]["accuracy"] >= 0
    lines = flowgmm("runs", "list").out.splitlines()
    assert lines[0].split() == ["run", "status", "created", "seconds", "labels", "accuracy", "rows", "ECE"]
    assert [line.split()[:2] for line in lines[1:]] == [[str(run), "done"], [str(older), "failed"]]
    value = flowgmm("runs", "list", "runs/digits", "--json").json
    assert [row["run"] for row in value["runs"]] == [str(older)]
    (older / "run.json").write_text("{", encoding="utf-8")  # a damaged run does not hide the others
    value = flowgmm("runs", "list", "--json").json
    assert [row["run"] for row in value["runs"]] == [str(run)]


def test_no_runs_is_no_error(flowgmm: Any) -> None:
    assert "there are no runs in runs" in flowgmm("runs", "list").err
    assert flowgmm("runs", "list", "--json").json["runs"] == []


@pytest.mark.usefixtures("older")
def test_show_prints_the_facts(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("runs", "show")
    for part in (str(run), "done", "rows labelled", "test accuracy", "versions torch", "data.label=label"):
        assert part in outcome.out
    assert "next:" not in outcome.err
    value = flowgmm("runs", "show", "--json").json
    assert (value["run"], value["status"], value["recipe"]) == (str(run), "done", "csv")


def test_show_says_how_to_resume(flowgmm: Any, older: Path) -> None:
    outcome = flowgmm("runs", "show", str(older))
    assert "it broke" in outcome.out
    assert f"next: flowgmm train --resume {older}" in outcome.err


# --- side by side -----------------------------------------------------------------------------------------


@pytest.fixture
def twin(run: Path) -> Path:
    """The same run again, with another seed in its settings."""
    other = run.parent / "twin"
    shutil.copytree(run, other)
    file = other / "resolved.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("\n  seed: 0\n  device", "\n  seed: 5\n  device")
    )
    return other


def test_runs_are_compared_row_by_row(flowgmm: Any, run: Path, twin: Path) -> None:
    latest = run.parent / "latest"
    latest.symlink_to(twin.name)  # as `runs/csv/*` names it
    value = flowgmm("runs", "compare", str(run), str(latest), str(twin), "--json").json
    assert value["schema"] == "flowgmm/compare/1"
    assert [row["run"] for row in value["runs"]] == [str(run), str(twin)]
    difference = value["differences"][0]
    assert (difference["test_rows"], difference["rows"]) == ("same", 8)
    assert difference["accuracy"]["difference"] == 0
    assert difference["accuracy"]["low"] < 0 < difference["accuracy"]["high"]
    assert value["settings"] == {"run.seed": [0, 5]}


def test_a_comparison_is_a_few_tables_or_a_page(flowgmm: Any, run: Path, twin: Path) -> None:
    outcome = flowgmm("runs", "compare", str(run), str(twin), "--save", "c.html")
    for part in ("first", "twin", "balanced accuracy", "same 8 rows", "may be chance", "run.seed"):
        assert part in outcome.out
    assert Path("c.html").read_text(encoding="utf-8").startswith("<!doctype html>")
