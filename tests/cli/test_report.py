"""`flowgmm report`: the page, its notes and its JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_the_page_is_written_into_the_run_with_results_of_other_commands(flowgmm: Any, run: Path) -> None:
    Path("far.csv").write_text("x1,x2\n" + "50,-50\n" * 9, encoding="utf-8")
    flowgmm("ood", "--out", "far.csv", "--quiet")
    outcome = flowgmm("report")
    assert outcome.out == f"{run / 'report.html'}\n"
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "The last comparison by" in page
    assert (run / "report" / "confusion.png").is_file()
    assert "without simpler methods: No baselines were fitted." in outcome.err


def test_rows_of_files_replace_the_test_rows(flowgmm: Any, run: Path) -> None:
    rows = "\n".join(f"{row / 7:.2f},{-3 - row / 5:.2f}" for row in range(40))
    Path("own.csv").write_text(f"x1,x2\n{rows}\n", encoding="utf-8")
    Path("out.csv").write_text("x1,x2\n" + "900,-900\n" * 20, encoding="utf-8")
    words = ["--data", "own.csv", "--out", "out.csv", "--save", "some.html", "--json", "--quiet"]
    outcome = flowgmm("report", str(run), *words)
    assert outcome.err == ""
    text = Path("some.html").read_text(encoding="utf-8")
    assert "one of the rows of own.csv" in text
    assert "Warning: own.csv has other values than the training rows" in text
    assert "The other rows are those of out.csv." in text
    assert "40 ordinary rows and 20 other rows" in text
    value = outcome.json
    assert (value["schema"], value["run"], value["report"]) == ("flowgmm/report/1", str(run), "some.html")
    assert all(Path(path).is_file() for path in value["figures"].values())
    left_out = {section["id"] for section in value["sections"] if not section["made"]}
    assert left_out == {"baselines", "race", "unknown"}
    assert [warning["kind"] for warning in value["warnings"]] == ["few_test_rows", "flagged", "range"]
    assert value["warnings"][2]["text"].startswith("own.csv has other values than the training rows")
    assert not (run / "report.html").exists()


def test_a_page_that_cannot_be_written_is_not_made(flowgmm: Any, run: Path) -> None:
    (run / "report.html").mkdir()
    outcome = flowgmm("report", str(run), code=2)
    assert f"{run}/report.html cannot be written: it is a folder" in outcome.err
    assert "loading torch" not in outcome.err
