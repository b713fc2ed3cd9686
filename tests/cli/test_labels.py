"""`flowgmm labels`: labels that look wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, read_rows, save

from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions, cross_fitted_file
from flowgmm_cli.runs import Run


@pytest.fixture
def doubtful(run: Path) -> str:
    """The id of the row with the only label that the folds of the run predict otherwise."""
    file = cross_fitted_file(Run(run))
    stored = CrossFittedPredictions.load(file)
    assert stored is not None
    p = np.full((len(stored), 2), 0.1)
    p[np.arange(len(p)), stored.labels] = 0.9
    p[3] = p[3, ::-1]
    replace(stored, log_probabilities=np.log(p)).save(file)
    return stored.ids[3]


def test_a_doubtful_label_is_listed_with_its_row(flowgmm: Any, run: Path, doubtful: str) -> None:
    outcome = flowgmm("labels")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith(doubtful)]
    number = int(doubtful.removeprefix("train:"))
    x1, x2, label = numbers(60, labelled=40)[number]
    other = {"no": "yes", "yes": "no"}[label]
    assert line.split()[1:3] == [label, other]
    assert float(line.split()[3]) < 0.1 < 0.9 < float(line.split()[4])
    assert f"x1={float(x1):.4g}, x2={float(x2):.4g}" in line
    assert "next:" in outcome.err
    assert flowgmm("labels", str(run)).out == flowgmm("labels", "list", "--run", str(run)).out == outcome.out


def test_json_and_table_have_all_doubtful_labels(flowgmm: Any, run: Path, doubtful: str) -> None:
    value = flowgmm("labels", str(run), "--save", "doubtful.csv", "--json").json
    assert (value["schema"], value["run"], value["saved"]) == ("flowgmm/labels/1", str(run), "doubtful.csv")
    assert (value["n"], value["doubtful"]) == (value["n"], 1)
    (row,) = value["labels"]
    assert row["id"] == doubtful
    assert row["p_label"] == pytest.approx(1 - row["p_suggested"])
    (saved,) = read_rows("doubtful.csv")
    assert list(saved) == ["id", "label", "suggested", "p_label", "p_suggested", "x1", "x2"]
    assert saved["id"] == doubtful
    assert flowgmm("labels", "--save", "-").rows == [saved]


@pytest.mark.usefixtures("doubtful")
def test_without_their_rows_labels_are_still_listed(flowgmm: Any) -> None:
    Path("t.csv").unlink()
    outcome = flowgmm("labels")
    assert "1 of" in outcome.out
    assert "without the columns of their rows" in outcome.err
    save("t.csv", numbers(40, labelled=6))
    assert "the data has changed" in flowgmm("labels").err


def test_corrected_labels_come_back(flowgmm: Any, run: Path, doubtful: str) -> None:
    outcome = flowgmm("labels", "--save", "doubtful.csv")
    assert f"flowgmm labels import doubtful.csv --run {run}" in outcome.err
    (row,) = read_rows("doubtful.csv")
    values = {**row, "label": row["suggested"]}
    save("doubtful.csv", [list(values), list(values.values())])
    result = flowgmm("labels", "import", "doubtful.csv", "--run", str(run), "--json").json
    assert (result["labels"], result["changed"]) == (1, 1)
    cells = {row["id"]: row["label"] for row in read_rows("csv_more.csv")}
    assert cells[doubtful] == row["suggested"]


def test_labels_that_no_fold_has_held_out_cannot_be_checked(flowgmm: Any, run: Path) -> None:
    cross_fitted_file(Run(run)).unlink()
    error = flowgmm("labels", str(run), code=6).err
    assert "has no predictions for labels that a training has not seen" in error
    assert "hint: train again" in error
    assert "this section" not in flowgmm("labels", "nowhere", code=6).err
    flowgmm("labels", "--json", "--save", "-", code=2)
