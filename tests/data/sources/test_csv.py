import json

import numpy as np
import pandas as pd
import pytest

from flowgmm_cli.api import LabelsConfig
from flowgmm_cli.data.sources.csv import build
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.errors import DataError, RecipeError

HARD = """\
\ufeffid,text,label,größe,const,empty,land,"odd, name"
a,"Hé said ""hi""
on two lines",Spörts,1.5,7,,NA,1
b,,日本,,7,,DE,
c,plain,, inf ,7,,null,3
d,"comma, here",Spörts,-2e-3,7,,,NaN
"""


@pytest.fixture
def write(tmp_path):
    def write(content, name="my träin [1]*.csv"):
        folder = tmp_path / "a folder"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def load(context, path, label="label", **parameters):
    return build(CsvConfig(path=path, label=label, **parameters), context).load()


def kinds(data):
    return {column.name: column.kind for column in data.columns}


def train(data):
    return data.splits["train"]


def test_a_hard_file_is_read_cell_by_cell(context, write):
    data = load(context, write(HARD), id="id", drop=["text"])
    rows = train(data)
    assert data.class_names == ("Spörts", "日本")
    assert rows.labels.tolist() == [0, 1, -1, 0]
    assert rows.ids.tolist() == ["a", "b", "c", "d"]
    assert kinds(data) == {"größe": "numeric", "land": "category", "odd, name": "numeric"}
    assert np.array_equal(rows.columns["größe"], [1.5, np.nan, np.inf, -2e-3], equal_nan=True)
    assert rows.columns["land"].tolist() == ["NA", "DE", "null", None]
    assert [note.split(": left out ")[1][:30] for note in data.notes if "left out" in note] == [
        "`const` (it never changes); da",
        "`empty` (it is empty); data.fe",
    ]
    assert kinds(load(context, write(HARD), features=["const", "empty"])) == {
        "const": "numeric",
        "empty": "numeric",
    }


def test_a_text_column_keeps_its_empty_text_and_stands_alone(context, write):
    data = load(context, write(HARD), text="text")
    assert kinds(data) == {"text": "text"}
    assert train(data).columns["text"].tolist() == ['Hé said "hi"\non two lines', "", "plain", "comma, here"]
    assert "größe" in data.notes[0]


def test_texts_are_joined_and_features_stand_beside_them(context, write):
    data = load(context, write(HARD), text=["text", "land"], features=["größe"])
    assert kinds(data) == {"text": "text", "größe": "numeric"}
    assert train(data).columns["text"].tolist()[2] == "plain\nnull"


def test_lists_of_numbers_are_a_vector(context, write):
    lines = [{"v": [1, 2], "label": "a"}, {"v": [3.5, 4], "label": "b"}]
    data = load(context, write("\n".join(map(json.dumps, lines)), "t.jsonl"))
    assert data.columns[0].shape == (2,)
    assert train(data).columns["v"].tolist() == [[1, 2], [3.5, 4]]


def test_json_lines_of_mixed_types_are_strings(context, write):
    content = '{"x": 1, "label": "a"}\n{"x": "2", "label": 7}\n{"x": null, "label": null}\n'
    data = load(context, write(content, "t.jsonl"))
    assert data.class_names == ("7", "a")
    assert np.array_equal(train(data).columns["x"], [1, 2, np.nan], equal_nan=True)


def test_short_lines_blank_lines_and_a_trailing_delimiter(context, write):
    good = "1,2,a,\n\n" * 50
    data = load(context, write(f"\nx,y,label,\n{good}3\n4,5,b\n"))
    assert kinds(data) == {"x": "numeric", "y": "numeric"}
    assert train(data).columns["x"].tolist() == [1] * 50 + [4]
    assert train(data).ids[-1] == "train:52"
    assert data.notes[0].endswith(
        "1 of 52 rows cannot be read and are left out (line 103: 1 cell, but the header has 3)"
    )


def test_numbers_can_be_categories_and_columns_can_be_left_out(context, write):
    data = load(context, write("zip,x,y,label\n01,1,1,a\n10,2,2,b\n"), categorical=["zip"], drop=["y"])
    assert kinds(data) == {"zip": "category", "x": "numeric"}
    assert train(data).columns["zip"].tolist() == ["01", "10"]


