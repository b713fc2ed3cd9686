"""Unusual files of users: each trains and evaluates, or is refused with a clear message."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, add_column, as_csv, numbers, save, texts

Outcome = Any
Make = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in a folder of its own; what encoders remember is kept for the session."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWGMM_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


def train_and_eval(flowgmm: Any, recipe: str, *words: str) -> tuple[Outcome, dict[str, Any]]:
    """Train and evaluate; both must end well, with finite numbers."""
    trained = flowgmm("train", recipe, *words, *SHORT, "--json")
    assert trained.code == 0, trained.err
    result = json.loads(trained.out)
    assert result["status"] == "done"
    evaluated = flowgmm("eval", "--json")
    assert evaluated.code == 0, evaluated.err
    assert "warning" not in evaluated.err
    value: dict[str, Any] = json.loads(evaluated.out)
    assert value["run"] == result["run"]
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "density_nll"):
        assert math.isfinite(value["metrics"][name]), name
    assert value["metrics"]["accuracy"] == result["test"]["accuracy"]
    return trained, value


def classes(value: dict[str, Any]) -> list[str]:
    return [row["name"] for row in value["per_class"]]


def data_words(train: str, test: str | None = None) -> list[str]:
    words = [f"data.path={train}", "data.label=label"]
    return [*words, f"data.test_path={test}"] if test else words


# --- all at once ------------------------------------------------------------------------------------------


def test_a_table_with_everything_wrong_with_it(flowgmm: Any) -> None:
    rows = numbers(40, labelled=16, classes=("grün", "日本"))
    rows = add_column(rows, "farbe", lambda row: ["rot", "blau", ""][row % 3])
    rows = add_column(rows, "fest", lambda row: "7")
    rows = add_column(rows, "leer", lambda row: "")
    rows = add_column(rows, "größe", lambda row: ["1", "", "NA", "inf", "2.5"][row % 5])
    test = [*rows[:9], ["9", "", "7", "lila", "0.1", "0.2", "grün"], ["", "", "8", "", "1", "1", "日本"]]
    words = data_words(
        save("mein ordner/träin daten [1].csv", rows[:1] + rows[9:]), save("mein ordner/ü test.csv", test)
    )
    trained, value = train_and_eval(flowgmm, "csv", *words)
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
    words = data_words(save("mein ordner/träin [1].csv", rows), save("mein ordner/ü test.csv", test))
    _, value = train_and_eval(flowgmm, "text", *words, "data.text=text")
    assert classes(value) == ["grün", "日本"]
    assert value["n"] == 9


# --- files that work --------------------------------------------------------------------------------------


def plain() -> list[str]:
    return data_words(save("t.csv", numbers(30, labelled=12)), save("e.csv", numbers(10, seed=1)))


def integer_labels() -> list[str]:
    names = ("10", "9", "-2")
    return data_words(
        save("t.csv", numbers(40, classes=names)), save("e.csv", numbers(9, classes=names, seed=1))
    )


def names_like_missing_cells() -> list[str]:
    names = ("NA", "None", "nan")
    return data_words(
        save("t.csv", numbers(40, classes=names)), save("e.csv", numbers(9, classes=names, seed=1))
    )


def byte_order_mark() -> list[str]:
    return data_words(
        save("t.csv", "\ufeff" + as_csv(numbers(30))), save("e.csv", "\ufeff" + as_csv(numbers(9, seed=1)))
    )


def windows_line_ends() -> list[str]:
    return data_words(
        save("t.csv", as_csv(numbers(30, labelled=9), end="\r\n")), save("e.csv", numbers(9, seed=1))
    )


def semicolons() -> list[str]:
    return data_words(
        save("t.csv", as_csv(numbers(30), delimiter=";")),
        save("e.csv", as_csv(numbers(9, seed=1), delimiter=";")),
    )


def chosen_delimiter() -> list[str]:
    train = save("t.csv", as_csv(numbers(30), delimiter=":"))
    test = save("e.csv", as_csv(numbers(9, seed=1), delimiter=":"))
    return [*data_words(train, test), 'data.delimiter=":"']


def tab_separated() -> list[str]:
    return data_words(
        save("t.tsv", as_csv(numbers(30, labelled=10), delimiter="\t")), save("e.csv", numbers(9, seed=1))
    )


def json_lines() -> list[str]:
    _, *rows = numbers(30)
    lines = []
    for place, (a, b, label) in enumerate(rows):
        known = label if place < 20 else None
        lines.append(json.dumps({"x1": float(a), "x2": float(b) if place else None, "label": known}))
    return data_words(save("t.jsonl", "\n".join(lines)), save("e.csv", numbers(9, seed=1)))


def parquet() -> list[str]:
    import pandas as pd

    for name, count, seed in (("t", 30, 0), ("e", 9, 1)):
        header, *rows = numbers(count, classes=("0", "1"), seed=seed)
        frame = pd.DataFrame(rows, columns=header)
        frame = frame.astype({"x1": float, "x2": float, "label": "Int64"})
        frame["flag"] = [row % 3 == 0 for row in range(count)]
        frame["kind"] = pd.Categorical([f"k{row % 2}" for row in range(count)])
        if name == "t":
            frame.loc[20:, "label"] = pd.NA
        frame.to_parquet(f"{name}.parquet", index=False)
    return data_words("t.parquet", "e.parquet")


def single_feature() -> list[str]:
    return data_words(save("t.csv", numbers(30, features=1)), save("e.csv", numbers(9, features=1, seed=1)))


def more_features_than_rows() -> list[str]:
    return data_words(
        save("t.csv", numbers(40, features=200)), save("e.csv", numbers(9, features=200, seed=1))
    )


def three_labels_of_each_class() -> list[str]:
    names = ("a", "b", "c")
    train = numbers(40, classes=names, labelled=9)
    return data_words(save("t.csv", train), save("e.csv", numbers(9, classes=names, seed=1)))


def single_label_of_each_class() -> list[str]:
    return data_words(save("t.csv", numbers(30, labelled=2)), save("e.csv", numbers(9, seed=1)))


def every_row_labelled() -> list[str]:
    return data_words(save("t.csv", numbers(6)), save("e.csv", numbers(4, seed=1)))


def no_test_file() -> list[str]:
    return data_words(save("t.csv", numbers(40, labelled=30)))


def a_row_in_both_files() -> list[str]:
    train, test = numbers(30), numbers(9, seed=1)
    return data_words(save("t.csv", [*train, test[1], test[2]]), save("e.csv", test))


def a_pandas_index() -> list[str]:
    train = add_column(numbers(30), "", str)
    return data_words(save("t.csv", train), save("e.csv", add_column(numbers(9, seed=1), "", str)))


def other_column_order_and_extra_columns() -> list[str]:
    test = [[label, "more", b, a] for a, b, label in numbers(9, seed=1)]
    test[0] = ["label", "more", "x2", "x1"]
    return data_words(save("t.csv", numbers(30)), save("e.csv", test))


def blank_lines_and_spaces() -> list[str]:
    train = as_csv(numbers(30)).replace("x1,", " x1 ,", 1).replace(",yes", ", yes ") + "\n\n"
    return data_words(save("t.csv", train), save("e.csv", numbers(9, seed=1)))


def extreme_numbers() -> list[str]:
    train = numbers(40)
    train[1][0], train[2][0], train[3][1], train[4][1] = "1e300", "-1e300", "1e-300", "-0.0"
    test = numbers(9, seed=1)
    test[1][0], test[2][0] = "1.7e308", "-1.7e308"
    return data_words(save("t.csv", train), save("e.csv", test))


def quotes_and_line_breaks_in_categories() -> list[str]:
    kinds = ['a "b"', "two\nlines", "x, y"]
    train = add_column(numbers(30), "kind", lambda row: kinds[row % 3])
    return data_words(
        save("t.csv", train), save("e.csv", add_column(numbers(9, seed=1), "kind", lambda _: "x, y"))
    )


def unlabelled_test_rows() -> list[str]:
    return data_words(save("t.csv", numbers(30)), save("e.csv", numbers(9, labelled=5, seed=1)))


def a_class_without_labels() -> list[str]:
    return data_words(save("t.csv", numbers(30)), save("e.csv", numbers(4, classes=("yes",), seed=1)))


WORKING: list[tuple[Make, list[str], str]] = [
    (plain, ["no", "yes"], ""),
    (integer_labels, ["-2", "9", "10"], ""),
    (names_like_missing_cells, ["NA", "nan", "None"], ""),
    (byte_order_mark, ["no", "yes"], ""),
    (windows_line_ends, ["no", "yes"], ""),
    (semicolons, ["no", "yes"], "the delimiter is `;`"),
    (chosen_delimiter, ["no", "yes"], ""),
    (tab_separated, ["no", "yes"], ""),
    (json_lines, ["no", "yes"], "missing cells of `x2` are filled in"),
    (parquet, ["0", "1"], ""),
    (single_feature, ["no", "yes"], "1 features"),
    (more_features_than_rows, ["no", "yes"], "200 features"),
    (three_labels_of_each_class, ["a", "b", "c"], "9 labelled"),
    (single_label_of_each_class, ["no", "yes"], "too few labels to fit one"),
    (every_row_labelled, ["no", "yes"], ""),
    (no_test_file, ["no", "yes"], "6 rows are set aside for the test"),
    (a_row_in_both_files, ["no", "yes"], "2 training rows are equal to a test row"),
    (a_pandas_index, ["no", "yes"], "left out `Unnamed: 0` (it counts the rows)"),
    (other_column_order_and_extra_columns, ["no", "yes"], "has columns that training lacks: more"),
    (blank_lines_and_spaces, ["no", "yes"], ""),
    (extreme_numbers, ["no", "yes"], ""),
    (quotes_and_line_breaks_in_categories, ["no", "yes"], ""),
    (unlabelled_test_rows, ["no", "yes"], "4 test rows have no label and are left out"),
    (a_class_without_labels, ["no", "yes"], ""),
]


@pytest.mark.parametrize(("make", "names", "note"), WORKING, ids=[case[0].__name__ for case in WORKING])
def test_a_table_trains_and_evaluates(flowgmm: Any, make: Make, names: list[str], note: str) -> None:
    trained, value = train_and_eval(flowgmm, "csv", *make())
    assert classes(value) == names
    if "too few" not in note:
        assert note in trained.err


@pytest.mark.parametrize(
    "name",
    ["text", "id", "train", "index", "__index__", "null", "a.b", "x=1"],
)
def test_a_label_column_may_have_any_name(flowgmm: Any, name: str) -> None:
    rows = numbers(30)
    rows[0][2] = name
    test = [rows[0], *numbers(6, seed=1)[1:]]
    words = [
        f"data.path={save('t.csv', rows)}",
        f"data.label={name}",
        f"data.test_path={save('e.csv', test)}",
    ]
    _, value = train_and_eval(flowgmm, "csv", *words)
    assert classes(value) == ["no", "yes"]


def texts_in_json_lines() -> list[str]:
    _, *rows = texts(30)
    lines = [
        json.dumps({"text": text if row else None, "label": row % 2}) for row, (text, _) in enumerate(rows)
    ]
    return [*data_words(save("t.jsonl", "\n".join(lines))), "data.text=text"]


def two_text_columns() -> list[str]:
    train, test = (
        add_column(texts(count, seed=seed), "title", lambda row: "a title" if row % 2 else "")
        for count, seed in ((30, 0), (8, 1))
    )
    return [*data_words(save("t.csv", train), save("e.csv", test)), "data.text=[title, text]"]


def text_and_numbers() -> list[str]:
    train, test = (add_column(texts(count, seed=seed), "price", str) for count, seed in ((30, 0), (8, 1)))
    words = data_words(save("t.csv", train), save("e.csv", test))
    return [*words, "data.text=text", "data.features=[text, price]"]


def all_texts_empty_but_two() -> list[str]:
    rows = texts(20)
    for row in rows[3:]:
        row[0] = ""
    return [*data_words(save("t.csv", rows), save("e.csv", texts(6, seed=1))), "data.split.duplicates=keep"]


def few_texts() -> list[str]:
    return data_words(save("t.csv", texts(6)), save("e.csv", texts(4, seed=1)))


def tfidf() -> list[str]:
    words = data_words(save("t.csv", texts(30, labelled=10)), save("e.csv", texts(8, seed=1)))
    return [*words, "data.encoder.use=tfidf_svd"]


TEXTS: list[Make] = [
    texts_in_json_lines, two_text_columns, text_and_numbers, all_texts_empty_but_two, few_texts, tfidf,
]  # fmt: skip


@pytest.mark.parametrize("make", TEXTS, ids=[make.__name__ for make in TEXTS])
def test_a_file_of_texts_trains_and_evaluates(flowgmm: Any, make: Make) -> None:
    train_and_eval(flowgmm, "text", *make())


# --- files that are refused -------------------------------------------------------------------------------


def decimal_commas() -> list[str]:
    rows = [[cell.replace(".", ",") for cell in row] for row in numbers(30)]
    return data_words(save("t.csv", as_csv(rows, delimiter=";")))


def thousands() -> list[str]:
    rows = add_column(numbers(30), "price", lambda row: f"{row + 1},{row:03d}.50")
    return data_words(save("t.csv", rows))


def a_word_among_numbers() -> list[str]:
    rows = numbers(30)
    rows[7][0] = "about 3"
    return data_words(save("t.csv", rows))


def repeated_column() -> list[str]:
    rows = numbers(30)
    rows[0][1] = "x1"
    return data_words(save("t.csv", rows))


def no_labels_in_the_test_file() -> list[str]:
    return data_words(save("t.csv", numbers(30)), save("e.csv", numbers(9, labelled=0, seed=1)))


def no_label_column_in_the_test_file() -> list[str]:
    return data_words(save("t.csv", numbers(30)), save("e.csv", [row[:2] for row in numbers(9, seed=1)]))


def a_column_less_in_the_test_file() -> list[str]:
    train, test = numbers(30), [[row[0], row[2]] for row in numbers(9, seed=1)]
    train[0][:2] = ["width", "height"]
    test[0][0] = "hieght"
    return data_words(save("t.csv", train), save("e.csv", test))


def words_for_numbers_in_the_test_file() -> list[str]:
    test = numbers(9, seed=1)
    test[4][1] = "unknown"
    return data_words(save("t.csv", numbers(30)), save("e.csv", test))


def every_row_in_both_files() -> list[str]:
    return data_words(save("t.csv", numbers(30)), save("e.csv", numbers(30)))


def an_empty_file() -> list[str]:
    return data_words(save("t.csv", ""))


def a_header_only() -> list[str]:
    return data_words(save("t.csv", numbers(0)))


def a_label_column_only() -> list[str]:
    return data_words(save("t.csv", [[row[2]] for row in numbers(30)]))


def constant_columns_only() -> list[str]:
    rows = [["x1", "x2", "label"], *(["1", "", "ab"[row % 2]] for row in range(30))]
    return [*data_words(save("t.csv", rows)), "data.split.duplicates=keep"]


def another_encoding() -> list[str]:
    return data_words(save("t.csv", as_csv(numbers(30, classes=("grün", "rot"))).encode("latin-1")))


def too_many_cells() -> list[str]:
    rows = numbers(30)
    for row in (5, 7, 9):
        rows[row] = [*rows[row], "more", "and more"]
    return data_words(save("t.csv", rows))


def an_unknown_type() -> list[str]:
    return data_words(save("t.xlsx", b"PK\x03\x04"))


def no_parquet() -> list[str]:
    return data_words(save("t.parquet", b"PAR1 this is none"))


def no_json() -> list[str]:
    return data_words(save("t.jsonl", '{"x1": 1, "label": "a"}\n{"x1": 2, "lab'))


def a_folder() -> list[str]:
    Path("t.csv").mkdir()
    return data_words("t.csv")


REFUSED: list[tuple[Make, list[str]]] = [
    (decimal_commas, ["column `x1`", "decimal comma", "row 1", "data.categorical"]),
    (thousands, ["column `price`", "1,000.50", "row 1"]),
    (a_word_among_numbers, ["column `x1`", "row 7", "`about 3`"]),
    (repeated_column, ["names a column twice: x1"]),
    (no_labels_in_the_test_file, ["no row of the test split has a label"]),
    (no_label_column_in_the_test_file, ["e.csv has no column `label`", "columns: x1, x2"]),
    (a_column_less_in_the_test_file, ["e.csv has no column `width`", "columns: hieght, label"]),
    (words_for_numbers_in_the_test_file, ["e.csv: column `x2`", "row 4", "`unknown`"]),
    (every_row_in_both_files, ["every training row is equal to a test row"]),
    (an_empty_file, ["t.csv is empty"]),
    (a_header_only, ["t.csv has no rows"]),
    (a_label_column_only, ["t.csv has no input column"]),
    (constant_columns_only, ["no input column beside", "`x1` (it never changes)", "`x2` (it is empty)"]),
    (another_encoding, ["not UTF-8"]),
    (too_many_cells, ["t.csv:6: 5 cells, but the header has 3", "3 of 30 rows cannot be read"]),
    (an_unknown_type, [".xlsx", "save the sheet as csv"]),
    (no_parquet, ["t.parquet cannot be read"]),
    (no_json, ["t.jsonl:2: not JSON"]),
    (a_folder, ["t.csv is a folder"]),
]


@pytest.mark.parametrize(("make", "parts"), REFUSED, ids=[case[0].__name__ for case in REFUSED])
def test_a_file_is_refused_in_clear_words(flowgmm: Any, make: Make, parts: list[str]) -> None:
    outcome = flowgmm("train", "csv", *make(), *SHORT, "--json")
    assert (outcome.code, outcome.out) == (5, ""), outcome.err
    assert "Traceback" not in outcome.err
    assert "\nhint: " in outcome.err
    for part in parts:
        assert part in outcome.err
