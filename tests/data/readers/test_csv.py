import contextlib
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers import csv as reader
from flowgmm_cli.data.readers import records
from flowgmm_cli.data.readers.open import open_rows, open_table
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.readers.table import ReadSettings
from flowgmm_cli.errors import DataError, UsageError

GOOD = "name,x,colour,y,kind\na,1,red,2.5,oak\nb,,,-3e2,\nc, NA ,NA,inf,birch\n"


def test_cells_are_parsed_as_in_training(read, rows, table, write, notes):
    result = read(rows(write(GOOD), table))
    assert result["x"] == [1, None, None]
    assert result["y"] == [2.5, -300, np.inf]
    assert result["colour"] == ["red", None, "NA"]
    assert (result.labels, result.ids, result.problems) == ([1, -1, -1], ["a", "b", "c"], {})
    assert result.unknown_labels == {2: "birch"}
    assert notes == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.rstrip("\n"),
        lambda text: "\n\n" + text.replace("\n", "\n\n \t\n"),
        lambda text: text.replace("red", '"red"').replace("2.5", '"2.5"'),
        lambda text: text.replace("red", '" red"').replace("\nc", '\n"c"'),
        lambda text: text.replace("x,", '"x" ,').replace("name", " name"),
    ],
)
def test_encodings_line_ends_delimiters_and_quotes_do_not_change_the_rows(read, rows, table, write, change):
    result = read(rows(write(change(GOOD)), table))
    assert (result["x"], result["colour"]) == ([1, None, None], ["red", None, "NA"])
    assert (result.labels, result.ids, result.problems) == ([1, -1, -1], ["a", "b", "c"], {})


def test_labels_and_ids_are_optional_and_blank_lines_no_rows(read, rows, table, write):
    result = read(rows(write("y,colour,x\n1,red,2\n3,,4\n"), table))
    assert (result["x"], result.labels, result.ids) == ([2, 4], [-1, -1], ["1", "2"])
    single = InputSchema((Column("x", "numeric"),), ("a",))
    assert read(rows(write("x\n1\n\n \n2\n"), single))["x"] == [1, 2]


def test_columns_that_are_not_read_are_noted_once(rows, table, write, notes):
    result = rows(write("x,y,colour,more,less\n1,2,red,ä,5\n"), table)
    list(result)
    list(result)
    assert [note for note in notes if "more, less" in note] == notes


def test_a_column_that_may_name_the_rows_has_a_hint(rows, table, write, notes):
    list(rows(write("x,y,colour,Ticket_ID\n1,2,red,5\n"), replace(table, id=None)))
    hint = "data.id=Ticket_ID in training names rows by it, --with keeps it"
    assert [note for note in notes if note.endswith(f"Ticket_ID; {hint}")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("x,Y,colour", "has no column `y`; did you mean `Y`?"),
        ("x,y,color", "did you mean `colour`"),
        ("a,b,c", "has no columns `x`, `colour`, `y`"),
    ],
)
def test_a_missing_column_is_an_error_before_any_row(rows, table, write, header, words):
    with pytest.raises(DataError) as caught:
        rows(write(f"{header}\n1,2,3\n"), table)
    message = "\n".join([caught.value.message, *caught.value.details])
    assert (words in message) or ("did you mean `color`" in message and "colour" in words)
    assert f"columns: {header.replace(',', ', ')}" in message


ODD = [
    ("1,red", "2 cells, but the header has 3"),
    ("1,red,2,3", "4 cells, but the header has 3"),
    ("1,red,two", "column `y` wants a number, got `two`"),
    ('1,red,"2,5"', "column `y` wants a number, got `2,5`, with a decimal comma or thousands marks"),
    ("o1,red,0x1", "column `x` wants a number, got `o1`"),
    ('1,"red,2', "a quote is opened and never closed"),
    (b"1,r\xe4d,2", "the cell of column `colour` is not UTF-8 text"),
]


@pytest.mark.parametrize(("line", "what"), ODD)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_malformed_line_is_reported_with_its_number(read, rows, table, write, line, what, quoted):
    """Lines are physical: a cell that holds line breaks takes several."""
    before = b'0,"a\r\nb\nc",0\n\n' if quoted else b"0,a,0\n0,a,0\n0,a,0\n\n"
    odd = line if isinstance(line, bytes) else line.encode()
    path = write(b"x,colour,y\n" + before + odd + b"\n7,blue,8\n" * 2)
    with pytest.raises(DataError) as caught:
        list(rows(path, table))
    assert caught.value.message == f"{path}:6: {what}"
    assert "--on-error keep" in caught.value.hint
    result = read(rows(path, table, on_error="keep"))
    at = 1 if quoted else 3
    assert result.problems == {at: f"line 6: {what}"}
    assert np.delete(result.columns["x"], at).tolist() == [0] * at + [7, 7]
    assert result.ids == [str(row) for row in range(1, at + 4)]


@pytest.mark.parametrize(
    ("odd", "what"),
    [(b"3,,4", "3 cells, but the header has 4"), (b"3,red,4,\xe4", "`kind` is not UTF-8 text")],
)
def test_a_line_is_malformed_also_where_the_model_does_not_read_it(read, rows, table, write, odd, what):
    path = write(b"x,colour,y,kind\n1,red,2,\n" + odd + b"\n")
    assert list(read(rows(path, table, on_error="keep")).problems) == [1]
    with pytest.raises(DataError, match=what):
        list(rows(path, table))


