"""Unusual files of users: each trains and evaluates, or is refused with a clear message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, add_column, as_csv, numbers, save, texts

Make = Callable[[], list[str]]
Content = list[list[str]] | str | bytes
TEST = numbers(9, seed=1)


def train_and_eval(flowgmm: Any, recipe: str, *words: str) -> tuple[Any, dict[str, Any]]:
    """Train and evaluate; both must end well, with finite numbers."""
    trained = flowgmm("train", recipe, *words, *SHORT, "--json")
    result = trained.json
    assert result["status"] == "done"
    evaluated = flowgmm("eval", "--json")
    warnings = [line for line in evaluated.err.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if "test rows are few" not in line] == []
    value: dict[str, Any] = evaluated.json
    assert value["run"] == result["run"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "density_nll"):
        assert math.isfinite(value["metrics"][name]), name
    assert value["metrics"]["accuracy"] == result["test"]["accuracy"]
    return trained, value


def classes(value: dict[str, Any]) -> list[str]:
    return [row["name"] for row in value["per_class"]]


def words(train: Content, test: Content | None = None, *more: str, suffix: str = "csv") -> list[str]:
    """Write the files of training and test, and return the words that name them."""
    paths = [f"data.path={save(f't.{suffix}', train)}", "data.label=label", *more]
    return paths if test is None else [*paths, f"data.test_path={save('e.csv', test)}"]


# --- all at once ------------------------------------------------------------------------------------------


def test_a_table_with_everything_wrong_with_it(flowgmm: Any) -> None:
    rows = numbers(40, labelled=16, classes=("grün", "日本"))
    rows = add_column(rows, "farbe", lambda row: ["rot", "blau", ""][row % 3])
    rows = add_column(rows, "fest", lambda row: "7")
    rows = add_column(rows, "leer", lambda row: "")
    rows = add_column(rows, "größe", lambda row: ["1", "", "NA", "inf", "2.5"][row % 5])
    test = [*rows[:9], ["9", "", "7", "lila", "0.1", "0.2", "grün"], ["", "", "8", "", "1", "1", "日本"]]
    train = save("mein ordner/träin daten [1].csv", rows[:1] + rows[9:])
    paths = [f"data.path={train}", f"data.test_path={save('mein ordner/ü test.csv', test)}"]
    trained, value = train_and_eval(flowgmm, "csv", *paths, "data.label=label")
    assert classes(value) == ["grün", "日本"]
    assert value["n"] == 10
    for part in (
        "left out `leer` (it is empty)",
        "left out `fest` (it never changes)",
        "missing cells of `größe` are filled in",
        "`farbe`: 1 of 10 cells hold a category that training never saw, such as `lila`",
    ):
        assert part in trained.err
    assert Path("mein ordner").stat().st_nlink == 2
    assert len(list(Path("mein ordner").iterdir())) == 2


def test_texts_with_everything_wrong_with_them(flowgmm: Any) -> None:
    rows = texts(30, labelled=12, classes=("grün", "日本"))
    rows[3][0] = ""
    rows[4][0] = 'a "quoted"\nline, and another 🎉'
    rows[20][0] = "   "
    rows[21][0] = "word " * 5000
    test = [*texts(8, classes=("grün", "日本"), seed=1), ["", "grün"]]
    _, value = train_and_eval(flowgmm, "text", *words(rows, test, "data.text=text"))
    assert classes(value) == ["grün", "日本"]
    assert value["n"] == 8  # the test row without a text is left out


# --- files that work --------------------------------------------------------------------------------------


def changed(rows: list[list[str]], *cells: tuple[int, int, str]) -> list[list[str]]:
    """Replace cells `(row, column, text)`; row 0 is the header."""
    for row, column, text in cells:
        rows[row][column] = text
    return rows


def json_lines() -> list[str]:
    lines = []
    for place, (a, b, label) in enumerate(numbers(30)[1:]):
        known = label if place < 20 else None
        lines.append(json.dumps({"x1": float(a), "x2": float(b) if place else None, "label": known}))
    return words("\n".join(lines), TEST, suffix="jsonl")


def parquet() -> list[str]:
    import pandas as pd

    for name, count, seed in (("t", 30, 0), ("e", 9, 1)):
        header, *rows = numbers(count, classes=("0", "1"), seed=seed)
        frame = pd.DataFrame(rows, columns=header).astype({"x1": float, "x2": float, "label": "Int64"})
        frame["flag"] = [row % 3 == 0 for row in range(count)]
        frame["kind"] = pd.Categorical([f"k{row % 2}" for row in range(count)])
        if name == "t":
            frame.loc[20:, "label"] = pd.NA
        frame.to_parquet(f"{name}.parquet", index=False)
    return ["data.path=t.parquet", "data.test_path=e.parquet", "data.label=label"]


def of_classes(*names: str, count: int = 40, labelled: int | None = None) -> list[str]:
    return words(numbers(count, classes=names, labelled=labelled), numbers(9, classes=names, seed=1))


def extreme_numbers() -> list[str]:
    train = changed(numbers(40), (1, 0, "1e300"), (2, 0, "-1e300"), (3, 1, "1e-300"), (4, 1, "-0.0"))
    return words(train, changed(numbers(9, seed=1), (1, 0, "1.7e308"), (2, 0, "-1.7e308")))


def quotes_and_line_breaks() -> list[str]:
    train = add_column(numbers(30), "kind", lambda row: ['a "b"', "two\nlines", "x, y"][row % 3])
    return words(train, add_column(numbers(9, seed=1), "kind", lambda _: "x, y"))


def other_column_order() -> list[str]:
    test = [[label, "more", b, a] for a, b, label in numbers(9, seed=1)]
    return words(numbers(30), [["label", "more", "x2", "x1"], *test[1:]])


def blank_lines_and_spaces() -> list[str]:
    text = as_csv(numbers(30, labelled=20), delimiter=";", end="\r\n").replace(";yes", "; yes ") + "\n\n"
    return words("\ufeff" + text, TEST)


WORKING: dict[str, tuple[Make, str, str]] = {
    "integer labels": (lambda: of_classes("10", "9", "-2"), "-2 9 10", ""),
    "names like missing cells": (lambda: of_classes("NA", "None", "nan"), "NA nan None", ""),
    "three labels of each class": (lambda: of_classes(*"abc", labelled=9), "a b c", "9 labelled"),
    "a single label of each class": (lambda: of_classes("no", "yes", labelled=2), "no yes", ""),
    "every row labelled": (lambda: of_classes("no", "yes", count=6), "no yes", ""),
    "blank lines and spaces": (blank_lines_and_spaces, "no yes", "the delimiter is `;`"),
    "json lines": (json_lines, "no yes", "missing cells of `x2` are filled in"),
    "parquet": (parquet, "0 1", ""),
    "a single feature": (
        lambda: words(numbers(30, features=1), numbers(9, features=1, seed=1)), "no yes", "1 features",
    ),
    "more features than rows": (
        lambda: words(numbers(40, features=200), numbers(9, features=200, seed=1)), "no yes", "200 features",
    ),
    "no test file": (
        lambda: words(numbers(40, labelled=30)), "no yes", "6 rows are set aside for the test",
    ),
    "a row in both files": (
        lambda: words([*numbers(30), *TEST[1:3]], TEST),
        "no yes", "2 training rows are equal to a test row",
    ),
    "a pandas index": (
        lambda: words(add_column(numbers(30), "", str), add_column(TEST, "", str)),
        "no yes", "left out `Unnamed: 0` (it counts the rows)",
    ),
    "other column order": (other_column_order, "no yes", "has columns that training lacks: more"),
    "extreme numbers": (extreme_numbers, "no yes", ""),
    "quotes and line breaks": (quotes_and_line_breaks, "no yes", ""),
    "unlabelled test rows": (
        lambda: words(numbers(30), numbers(9, labelled=5, seed=1)),
        "no yes", "4 test rows have no label and are left out",
    ),
    "a class without test rows": (
        lambda: words(numbers(30), numbers(4, classes=("yes",), seed=1)), "no yes", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WORKING)
def test_a_table_trains_and_evaluates(flowgmm: Any, case: str) -> None:
    make, names, note = WORKING[case]
    trained, value = train_and_eval(flowgmm, "csv", *make())
    assert classes(value) == names.split()
    assert note in trained.err


@pytest.mark.parametrize("name", ["id", "__index__", "null", "x=1"])
def test_a_label_column_may_have_any_name(flowgmm: Any, name: str) -> None:
    rows, test = changed(numbers(30), (0, 2, name)), changed(numbers(6, seed=1), (0, 2, name))
    paths = [f"data.path={save('t.csv', rows)}", f"data.test_path={save('e.csv', test)}"]
    assert classes(train_and_eval(flowgmm, "csv", *paths, f"data.label={name}")[1]) == ["no", "yes"]


def texts_in_json_lines() -> list[str]:
    rows = [{"text": text if row else None, "label": row % 2} for row, (text, _) in enumerate(texts(30)[1:])]
    return words("\n".join(map(json.dumps, rows)), None, "data.text=text", suffix="jsonl")


def with_column(name: str, cell: Callable[[int], str], *more: str) -> list[str]:
    train, test = (add_column(texts(count, seed=seed), name, cell) for count, seed in ((30, 0), (8, 1)))
    return words(train, test, *more)


TEXTS: dict[str, Make] = {
    "json lines": texts_in_json_lines,
    "two text columns": lambda: with_column("title", lambda row: "a" * (row % 2), "data.text=[title, text]"),
    "text and numbers": lambda: with_column("price", str, "data.text=text", "data.features=[text, price]"),
    "all empty but two": lambda: words(
        changed(texts(20), *((row, 0, "") for row in range(3, 21))),
        texts(6, seed=1),
        "data.split.duplicates=keep",
    ),
    "few": lambda: words(texts(6), texts(4, seed=1)),
    "tfidf": lambda: words(texts(30, labelled=10), texts(8, seed=1), "data.encoder.use=tfidf_svd"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_file_of_texts_trains_and_evaluates(flowgmm: Any, case: str) -> None:
    train_and_eval(flowgmm, "text", *TEXTS[case]())


# --- files that are refused -------------------------------------------------------------------------------


def decimal_commas() -> list[str]:
    return words(as_csv([[cell.replace(".", ",") for cell in row] for row in numbers(30)], delimiter=";"))


def a_column_less_in_the_test_file() -> list[str]:
    test = changed([[row[0], row[2]] for row in numbers(9, seed=1)], (0, 0, "hieght"))
    return words(changed(numbers(30), (0, 0, "width"), (0, 1, "height")), test)


def constant_columns_only() -> list[str]:
    rows = [["x1", "x2", "label"], *(["1", "", "ab"[row % 2]] for row in range(30))]
    return words(rows, None, "data.split.duplicates=keep")


def too_many_cells() -> list[str]:
    more = [["more", "and more"] if place in (5, 7, 9) else [] for place in range(31)]
    return words([row + cells for row, cells in zip(numbers(30), more, strict=True)])


def a_folder() -> list[str]:
    Path("t.csv").mkdir()
    return ["data.path=t.csv", "data.label=label"]


REFUSED: dict[str, tuple[Make, list[str]]] = {
    "decimal commas": (decimal_commas, ["column `x1`", "decimal comma", "row 1", "data.categorical"]),
    "thousands": (
        lambda: words(add_column(numbers(30), "price", lambda row: f"{row + 1},{row:03d}.50")),
        ["column `price`", "1,000.50", "row 1"],
    ),
    "words among numbers": (
        lambda: words(changed(numbers(30), (7, 0, "about 3"), (8, 0, "4?"))),
        ["column `x1`", "row 7", "`about 3`", "data.on_error=keep"],
    ),
    "repeated column": (
        lambda: words(changed(numbers(30), (0, 1, "x1"))), ["names a column twice: x1"],
    ),
    "no labels in the test file": (
        lambda: words(numbers(30), numbers(9, labelled=0, seed=1)),
        ["no row of the test split has a label"],
    ),
    "no label column in the test file": (
        lambda: words(numbers(30), [row[:2] for row in TEST]),
        ["e.csv has no column `label`", "columns: x1, x2"],
    ),
    "a column less in the test file": (
        a_column_less_in_the_test_file, ["e.csv has no column `width`", "columns: hieght, label"],
    ),
    "words for numbers in the test file": (
        lambda: words(numbers(30), changed(numbers(9, seed=1), (4, 1, "unknown"))),
        ["e.csv:5: column `x2` wants a number, got `unknown`"],
    ),
    "every row in both files": (
        lambda: words(numbers(30), numbers(30)), ["every training row is equal to a test row"],
    ),
    "an empty file": (lambda: words(""), ["t.csv is empty"]),
    "a header only": (lambda: words(numbers(0)), ["t.csv has no rows"]),
    "a label column only": (
        lambda: words([[row[2]] for row in numbers(30)]), ["t.csv has no input column"],
    ),
    "constant columns only": (
        constant_columns_only,
        ["no input column beside", "`x1` (it never changes)", "`x2` (it is empty)"],
    ),
    "another encoding": (
        lambda: words(as_csv(numbers(30, classes=("grün", "rot"))).encode("latin-1")), ["not UTF-8"],
    ),
    "too many cells": (
        too_many_cells, ["t.csv:6: 5 cells, but the header has 3", "3 of 30 rows cannot be read"],
    ),
    "an unknown type": (
        lambda: words(b"PK\x03\x04", suffix="xlsx"), [".xlsx", "save the sheet as csv"],
    ),
    "no parquet": (
        lambda: words(b"PAR1 this is none", suffix="parquet"), ["t.parquet cannot be read"],
    ),
    "no json": (
        lambda: words('{"x1": 1, "label": "a"}\n{"x1": 2, "lab', suffix="jsonl"), ["t.jsonl:2: not JSON"],
    ),
    "a folder": (a_folder, ["t.csv is a folder"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_is_refused_in_clear_words(flowgmm: Any, case: str) -> None:
    make, parts = REFUSED[case]
    outcome = flowgmm("train", "csv", *make(), *SHORT, "--json", code=5)
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert "\nhint: " in outcome.err
    for part in parts:
        assert part in outcome.err