def test_test_columns_match_by_name_and_extra_columns_are_noted(context, write):
    data = load(
        context,
        write("x,y,label\n1,2,a\n3,4,b\n"),
        test_path=write("new,label,y,x\n0,b,20,10\n", "test.csv"),
        val_path=write("y,x,label\n5,6,a\n", "val.csv"),
    )
    assert data.splits["test"].columns["x"].tolist() == [10]
    assert data.splits["val"].columns["y"].tolist() == [5]
    assert data.splits["test"].labels.tolist() == [1]
    assert any("new" in note for note in data.notes)


def test_the_column_that_marks_labelled_rows_is_no_input(context, write):
    data = load(context, write("x,mine,label\n1,yes,a\n2,,b\n"), labels=LabelsConfig(column="mine"))
    assert kinds(data) == {"x": "numeric"}
    assert train(data).extras["mine"].tolist() == ["yes", None]


def with_typos(count):
    """Return a table of 100 rows; the first cells of x and of the dates are no numbers and no dates."""
    rows = [f"{i / 7},2024-01-{i % 28 + 1:02d},{'ab'[i % 2]}" for i in range(100)]
    typos = ["1,soon,a", *(f"o{i},2024-02-02,b" for i in range(1, count))][:count]
    return "\n".join(["x,day,label", rows[0], *typos, *rows[count + 1 :]])


@pytest.mark.parametrize(
    ("count", "on_error", "left"), [(3, None, 97), (4, None, None), (1, "fail", None), (9, "keep", 91)]
)
def test_rows_with_cells_that_do_not_fit_are_left_out_as_malformed_lines_are(
    context, write, count, on_error, left
):
    path = write(with_typos(count))
    if left is None:
        with pytest.raises(
            DataError, match=":3: column `day` wants a date like ISO 8601, got `soon`"
        ) as stop:
            load(context, path, on_error=on_error)
        assert "data.drop=[day], or leave such rows out of training: data.on_error=keep" in stop.value.hint
        assert count == 1 or stop.value.details[0] == "line 4: column `x` wants a number, got `o1`"
        return
    data = load(context, path, on_error=on_error)
    assert kinds(data) == {"x": "numeric", "day": "date"}
    assert len(train(data)) == left
    assert train(data).ids[:2].tolist() == ["train:1", f"train:{count + 2}"]
    message = (
        f"{path}: {count} of 100 rows cannot be read and are left out (line 3: column `day` wants a date"
    )
    assert data.notes[-1].startswith(message)


@pytest.mark.parametrize(
    ("content", "parameters", "words"),
    [
        ("x,Label\n1,a\n", {}, "did you mean `Label`"),
        ("x,lable\n1,a\n", {}, "did you mean `lable`"),
        (HARD, {"text": "txet"}, "did you mean `text`"),
        (HARD, {"drop": ["cosnt"]}, "did you mean `const`"),
        (HARD, {"features": ["nope"]}, "(data.features)"),
        ("0.5,1.5,2\n1,2,0\n", {}, "the first line must hold the names of the columns"),
        ("0.5,1.5,2\n1,2,0\n", {"label": "2"}, "the first line must hold the names of the columns"),
        (with_typos(6), {}, "`x` holds numbers except 5 cells, the first in row 3: `o1`"),
        ("", {}, "is empty"),
        ("label\na\nb\n", {}, "no input column"),
        ("x,x,label\n1,2,a\n", {}, "twice: x"),
        ("x,label\n1,a\n2,b,c,d\n", {}, ":3: 4 cells, but the header has 2"),
        ("x,label\n1,a,EXTRA\n2,b,EXTRA\n", {}, ":2: 3 cells, but the header has 2"),
        ("x,label\n1,ä\n".encode("latin-1"), {}, "UTF-8"),
        ("id,x,label\nq,1,a\nq,2,b\n", {"id": "id"}, "repeats `q` in row 2"),
        ("id,x,label\nq,1,a\n,2,b\n", {"id": "id"}, "is empty in row 2"),
    ],
)
def test_invalid_tables_are_errors(context, write, content, parameters, words):
    with pytest.raises(DataError) as caught:
        load(context, write(content), **parameters)
    assert words in caught.value.message


@pytest.fixture
def wide(tmp_path):
    """A table with a counter, dates, many categories, a text and a constant."""
    rng = np.random.default_rng(0)
    rows = range(200)
    frame = {
        "id": list(rows),
        "x": rng.normal(size=200),
        "day": [f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in rows],
        "town": [f"town {row % 90}" for row in rows],
        "body": [f"this is remark number {row} on the row" for row in rows],
        "const": 1,
        "0": [0, 1] * 100,
        "label": [*"ab" * 50, *[None] * 100],
    }
    pd.DataFrame(frame).to_csv(tmp_path / "wide.csv", index=False)
    return str(tmp_path / "wide.csv")


