"""One rule for labels: the spellings of a class, and the cells that mean no label, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.labels import encode_labels, is_unlabelled, label_cells
from flowgmm_cli.data.sources import arrays, csv, tables
from flowgmm_cli.data.sources.arrays import label_strings
from flowgmm_cli.data.sources.columns import ValueIndex
from flowgmm_cli.data.specs import ArraysConfig, CsvConfig, HfTextConfig
from flowgmm_cli.errors import DataError

FORMATS = ("csv", "jsonl", "parquet", "npz", "npy", "hub")


def encode(cells: list[str | None], **options: Any) -> tuple[tuple[str, ...], list[int], list[str]]:
    notes: list[str] = []
    names, codes = encode_labels(
        {"train": np.array(cells, dtype=object)}, where="t", note=notes.append, **options
    )
    return names, codes["train"].tolist(), notes


def load(folder: Path, form: str, labels: list[Any]) -> tuple[tuple[str, ...], list[int]]:
    """Return class names and codes of labels written in a format."""
    frame = pd.DataFrame({"x": np.arange(len(labels)) ** 1.5, "text": "some words", "y": labels})
    file, context = str(folder / f"t.{form}"), DataContext()
    source: Any
    if form in ("npz", "npy"):
        cells = frame["y"].to_numpy()
        if cells.dtype == object:
            cells = np.array(["" if pd.isna(cell) else str(cell) for cell in cells])
        if form == "npz":
            np.savez(file, train=frame[["x"]], train_label=cells)
            source = arrays.build(ArraysConfig(path=file), context)
        else:
            np.save(file, frame[["x"]])
            np.save(folder / "y.npy", cells)
            source = arrays.build(ArraysConfig(path=file, y=str(folder / "y.npy"), x_test=None), context)
    else:
        if form == "csv":
            frame.to_csv(file, index=False)
        elif form == "jsonl":
            frame.to_json(file, orient="records", lines=True)
        else:
            file = str(folder / "t.parquet")
            frame.to_parquet(file)
        if form == "hub":
            source = tables.build(HfTextConfig(path=file, label="y"), context)
        else:
            source = csv.build(CsvConfig(path=file, label="y", drop=["text"]), context)
    data = source.load()
    return data.class_names, data.splits["train"].labels.tolist()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("labels", "names", "codes"),
    [
        ([2, 10, 2, 10], ("2", "10"), [0, 1, 0, 1]),
        ([2.0, 10.0, None, 10.0], ("2", "10"), [0, 1, -1, 1]),
        ([0, 1, -1, 1], ("0", "1"), [0, 1, -1, 1]),
        ([-1, 1, -1, 1], ("-1", "1"), [0, 1, 0, 1]),
        (["b", "a", None, "-1"], ("-1", "a", "b"), [2, 1, -1, 0]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        (["01", "1.0", "1", "b"], ("01", "1", "b"), [0, 1, 1, 2]),
    ],
)
def test_labels_mean_the_same_in_every_format(
    tmp_path: Path, form: str, labels: list[Any], names: tuple[str, ...], codes: list[int]
) -> None:
    assert load(tmp_path, form, labels) == (names, codes)


def test_spellings_of_a_class_are_noted() -> None:
    names, codes, notes = encode(["1", "1.0", "2.0", "2.00", "01"])
    assert (names, codes) == (("01", "1", "2"), [1, 1, 2, 2, 0])
    assert notes == ["t: `1.0` is `1`, `2.0` is `2`, `2.00` is `2`, one class each"]
    assert encode(["1.0", "2.0"]) == (("1", "2"), [0, 1], [])


@pytest.mark.parametrize(
    ("cells", "names", "note"),
    [
        (["0", "1", "-1", "-1"], ("0", "1"), "-1 means no label (2 rows)"),
        (["0.5", "1", "-1.0"], ("0.5", "1"), "-1 means no label (1 rows)"),
        (["1", "-1"], ("-1", "1"), "-1 and 1 are the two classes"),
        (["-1", "-1"], (), ""),
        (["a", "-1"], ("-1", "a"), ""),
        (["a", "NaN", "NaN"], ("a", "NaN"), "`NaN` (2 rows) counts as a class; if it means unlabelled"),
        (["Cat", "cat", "dog"], ("Cat", "cat", "dog"), "the classes `Cat`, `cat` differ in case only"),
        (["a", "?", "Unknown"], ("?", "a", "Unknown"), "`?` (1 rows), `Unknown` (1 rows) counts as a class"),
    ],
)
def test_words_for_no_label(cells: list[str], names: tuple[str, ...], note: str) -> None:
    found, _, notes = encode(list(cells))
    assert found == names
    assert note in "".join(notes)
    assert bool(notes) is bool(note)


def test_further_cells_can_mean_no_label() -> None:
    assert encode(["a", "NA", "b", None], unlabelled=["NA"]) == (("a", "b"), [0, -1, 1, -1], [])
    assert encode(["1", "9.0", "2"], unlabelled=["9"])[:2] == (("1", "2"), [0, -1, 1])


def test_with_a_single_class_minus_1_is_no_label() -> None:
    assert encode(["1", "-1"], single_class=True)[:2] == (("1",), [0, -1])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([f"{row + 0.123}" for row in range(119)], "119 different values in 119 labelled rows.*measurements"),
        (["0.5", "1.25", "2.75", None, None], "measurements"),
        ([f"{row}" for row in range(40)], "measurements"),
        ([f"name {row}" for row in range(40)], "names or texts"),
    ],
)
def test_measurements_and_names_are_no_classes(cells: list[str | None], message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode(list(cells))


@pytest.mark.parametrize(
    "cells",
    [
        [str(row) for row in range(10)],  # a label of each class
        [*(f"intent {row}" for row in range(150)), *[None] * 400],
        ["0.5", "1.5"] * 10,
    ],
)
def test_few_labels_of_many_classes_are_classes(cells: list[str | None]) -> None:
    assert len(encode(list(cells))[0]) == len({*cells} - {None})


def test_cells_that_are_no_plain_values_are_refused() -> None:
    for cells in ([["a"], ["b"]], [{"a": 1}, {"a": 2}]):
        with pytest.raises(DataError, match="`y` holds lists or objects, not classes"):
            label_cells(pa.chunked_array([pa.array(cells)]), "y", "t")


def test_labels_of_arrays_can_be_indices() -> None:
    assert label_strings(np.array([[1], [-1], [0]]), ["a", "b"]).tolist() == ["b", None, "a"]
    with pytest.raises(DataError, match="2 is not an index into the 2"):
        label_strings(np.array([2, 0]), ["a", "b"])
    assert label_strings(np.array([0.5, 0, np.nan], dtype=np.float16)).tolist() == ["0.5", "0", None]
    with pytest.raises(DataError, match="numbers or strings, got complex128"):
        label_strings(np.array([1j]))


def test_a_cell_matches_a_name_as_written_before_its_canonical_form() -> None:
    cells = np.array(["1", "1.0", "01", None, "x"], dtype=object)
    assert ValueIndex(["1"]).codes(cells, missing=7, unknown=9).tolist() == [0, 0, 9, 7, 9]
    assert ValueIndex(["1.0"]).codes(cells, missing=7, unknown=9).tolist() == [0, 0, 9, 7, 9]
    assert ValueIndex(["1.0", "1"]).codes(cells, missing=7, unknown=9).tolist() == [1, 0, 9, 7, 9]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, np.nan]),
        np.array(["a", ""]),
        np.array(["a", None], dtype=object),
        np.array(["a", pd.NA], dtype=object),
        np.array([1, float("nan")], dtype=object),
        np.array([1, pd.NaT], dtype=object),
        np.asarray(pd.Series(["a", None], dtype="category")),
        np.asarray(pd.Series([1, None], dtype="Int64")),
    ],
)
def test_missing_labels_of_arrays(labels: np.ndarray[Any, Any]) -> None:
    assert is_unlabelled(labels).tolist() == [False, True]
