"""`flowgmm report`: what it writes, says and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_the_page_is_written_into_the_run(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("report")
    assert outcome.code == 0, outcome.err
    assert outcome.out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (run / "report" / "confusion.png").is_file()
    assert "without simpler methods: No baselines were fitted." in outcome.err


def test_the_json_keeps_its_contract(flowgmm: Any, run: Path, tmp_path: Path) -> None:
    outcome = flowgmm("report", str(run), "--save", "some.html", "--json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    value = json.loads(outcome.out)
    assert (value["schema"], value["run"], value["report"]) == ("flowgmm/report/1", str(run), "some.html")
    assert all(Path(path).is_file() for path in value["figures"].values())
    missing = {one["id"] for one in value["sections"] if not one["made"]}
    assert missing == {"baselines", "race"}
    assert not (run / "report.html").exists()


def test_rows_of_ones_own_take_the_place_of_the_test_rows(flowgmm: Any, run: Path) -> None:
    rows = "\n".join(f"{row / 7:.2f},{-row / 5:.2f}" for row in range(40))
    Path("own.csv").write_text(f"x1,x2\n{rows}\n", encoding="utf-8")
    Path("out.csv").write_text("x1,x2\n" + "900,-900\n" * 20, encoding="utf-8")
    outcome = flowgmm("report", "--data", "own.csv", "--out", "out.csv", "--quiet")
    assert outcome.code == 0, outcome.err
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "one of the rows of own.csv" in text
    assert "The other rows are those of out.csv." in text
    assert "40 ordinary rows and 20 other rows" in text


def test_rows_that_are_not_there_take_their_own_sections_only(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("report", "--data", "gone.csv", "--out", "gone.csv", "--json")
    assert outcome.code == 0, outcome.err
    made = {one["id"]: one for one in json.loads(outcome.out)["sections"]}
    assert "gone.csv" in made["latent"]["reason"]
    assert made["confusion"]["made"]


def test_a_page_that_is_no_page_is_a_usage_error(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("report", "--save", "report.pdf")
    assert outcome.code == 2
    assert "a report is an HTML file" in outcome.err


def test_a_place_that_cannot_be_written_is_said(flowgmm: Any, run: Path) -> None:
    Path("file").write_text("", encoding="utf-8")
    outcome = flowgmm("report", "--save", "file/report.html")
    assert outcome.code == 2
    assert "file/report.html cannot be written" in outcome.err


@pytest.mark.parametrize("kind", ["baselines", "ood"])
def test_what_other_commands_found_is_shown(flowgmm: Any, run: Path, kind: str) -> None:
    if kind == "baselines":
        assert flowgmm("eval", "--baselines", "--quiet").code == 0
        said = "label spreading"
    else:
        Path("far.csv").write_text("x1,x2\n" + "50,-50\n" * 9, encoding="utf-8")
        assert flowgmm("ood", "--out", "far.csv", "--quiet").code == 0
        said = "The last comparison by"
    assert flowgmm("report", "--quiet").code == 0
    assert said in (run / "report.html").read_text(encoding="utf-8")