def test_columns_of_every_sort(context, wide):
    data = load(context, wide)
    assert kinds(data) == {"x": "numeric", "day": "date", "town": "category", "0": "numeric"}
    assert [column.format for column in data.columns] == ["", "ISO 8601", "", ""]
    assert train(data).columns["day"][1] == 1706832000  # 2024-02-02
    for words in (
        "`id` (it counts the rows)",
        "`body` (sentences); data.text=body",
        "`const` (it never changes)",
    ):
        assert any(words in note for note in data.notes)
    assert "body" in kinds(load(context, wide, text="body"))
    assert kinds(load(context, wide, dates="drop")) == {"x": "numeric", "town": "category", "0": "numeric"}
    assert kinds(load(context, wide, features=["id", "day"])) == {"id": "numeric", "day": "date"}


def test_a_table_whose_names_are_counted_has_a_header(context, write):
    assert kinds(load(context, write("0,1,2\n5,7,a\n6,7.5,b\n"), label="2")) == {
        "0": "numeric",
        "1": "numeric",
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("5.1,3.5,1.4,oak\n4.9,3.0,1.4,oak\n7.0,3.2,4.7,elm\n", "numbers"),
        ("39,State,Bachelors,oak\n50,Self,Bachelors,oak\n38,State,College,elm\n", "the cells of a row"),
        ("400.5,401.0,401.5,tree\n1,2,3,oak\n3,4,6,elm\n", None),
        ("colour,shape,x,tree\nred,shape,1,oak\nblue,round,2,elm\n", None),
    ],
)
def test_the_first_line_holds_names(context, write, content, words):
    label = content.partition("\n")[0].rpartition(",")[2]
    if words is None:
        assert kinds(load(context, write(content), label=label))
        return
    with pytest.raises(DataError, match=f"names of the columns, but it holds {words}"):
        load(context, write(content), label=label)


def test_a_test_file_must_fit_the_training_file(context, write):
    path = write("x,c,d,label\n1,u,2024-01-31,a\n3,v,2024-02-01,b\n")
    for content, words in [
        ("x,c,d,label\nwhat,u,,a\n", "test.csv:2: column `x` wants a number, got `what`"),
        (
            "x,c,d,label\n1,u,,a\n2,u,soon,a\n",
            "test.csv:3: column `d` wants a date like ISO 8601, got `soon`",
        ),
        ("x,label\n1,a\n", "no column `c`"),
        ("x,c,lebel\n1,u,a\n", "did you mean `lebel`"),
    ]:
        with pytest.raises(DataError) as caught:
            load(context, path, test_path=write(content, "test.csv"))
        assert words in caught.value.message


def test_the_label_cannot_be_an_input(context, write):
    with pytest.raises(RecipeError, match="cannot be an input"):
        load(context, write("x,label\n1,a\n"), features=["x", "label"])


def test_files_that_are_not_there_or_of_another_type(context, write, tmp_path):
    write("x,label\n1,a\n", "train.csv")
    with pytest.raises(DataError, match=r"did you mean `train\.csv`"):
        load(context, str(tmp_path / "a folder" / "trian.csv"))
    (tmp_path / "nothing").mkdir()
    (tmp_path / "photos/cat").mkdir(parents=True)
    (tmp_path / "photos/cat/1.JPG").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder without a file of a table") as caught:
        load(context, str(tmp_path / "photos"))
    assert "flowgmm train images data.path=" in caught.value.hint
    with pytest.raises(DataError, match="is a folder without a file of a table"):
        load(context, str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="cannot be read") as caught:
        load(context, write("x", "t.docx"))
    assert ".parquet" in caught.value.hint
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load(context, write("no parquet", "t.parquet"))


def test_a_missing_column_of_texts_is_answered_with_the_columns_of_sentences(context, wide):
    with pytest.raises(DataError, match="no column `text`") as caught:
        load(context, wide, text="text")
    assert caught.value.hint == "set data.text=body; sentences are in `body`"
    pd.read_csv(wide).drop(columns="body").to_csv(wide, index=False)
    with pytest.raises(DataError) as caught:
        load(context, wide, text="text")
    assert caught.value.hint == "set data.text to one of these columns"
