"""Runs side by side: common test rows are paired, and the summary states how many there are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.evaluation_file import (
    StoredPredictions,
    evaluate_cross_fitted,
    load_predictions,
    save_evaluation,
)
from flowgmm_cli.report.compare import compare, write_comparison
from flowgmm_cli.runs import Run


def load(run: Run) -> StoredPredictions:
    predictions = StoredPredictions.load(run.path / "eval" / "test.npz")
    assert predictions is not None
    return predictions


def test_the_same_test_rows_are_compared_row_by_row(awkward: Run, other: Run) -> None:
    comparison = compare([awkward, other])
    difference = comparison.differences[0]
    assert (difference.test_rows, difference.rows) == ("same", 12)
    first, second = (load(run) for run in (awkward, other))
    assert difference.only_first == int((first.correct & ~second.correct).sum())
    assert difference.accuracy is not None
    assert difference.accuracy.difference == pytest.approx(second.correct.mean() - first.correct.mean())
    metrics = [run["metrics"] for run in comparison.facts]
    assert difference.accuracy.difference == pytest.approx(metrics[1]["accuracy"] - metrics[0]["accuracy"])
    assert difference.nll is not None
    assert difference.nll.difference == pytest.approx(metrics[1]["nll"] - metrics[0]["nll"])
    assert "same 12 rows" in difference.summary


def test_only_common_rows_are_paired(awkward: Run, other: Run) -> None:
    predictions, file = load(other), other.path / "eval" / "test.npz"
    hashes = predictions.hashes
    replace(predictions, hashes=np.concatenate([hashes[:9], 255 - hashes[9:]])).save(file)
    difference = compare([awkward, other]).differences[0]
    assert (difference.test_rows, difference.rows) == ("some", 9)
    assert "9 test rows in common" in difference.summary
    replace(predictions, hashes=255 - hashes).save(file)
    difference = compare([awkward, other]).differences[0]
    assert (difference.test_rows, difference.nll) == ("other", None)
    assert difference.accuracy is not None
    assert difference.accuracy.p_value is None
    assert "different rows" in difference.summary


def test_runs_without_stored_predictions_are_not_paired(awkward: Run, other: Run) -> None:
    (other.path / "eval" / "test.npz").unlink()
    difference = compare([awkward, other]).differences[0]
    assert difference.test_rows == "unknown"
    assert "flowgmm eval" in difference.summary
    (other.path / "eval" / "test.json").unlink()
    assert compare([awkward, other]).differences[0].accuracy is None


def test_settings_and_versions_that_differ_are_listed(awkward: Run, other: Run) -> None:
    other.update(versions={**other.info()["versions"], "torch": "9.9"})
    recipe = other.path / "resolved.yaml"
    text = recipe.read_text(encoding="utf-8").replace("scale: 0.4", "scale: 0.5")
    recipe.write_text(text, encoding="utf-8")
    comparison = compare([awkward, other])
    assert comparison.settings == {"data.views.strong.0.scale": [0.4, 0.5], "run.seed": [0, 1]}
    assert list(comparison.versions) == ["torch"]
    assert comparison.versions["torch"][1] == "9.9"
    (other.path / "resolved.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(RunError, match="is damaged"):
        compare([awkward, other])


def test_the_json_is_complete_and_tables_have_a_column_for_each_run(awkward: Run, other: Run) -> None:
    comparison = compare([awkward, other])
    value = comparison.to_dict()
    json.dumps(value, allow_nan=False)
    assert value["schema"] == "flowgmm/compare/1"
    assert [item["run"] for item in value["runs"]] == [str(awkward.path), str(other.path)]
    assert value["differences"][0]["against"] == str(awkward.path)
    assert {"difference", "low", "high", "p_value"} <= set(value["differences"][0]["accuracy"])
    assert value["settings"] == {"run.seed": [0, 1]}
    assert comparison.names == ["one", "two"]  # without the folders that they share
    tables = comparison.tables()
    assert [len(row) for row in tables["results"].rows] == [3] * 8
    assert tables["results"].rows[0] == ["rows", "12 test", "12 test"]
    assert tables["differences"].rows[0][0] == "two"


def test_runs_without_test_rows_are_compared_on_their_cross_fitted_rows(awkward: Run, other: Run) -> None:
    for run in (awkward, other):
        predictions = load_predictions(run, "cross_fitted")
        evaluation = evaluate_cross_fitted(predictions, run)
        (run.path / "eval" / "test.json").unlink()
        save_evaluation(run, evaluation, fingerprint="")
    comparison = compare([awkward, other])
    (difference,) = comparison.differences
    assert (difference.test_rows, difference.rows) == ("same", 48)
    assert comparison.tables()["results"].rows[0] == ["rows", "48 cross-fitted", "48 cross-fitted"]


def test_the_page_is_self_contained_and_overlays_the_curves(awkward: Run, other: Run, tmp_path: Path) -> None:
    write_comparison(compare([awkward, other]), tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert 'id="figure-curve-loss"' in text
    assert "run.seed" in text
