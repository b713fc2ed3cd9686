"""`flowgmm doctor`: a report on this machine."""

from __future__ import annotations

import shutil
from collections import namedtuple
from typing import Any

import pytest

from flowgmm_cli.cli import doctor

usage = namedtuple("usage", "total used free")


@pytest.fixture(autouse=True)
def _free_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with free space."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 0, 2**40))


def test_the_report_is_json_or_a_table(flowgmm: Any) -> None:
    value = flowgmm("doctor", "--json").json
    assert value["schema"] == "flowgmm/doctor/1"
    assert set(value["facts"]) >= {"flowgmm", "python", "torch", "devices", "embedding cache", "plugins"}
    assert value["problems"] == []
    outcome = flowgmm("doctor")
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["item", "value"]
    assert any(line.startswith("torch ") for line in lines)
    assert outcome.err == "no problems\n"


def test_problems_are_listed_and_strict_is_7(flowgmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "inspect_machine", lambda: ({"flowgmm": "0"}, ["nowhere cannot be written"]))
    outcome = flowgmm("doctor")
    assert "nowhere cannot be written" in outcome.out
    outcome = flowgmm("doctor", "--strict", code=7)
    assert "error: 1 problem" in outcome.err


def test_little_free_space_is_a_problem(flowgmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 1, 1))
    problems = flowgmm("doctor", "--json").json["problems"]
    assert any("has only 0 MiB left" in line for line in problems)


def test_a_broken_plugin_is_a_problem(flowgmm: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: broken\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[flowgmm.flows]\nbad = nowhere_at_all:spec\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    value = flowgmm("doctor", "--json").json
    assert any("flow bad: broken" in line for line in value["problems"])