@pytest.mark.parametrize(
    ("start", "line"), [('x,"y', ""), ('x,"y', '""'), ('x,y\n1,a"b,"c', '""'), ('x,y\n1,"', "z,")]
)
def test_every_character_is_scanned_a_few_times_only(rows, write, monkeypatch, start, line):
    scanned = []
    scan = records._scan
    monkeypatch.setattr(records, "_scan", lambda text, *a: scanned.append(len(text)) or scan(text, *a))
    content = start + "\n" + (line + "\n") * 3000
    schema = InputSchema((Column("x", "numeric"),), ("a",))
    with contextlib.suppress(DataError):
        list(rows(write(content), schema, on_error="keep"))
    assert 0 < sum(scanned) < 50 * len(content)


def test_an_unclosed_quote_is_an_error_of_its_own_line_only(read, rows, write, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD", 2000)
    monkeypatch.setattr("flowgmm_cli.data.readers.records.MAX_RECORD", 2000)
    monkeypatch.setattr("flowgmm_cli.data.readers.csv.BLOCK", 700)
    lines = [f'{i},"say ""{i}""",t' for i in range(2000)]
    lines[100] = '100,"open,t'
    lines[1000] = '1000,"open,t'
    lines[1001:1990] = [f"{i},plain,t" for i in range(1001, 1990)]
    lines[1999] = '1999,"open,t'
    path = write("x,text,z\n" + "\n".join(lines))
    schema = InputSchema((Column("x", "numeric"), Column("text", "text")), ("a",))
    result = read(rows(path, schema, on_error="keep"))
    columns, problems = result.columns, result.problems
    assert {at: why.split(":")[0] for at, why in problems.items()} == {
        100: "line 102",
        1000: "line 1002",
        1999: "line 2001",
    }
    good = [i for i in range(2000) if i not in problems]
    assert columns["x"][good].tolist() == good
    assert columns["text"][99] == 'say "99"'
    assert columns["text"][101] == 'say "101"'


def test_a_block_of_a_wide_table_holds_many_rows(write, monkeypatch):
    """Arrow prepares every column of a block, which takes longer than to parse a cell."""
    monkeypatch.setattr(reader, "BLOCK", 1000)
    path = write(",".join(f"c{i}" for i in range(200)) + "\n" + (",".join("1" * 200) + "\n") * 50)
    assert len(list(open_table(path, note=print).batches())) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("x,y,x\n1,2,3\n", "names a column twice: x"),
        (b"x,\xe4\n1,2\n", "header line is not UTF-8"),
        ('x,"y\n1,2\n', "header line cannot be read"),
        *(
            (content, "is empty|has no rows")
            for content in ("", "\n\n", "\ufeff", "x,colour,y\n", "x,colour,y")
        ),
        ("1.5,2,3\n4,5,6\n", "names of the columns"),
        ("1.5,1.5,3\n4,5,6\n", "names of the columns"),
        ("x;colour;y\n1,5;red;2\n", r"1000\.50"),
    ],
)
def test_files_without_a_header_or_rows_or_with_other_marks(rows, table, write, content, words):
    with pytest.raises(DataError) as caught:
        list(rows(write(content), table))
    assert re.search(words, f"{caught.value.message}\n{caught.value.hint}")


def test_numbered_columns_of_another_name_are_suggested(rows, vector, write):
    with pytest.raises(DataError) as caught:
        rows(write("p_1,p_2,p_3,p_4,kind\n1,2,3,4,oak\n"), vector(2, 2))
    assert "rename p_1 to p_4" in caught.value.hint


def test_text_parts_are_joined_unless_the_text_column_exists(read, rows, texts, write):
    content = 'title,description,kind\nA,"b\nc",oak\n,d,\n'
    result = read(rows(write(content), texts))
    assert (result["text"], result.labels) == (["A\nb\nc", "d"], [1, -1])
    assert read(rows(write("text\nwhole\n"), texts))["text"] == ["whole"]
    with pytest.raises(DataError, match="no column `description`"):
        rows(write("title\nA\n"), texts)


@pytest.mark.parametrize("names", ["v[0],v[1],v[2],v[3]", "v_0,v_1,v_2,v_3"])
def test_a_vector_is_read_from_numbered_columns(read, rows, vector, write, names):
    path = write(f"{names},kind\n1,2,3,4,oak\n5,6,7,x,\n")
    result = read(rows(path, vector(2, 2), on_error="keep"))
    assert result.columns["v"][0].tolist() == [[1, 2], [3, 4]]
    assert result.labels == [1, -1]
    assert result.problems == {1: f"line 3: column `{names.split(',')[3]}` wants a number, got `x`"}


def test_a_terminal_is_not_an_input(table, context, monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(UsageError, match="nothing is piped"):
        open_rows("-", table, context=context)


CELL = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters='",;\n\r\t '), max_size=8
)
FLOAT = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(CELL, FLOAT), min_size=1, max_size=30),
    size=st.integers(1, 7),
    block=st.integers(1, 60),
    delimiter=st.sampled_from([",", ";", "\t"]),
)
def test_every_table_is_read_in_order_for_every_block_size(
    read, rows, size, block, delimiter, tmp_path, monkeypatch
):
    monkeypatch.setattr(reader, "BLOCK", max(block, 20))
    lines = [f"text{delimiter}x"]
    for text, number in rows:
        cell = '"' + text.replace('"', '""') + '"' if set(text) & set('",;\n\r\t') else text
        lines.append(f"{cell}{delimiter}{'' if number is None else repr(number)}")
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join(lines).encode())
    schema = InputSchema(
        (Column("text", "text"), Column("x", "numeric")), ("a",), settings=ReadSettings(delimiter)
    )
    result = read(open_rows(str(path), schema, context=DataContext(), chunk_rows=size))
    assert result.problems == {}
    assert result["text"] == [text if text.strip() else "" for text, _ in rows]
    assert result["x"] == [number for _, number in rows]
