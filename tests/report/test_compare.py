"""Runs side by side: common test rows are paired, and the summary states how many there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.predictions import StoredPredictions
from flowgmm_cli.report.compare import compare, flatten, write_comparison
from flowgmm_cli.runs import Run


def change(run: Run, **replace: object) -> None:
    """Replace stored predictions of a run."""
    path = run.path / "eval" / "test.npz"
    predictions = StoredPredictions.load(path)
    assert predictions is not None
    StoredPredictions(**{**vars(predictions), **replace}).save(path)


def test_the_same_test_rows_are_compared_row_by_row(awkward: Run, other: Run) -> None:
    comparison = compare([awkward, other])
    difference = comparison.differences[0]
    assert (difference.test_rows, difference.rows) == ("same", 12)
    first, second = (StoredPredictions.load(run.path / "eval" / "test.npz") for run in (awkward, other))
    assert first is not None
    assert second is not None
    assert difference.only_first == int((first.correct & ~second.correct).sum())
    assert difference.accuracy is not None
    assert difference.accuracy.difference == pytest.approx(second.correct.mean() - first.correct.mean())
    accuracies = [run.evaluation.classification.accuracy for run in comparison.runs if run.evaluation]
    assert difference.accuracy.difference == pytest.approx(accuracies[1] - accuracies[0])
    nll = [run.evaluation.classification.nll for run in comparison.runs if run.evaluation]
    assert difference.nll is not None
    assert difference.nll.difference == pytest.approx(nll[1] - nll[0])
    assert "same 12 rows" in difference.summary


def test_runs_are_compared_on_their_common_rows(awkward: Run, other: Run) -> None:
    predictions = StoredPredictions.load(other.path / "eval" / "test.npz")
    assert predictions is not None
    change(other, digests=np.concatenate([predictions.digests[:9], 255 - predictions.digests[9:]]))
    difference = compare([awkward, other]).differences[0]
    assert (difference.test_rows, difference.rows) == ("some", 9)
    assert "9 test rows in common" in difference.summary


def test_different_test_rows_are_not_paired(awkward: Run, other: Run) -> None:
    predictions = StoredPredictions.load(other.path / "eval" / "test.npz")
    assert predictions is not None
    change(other, digests=255 - predictions.digests)
    difference = compare([awkward, other]).differences[0]
    assert difference.test_rows == "other"
    assert difference.nll is None
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


def test_only_settings_that_differ_are_listed(awkward: Run, other: Run) -> None:
    assert compare([awkward, other]).settings == {"run.seed": [0, 1]}


def test_versions_that_differ_are_listed(awkward: Run, other: Run) -> None:
    info = json.loads((other.path / "run.json").read_text(encoding="utf-8"))
    info["versions"] |= {"torch": "9.9"}
    (other.path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    versions = compare([awkward, other]).versions
    assert list(versions) == ["torch"]
    assert versions["torch"][1] == "9.9"


def test_settings_are_flattened() -> None:
    assert flatten({"a": {"b": [1, {"c": None}]}, "d": {}}) == {"a.b.0": 1, "a.b.1.c": None, "d": {}}


def test_a_damaged_run_is_named(awkward: Run, other: Run) -> None:
    (other.path / "resolved.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(RunError, match="is damaged"):
        compare([awkward, other])


def test_the_json_is_complete(awkward: Run, other: Run) -> None:
    value = compare([awkward, other]).to_dict()
    json.dumps(value, allow_nan=False)
    assert value["schema"] == "flowgmm/compare/1"
    assert [item["run"] for item in value["runs"]] == [str(awkward.path), str(other.path)]
    assert value["differences"][0]["against"] == str(awkward.path)
    assert {"difference", "low", "high", "p_value"} <= set(value["differences"][0]["accuracy"])
    assert value["settings"] == {"run.seed": [0, 1]}


def test_short_names_leave_out_shared_folders(awkward: Run, other: Run) -> None:
    comparison = compare([awkward, other])
    assert comparison.names == ["one", "two"]
    tables = comparison.tables()
    assert [len(row) for row in tables["results"].rows] == [3] * 7
    assert tables["differences"].rows[0][0] == "two"


def test_the_page_is_self_contained_and_overlays_the_curves(awkward: Run, other: Run, tmp_path: Path) -> None:
    write_comparison(compare([awkward, other]), tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert 'id="figure-curve-loss"' in text
    assert "run.seed" in text
