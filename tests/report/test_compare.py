"""Runs side by side: the same rows are compared row by row, and it is said where they are not the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.predictions import StoredPredictions
from flowgmm_cli.report.compare import compare, flatten
from flowgmm_cli.report.compare_page import difference_rows, result_rows, short_names, write_comparison
from flowgmm_cli.runs import Run


def change(run: Run, **replace: object) -> None:
    """Change what a run said of its test rows."""
    path = run.path / "eval" / "test.npz"
    found = StoredPredictions.load(path)
    assert found is not None
    StoredPredictions(**{**vars(found), **replace}).save(path)


def test_the_same_test_rows_are_compared_row_by_row(awkward: Run, other: Run) -> None:
    comparison = compare([awkward, other])
    difference = comparison.differences[0]
    assert (difference.test_rows, difference.rows) == ("same", 12)
    one, two = (run.outcomes for run in comparison.runs)
    assert one is not None
    assert two is not None
    assert difference.only_first == int((one.correct & ~two.correct).sum())
    assert difference.accuracy is not None
    assert difference.accuracy.value == pytest.approx(two.correct.mean() - one.correct.mean())
    accuracies = [run.evaluation.classification.accuracy for run in comparison.runs if run.evaluation]
    assert difference.accuracy.value == pytest.approx(accuracies[1] - accuracies[0])
    nll = [run.evaluation.classification.nll for run in comparison.runs if run.evaluation]
    assert difference.nll is not None
    assert difference.nll.value == pytest.approx(nll[1] - nll[0])
    assert "same 12 rows" in difference.summary


def test_common_rows_are_compared_alone(awkward: Run, other: Run) -> None:
    found = StoredPredictions.load(other.path / "eval" / "test.npz")
    assert found is not None
    change(other, digests=np.concatenate([found.digests[:9], 255 - found.digests[9:]]))
    difference = compare([awkward, other]).differences[0]
    assert (difference.test_rows, difference.rows) == ("some", 9)
    assert "9 test rows in common" in difference.summary


def test_other_rows_are_said_to_be_other(awkward: Run, other: Run) -> None:
    found = StoredPredictions.load(other.path / "eval" / "test.npz")
    assert found is not None
    change(other, digests=255 - found.digests)
    difference = compare([awkward, other]).differences[0]
    assert difference.test_rows == "other"
    assert difference.nll is None
    assert difference.accuracy is not None
    assert difference.accuracy.p_value is None
    assert "different rows" in difference.summary


def test_runs_that_noted_nothing_down_are_not_paired(awkward: Run, other: Run) -> None:
    (other.path / "eval" / "test.npz").unlink()
    difference = compare([awkward, other]).differences[0]
    assert difference.test_rows == "unknown"
    assert "flowgmm eval" in difference.summary
    (other.path / "eval" / "test.json").unlink()
    assert compare([awkward, other]).differences[0].accuracy is None


def test_settings_that_differ_are_listed_and_no_others(awkward: Run, other: Run) -> None:
    assert compare([awkward, other]).settings == {"run.seed": [0, 1]}


def test_versions_that_differ_are_listed(awkward: Run, other: Run) -> None:
    info = json.loads((other.path / "run.json").read_text(encoding="utf-8"))
    info["versions"] |= {"torch": "9.9"}
    (other.path / "run.json").write_text(json.dumps(info), encoding="utf-8")
    versions = compare([awkward, other]).versions
    assert list(versions) == ["torch"]
    assert versions["torch"][1] == "9.9"


def test_a_missing_key_is_not_false_or_zero() -> None:
    assert flatten({"a": {"b": [1, {"c": None}]}, "d": {}}) == {"a.b.0": 1, "a.b.1.c": None, "d": {}}


def test_a_damaged_run_is_named(awkward: Run, other: Run) -> None:
    (other.path / "resolved.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(RunError, match="is damaged"):
        compare([awkward, other])


def test_the_json_holds_all_of_it(awkward: Run, other: Run) -> None:
    value = compare([awkward, other]).to_dict()
    json.dumps(value, allow_nan=False)
    assert value["schema"] == "flowgmm/compare/1"
    assert [one["run"] for one in value["runs"]] == [str(awkward.path), str(other.path)]
    assert value["differences"][0]["against"] == str(awkward.path)
    assert {"difference", "low", "high", "p_value"} <= set(value["differences"][0]["accuracy"])
    assert value["settings"] == {"run.seed": [0, 1]}


def test_names_are_what_tells_runs_apart(awkward: Run, other: Run) -> None:
    found = compare([awkward, other])
    assert short_names(found) == ["one", "two"]
    assert [len(row) for row in result_rows(found)] == [3] * 7
    assert difference_rows(found, ["one", "two"])[0][0] == "two"


def test_the_page_is_self_contained_and_overlays_the_curves(awkward: Run, other: Run, tmp_path: Path) -> None:
    write_comparison(compare([awkward, other]), tmp_path / "c.html")
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text
    assert 'id="figure-curve-loss"' in text
    assert "run.seed" in text
