"""Rows of a reader by position."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.data.readers.base import MemoryReader
from flowgmm_cli.inference.inputs import add_inputs, read_rows_at, training_rows
from flowgmm_cli.inference.new_classes import write_classes
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.report.text import describe_row


@pytest.mark.parametrize("chunk_rows", [2, 7, 100])
def test_rows_are_read_by_position(chunk_rows: int) -> None:
    ids = np.array([f"r{place}" for place in range(20)], dtype=object)
    rows = Rows({"a": np.arange(20.0)}, np.full(20, -1), ids)
    reader = MemoryReader(rows, "rows", chunk_rows=chunk_rows)
    rows_at = read_rows_at(reader, np.array([13, 0, 13, 7]))
    assert rows_at.ids.tolist() == ["r13", "r0", "r13", "r7"]
    assert rows_at.columns["a"].tolist() == [13, 0, 13, 7]


def test_dates_of_rows_are_written_as_in_their_table() -> None:
    columns = Column("x", "numeric"), Column("day", "date", format="%d.%m.%Y")
    cells = {"x": np.array([1.5, 2.0]), "day": np.array([0.0, np.nan])}
    rows = Rows(cells, np.full(2, -1), np.array(["a", "b"], dtype=object))
    assert add_inputs({}, rows, columns)["day"].tolist() == ["01.01.1970", None]
    assert [describe_row(rows, columns, place) for place in range(2)] == [
        "x=1.5, day=01.01.1970",
        "x=2, day=",
    ]


def test_labels_as_probabilities_and_weights_stay_beside_accepted_classes(tmp_path: Path) -> None:
    x = [row * 7 % 31 / 2 for row in range(30)]
    lines = [f"{x[row]},{'ab'[row % 2]},0.5,," for row in range(10)]
    lines += [f"{x[row]},,,{0.8 - row % 2 / 2},{0.2 + row % 2 / 2}" for row in range(10, 20)]
    lines += [f"{x[row]},,,," for row in range(20, 30)]
    (tmp_path / "t.csv").write_text("\n".join(["x,kind,w,p_a,p_b", *lines]))
    (tmp_path / "v.csv").write_text("x,kind\n99,a\n98,b\n")
    words = [f"data.path={tmp_path}/t.csv", f"data.val_path={tmp_path}/v.csv", "data.label=kind"]
    words += ["data.weight=w", "data.labels.probabilities=[p_a, p_b]", "data.split.test=0"]
    recipe = load_recipe("csv", words)
    rows = load_rows(recipe.data, DataContext())
    pile = training_rows(rows)
    places = {int(np.flatnonzero(pile.columns["x"] == x[row])[0]): "new" for row in (12, 25)}
    files = write_classes(tmp_path / "more.yaml", recipe, rows, pile, places, hint="")
    with files[1].open(newline="") as file:
        written = {float(row["x"]): row for row in csv.DictReader(file)}
    labels = [written[x[row]]["label"] for row in (0, 10, 12, 25, 26)]
    assert labels == ["a", "", "new", "new", ""]
    certain, uncertain, other = (written[cell] for cell in (x[0], x[10], 99.0))
    assert (certain["w"], uncertain["p_a"], other["p_a"]) == ("0.5", "0.8", "")
    again = load_recipe(str(files[0]))
    assert again.data.config.labels.probabilities == ["p_a", "p_b"]
    targets = load_rows(again.data, DataContext()).targets
    assert targets is not None
    assert (targets.sum(axis=1) > 0).sum() == 9
