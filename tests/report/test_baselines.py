"""The model beside the baselines in tables, and the verdict in words."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.evaluation.evaluation_file import load_results
from flowgmm_cli.evaluation.intervals import Difference
from flowgmm_cli.evaluation.metrics import BaselineMetrics, BaselineResult, Evaluation
from flowgmm_cli.evaluation.verdict import Verdict
from flowgmm_cli.report.baselines import comparison_tables
from flowgmm_cli.report.card import model_card
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.report import SECTIONS
from flowgmm_cli.runs import Run

VERDICT = Verdict("knn", "knn", 60, 0.1, (0.02, 0.18), 0.01, True, "kNN is right on 6 rows more of 60")


@pytest.fixture
def compared(awkward: Run) -> Run:
    """A run with the results of two baselines, one better than the model and one worse."""

    def metrics(accuracy: float, p: float) -> dict[str, Any]:
        gap = Difference(accuracy - 0.5, -0.1, 0.3, p_value=p)
        return asdict(BaselineMetrics(accuracy, accuracy, accuracy, 1.0, 0.1, gap))

    cross_fitted = {"knn": metrics(0.9999, 0.0001), "lda": metrics(0.0001, 1.0)}
    baselines = {
        name: {**metrics(accuracy, 0.25), "cross_fitted": cross_fitted[name], "seconds": 0.1, "settings": {}}
        for name, accuracy in (("knn", 1.0), ("lda", 0.0))
    }
    file = awkward.path / "eval" / "test.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    value |= {"baselines": baselines, "verdict": asdict(VERDICT)}
    file.write_text(json.dumps(value), encoding="utf-8")
    return awkward


def test_methods_are_sorted_and_differences_are_from_the_model(compared: Run) -> None:
    test, folds = comparison_tables(load_results(compared))
    assert (test.caption, folds.caption.split(":")[0]) == ("12 test rows", "48 labelled rows, cross-fitted")
    for table, p in ((test, "0.250"), (folds, "<0.001")):
        assert [row[0] for row in table.rows] == ["kNN", "flowgmm", "LDA"]
        assert table.rows[0][3:5] == ["-0.1000 to +0.3000", p]
        assert table.rows[1][2:5] == ["", "", ""]
        assert {len(row) for row in table.rows} == {len(table.columns)}
    assert test.rows[0][1:3] == ["1.0000", "+0.5000"]


def test_without_test_rows_there_is_one_table(compared: Run) -> None:
    classification = load_results(compared).classification
    result = BaselineResult(0.5, 0.5, 0.5, 1.0, 0.1, cross_fitted=BaselineMetrics(0.5, 0.5, 0.5, 1.0, 0.1))
    only = Evaluation("cross_fitted", classification, None, {"knn": result})
    (table,) = comparison_tables(only)
    assert table.caption.startswith("12 labelled rows, cross-fitted")


def test_report_and_card_have_the_verdict_and_the_cross_fitted_accuracy(compared: Run) -> None:
    context = ReportContext(compared, DataContext())
    sections = {key: str([*build(context)]) for key, _, build in SECTIONS if key in ("summary", "baselines")}
    card = model_card(context)
    for text in (*sections.values(), card):
        assert "kNN is right on 6 rows more of 60." in text
    for text in (sections["summary"], card):
        assert "Cross-fitted accuracy on all 48 labelled rows: " in text
    assert "| kNN | 0.9999 | +0.4999 | -0.1000 to +0.3000 | <0.001 |" in card
    assert "may be chance" not in str(sections)


def test_pages_of_a_run_without_test_rows_say_which_rows_they_are_of(compared: Run) -> None:
    file = compared.path / "eval" / "test.json"
    value = {**json.loads(file.read_text(encoding="utf-8")), "split": "cross_fitted"}
    file.with_name("cross_fitted.json").write_text(json.dumps(value), encoding="utf-8")
    file.unlink()
    compared.update(warnings=[])  # of the test rows
    context = ReportContext(compared, DataContext())
    card = model_card(context)
    sections = str([[*build(context)] for key, _, build in SECTIONS if key in ("summary", "classes")])
    assert "On 12 cross-fitted rows (labelled rows, each predicted by a model that had not seen" in card
    assert "12 labelled rows, each predicted by a model that did not see its label" in sections
    assert "test row" not in sections
