"""Training and prediction read a file alike: cell by cell, or refuse it with the same line number."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers import csv as reader
from flowgmm_cli.data.readers.byte_source import column_names
from flowgmm_cli.data.readers.open import open_rows, open_table
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.readers.table import ReadSettings, load_table
from flowgmm_cli.data.sources.columns import numbers, strings, texts
from flowgmm_cli.errors import DataError

SCHEMA = InputSchema((Column("c", "category"), Column("t", "text")), ("a", "b"), label="kind", id="name")
NAMES = ["name", "c", "t", "kind"]
LINE = re.compile(r":(\d+): |line (\d+): ")


def read_table(path, form=None, *, note, on_error=None):
    return load_table(open_table(path, form, note=note), on_error=on_error, note=note)


def read_for_training(path, form, notes=None, **options):
    table = read_table(str(path), form, note=[].append if notes is None else notes.append, **options)
    return {
        "c": strings(table.data["c"]).tolist(),
        "t": texts([table.data["t"]]).tolist(),
        "kind": [name if name in SCHEMA.class_names else None for name in strings(table.data["kind"])],
    }


def read_for_prediction(path, form, notes=None, **options):
    schema = InputSchema(SCHEMA.columns, SCHEMA.class_names, label="kind", id="name", settings=form)
    context = DataContext(note=[].append if notes is None else notes.append)
    chunks = list(open_rows(str(path), schema, context=context, **options))
    good = [np.delete(np.arange(len(chunk)), list(chunk.problems)) for chunk in chunks]
    cells = {
        name: [cell for chunk, rows in zip(chunks, good, strict=True) for cell in chunk.columns[name][rows]]
        for name in ("c", "t")
    }
    codes = [code for chunk, rows in zip(chunks, good, strict=True) for code in chunk.labels[rows]]
    return cells | {"kind": [SCHEMA.class_names[code] if code >= 0 else None for code in codes]}


def outcome(read, path, form, **options):
    """The cells, or the line that is refused."""
    try:
        return read(path, form, **options)
    except DataError as error:
        line = LINE.search(error.message)
        return line[0].strip(": ") if line else error.message


CELL = st.text(st.sampled_from("ab1\"',; \tä\n\r\0"), max_size=5)
BREAK = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


@st.composite
def odd_tables(draw):
    """The bytes of a small csv or tsv file in which anything may be wrong, and its encoding."""
    delimiter = draw(st.sampled_from([",", "\t"]))
    lines = [delimiter.join(NAMES)]
    for _ in range(draw(st.integers(1, 8))):
        cells = draw(st.lists(CELL, min_size=4, max_size=4))
        cells += draw(st.sampled_from([[], [], [], [""], ["more"]]))
        cells = cells[: draw(st.sampled_from([5, 5, 5, 3]))]
        if draw(st.booleans()):
            row = io.StringIO()
            csv.writer(row, delimiter=delimiter, lineterminator="").writerow(cells)
            lines.append(row.getvalue())
        else:
            lines.append(delimiter.join(cells))
    breaks = draw(st.lists(BREAK, min_size=len(lines), max_size=len(lines)))
    text = "".join(line + end for line, end in zip(lines, breaks, strict=True))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return text.encode(encoding), delimiter, encoding


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(table=odd_tables(), block=st.sampled_from([20, 2**20]), named=st.booleans())
@example(table=(b'name,c,t,kind\n1,"a,b,a\n2,a,b,a\n3,a"",b,a\n', ",", "utf-8"), block=2**20, named=False)
def test_odd_csv_and_tsv_files(tmp_path, monkeypatch, table, block, named):
    content, delimiter, encoding = table
    monkeypatch.setattr(reader, "BLOCK", block)
    path = tmp_path / ("t.csv" if delimiter == "," else "t.tsv")
    path.write_bytes(content)
    form = ReadSettings(encoding=encoding if named and not encoding.startswith("utf") else None)
    stopped = outcome(read_for_training, path, form, on_error="fail")
    assert outcome(read_for_prediction, path, form, on_error="fail") == stopped
    kept = outcome(read_for_training, path, form, on_error="keep")
    predicted = outcome(read_for_prediction, path, form, on_error="keep")
    if isinstance(kept, dict):  # training stops if no row is left
        assert predicted == kept


VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1.0, 2.5, "1", "a", "", "ä", "\ud800", [1]]),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(
        st.one_of(
            st.fixed_dictionaries(dict.fromkeys(NAMES, VALUE)).map(json.dumps),
            st.sampled_from(['{"c": 1', "[1]", "", "7", "\udcff", '{"name": 3}']),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_odd_json_lines(tmp_path, rows):
    path = tmp_path / "t.jsonl"
    first = json.dumps(dict.fromkeys(NAMES, "a"))
    path.write_bytes("\n".join([first, *rows]).encode("utf-8", "surrogateescape"))
    stopped = outcome(read_for_training, path, ReadSettings(), on_error="fail")
    assert outcome(read_for_prediction, path, ReadSettings(), on_error="fail") == stopped
    kept = outcome(read_for_training, path, ReadSettings(), on_error="keep")
    assert outcome(read_for_prediction, path, ReadSettings(), on_error="keep") == kept


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


GOOD = "name,c,t,kind\n1,u,ä,a\n2,,x,b\n"
READ = {"c": ["u", None], "t": ["ä", "x"], "kind": ["a", "b"]}


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("zst", zstd)]
)
def test_compressed_files(tmp_path, suffix, pack):
    path = tmp_path / f"t.csv.{suffix}"
    path.write_bytes(pack(GOOD.encode()))
    assert read_for_training(path, ReadSettings()) == read_for_prediction(path, ReadSettings()) == READ
    path.write_bytes(pack(GOOD.encode() * 1000)[:-20])
    with pytest.raises(DataError, match="cannot be read as csv"):
        read_for_training(path, ReadSettings(), on_error="keep")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-be", "utf-8-sig"])
def test_named_encodings(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(GOOD.encode(encoding))
    form = ReadSettings(encoding=encoding)
    assert read_for_training(path, form) == read_for_prediction(path, form) == READ
    path.write_bytes(GOOD.encode())  # a later file may be UTF-8
    if not encoding.startswith("utf-16"):
        assert read_for_training(path, form) == read_for_prediction(path, form) == READ


def test_an_encoding_that_is_not_named_is_an_error_that_names_the_option(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(GOOD.encode("latin-1"))
    for read in (read_for_training, read_for_prediction):
        with pytest.raises(DataError, match=":2: the cell of column `t` is not UTF-8 text") as caught:
            read(path, ReadSettings(), on_error="fail")
        assert "data.encoding=cp1252" in caught.value.hint
        with pytest.raises(DataError, match="there is no encoding `klingon`"):
            read(path, ReadSettings(encoding="klingon"))
        with pytest.raises(DataError, match="is not text of the encoding ascii"):
            read(path, ReadSettings(encoding="ascii"))


def test_decimal_and_thousands_marks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('x;y\n1.234,5;"-1.000"\n2,25; 7 \n1e-3;-,5\n;NA\nred;1.23,4\n')
    table = read_table(str(path), ReadSettings(decimal=",", thousands="."), note=lambda text: None)
    assert numbers(table.data["x"].slice(0, 4)).tolist()[:3] == [1234.5, 2.25, 1e-3]
    assert numbers(table.data["y"].slice(0, 3)).tolist() == [-1000, 7, -0.5]
    assert table.data["x"][4].as_py() == "red"
    assert table.data["y"][4].as_py() == "1.23,4"  # no group of three digits
    schema = InputSchema(
        (Column("x", "numeric"), Column("y", "numeric")), ("a",), settings=ReadSettings(None, None, ",", ".")
    )
    chunk = next(iter(open_rows(str(path), schema, context=DataContext(), on_error="keep")))
    assert chunk.columns["x"][:3].tolist() == [1234.5, 2.25, 1e-3]
    assert chunk.problems == {4: "line 6: column `x` wants a number, got `red`"}


@pytest.mark.parametrize(
    ("content", "note"),
    [
        ("# made by a tool\n#\n" + GOOD, "begin with #"),
        ("sep=;\n" + GOOD.replace(",", ";"), None),
        ("sep=,\r\n" + GOOD, None),
        (GOOD.replace("kind\n", "kind,\n").replace("a\n", "a,\n").replace("b\n", "b,\n"), None),
        (GOOD.replace("a\n", "a,\n").replace("b\n", "b,\n"), None),
    ],
)
def test_lines_above_the_header_and_delimiters_at_the_end(tmp_path, content, note):
    path = tmp_path / "t.csv"
    path.write_text(content)
    assert read_for_training(path, ReadSettings()) == read_for_prediction(path, ReadSettings()) == READ
    notes = []
    assert list(open_table(str(path), note=notes.append).names) == NAMES
    assert [note for note in notes if "delimiter" not in note] == ([notes[0]] if note else [])
    assert note is None or note in notes[0]


def test_a_header_may_begin_with_a_hash(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("#x,y\n1,2\n")
    assert open_table(str(path), note=print).names == ["#x", "y"]


FAULTY = ["1,2"] * 200


@pytest.mark.parametrize(
    ("faulty", "on_error", "left"),
    [(3, None, 197), (4, None, None), (1, "fail", None), (150, "keep", 50), (200, "keep", None)],
)
def test_training_leaves_a_few_faulty_lines_out_and_says_so(tmp_path, faulty, on_error, left):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,y", *["1,2,3"] * faulty, *["1,2"] * (200 - faulty)]))
    notes = []
    if left is None:
        with pytest.raises(DataError, match=":2: 3 cells, but the header has 2") as caught:
            read_table(str(path), note=notes.append, on_error=on_error)
        assert ("data.on_error=keep" in caught.value.hint) is (on_error != "keep")
        assert faulty == 1 or caught.value.details[-1] == f"{faulty} of 200 rows cannot be read"
        return
    table = read_table(str(path), note=notes.append, on_error=on_error)
    assert table.data.num_rows == left
    assert table.row_number(0) == faulty + 1
    assert notes[0].startswith(
        f"{path}: {faulty} of 200 rows cannot be read and are left out (line 2: 3 cells"
    )


@pytest.mark.parametrize("before", ["", "0\tu\tmore\ta\t5\n", '9\tu\t"two\nlines"\ta\n'])
@pytest.mark.parametrize(("inner", "is_noted"), [("4\tv\trow\tb\n", True), ("a line of a letter\n", False)])
@pytest.mark.parametrize("block", [500, 2**20])
def test_a_cell_that_holds_many_rows_is_noted_once(tmp_path, monkeypatch, before, inner, is_noted, block):
    monkeypatch.setattr(reader, "BLOCK", block)
    path = tmp_path / "t.tsv"
    cell = f'1\tu\t"say ""so""\n{inner * 38}the end"\ta\n'
    path.write_text("\t".join(NAMES) + "\n" + before + "2\tu\tx\tb\n" * 10 + cell * 2)
    line = 12 + before.count("\n")
    note = f"{path}: the cell at line {line} spans 40 lines: a quote that is not closed?"
    for read in (read_for_training, read_for_prediction):
        notes = []
        read(path, ReadSettings(), on_error="keep", notes=notes)
        assert [text for text in notes if "cannot be read" not in text] == [note] * is_noted


def test_files_of_several_formats_are_one_table(tmp_path):
    (tmp_path / "9.csv").write_text("x,y\n1,a\n")
    (tmp_path / "10.jsonl").write_text('{"y": "b", "x": 2}\n')
    parquet.write_table(pa.table({"x": [3], "y": ["c"]}), tmp_path / "11.parquet")
    feather.write_feather(pa.table({"x": [4], "y": ["d"]}), tmp_path / "12.feather")
    with pa.ipc.new_stream(
        str(tmp_path / "13.arrow"), pa.schema([("y", "string"), ("x", "int64")])
    ) as stream:
        stream.write_table(pa.table({"y": ["e"], "x": [5]}))
    (tmp_path / ".hidden.csv").write_text("z\n1\n")
    table = read_table(str(tmp_path), note=print)
    assert strings(table.data["x"]).tolist() == list("12345")
    assert table.data["y"].to_pylist() == list("abcde")
    (tmp_path / "14.csv").write_text("x,z\n1,a\n")
    with pytest.raises(DataError, match="have different columns") as caught:
        read_table(str(tmp_path), note=print)
    assert caught.value.details[0].startswith("`y` is missing in")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,2\n")
    table = open_table(str(path), note=print)
    path.write_text("y,x\n1,2,\n")
    with pytest.raises(DataError, match="has been written since"):
        list(table.batches())


@pytest.mark.parametrize(
    ("name", "start", "line"), [("t.jsonl.gz", b'{"x": "', 1), ("t.csv.gz", b"x,y\n1,2\n", 3)]
)
def test_a_long_line_of_text_is_an_error(tmp_path, monkeypatch, name, start, line):
    for module in ("byte_source", "csv"):
        monkeypatch.setattr(f"flowgmm_cli.data.readers.{module}.MAX_RECORD", 2**20)
    path = tmp_path / name
    path.write_bytes(gzip.compress(start + b"a" * 2**22))
    with pytest.raises(DataError, match=rf"{name}:{line}: the line has more than 1 MiB"):
        list(open_table(str(path), note=print).batches())


@pytest.mark.parametrize("name", ["t.xlsx", "t.docx", "t"])
def test_other_types_of_files(tmp_path, name):
    path = tmp_path / name
    path.write_text("x")
    with pytest.raises(DataError, match="cannot be read as a table") as caught:
        open_table(str(path), note=print)
    assert ("save the sheet as csv" if name == "t.xlsx" else ".parquet") in caught.value.hint


def test_the_header_of_a_wide_table_takes_linear_time(tmp_path):
    """Twice the columns cost twice the calls; a search for equal names among all others would cost more."""
    path = tmp_path / "t.csv"
    calls = []
    for width in (2_000, 4_000):
        path.write_text(",".join(f"g{i}" for i in range(width)) + "\n" + ",".join("1" * width) + "\n")
        comparisons = Counting.comparisons = 0
        names = column_names([Counting(f"g{i}") for i in range(width)], where="t.csv")
        comparisons = Counting.comparisons
        assert len(names) == read_table(str(path), note=print).data.num_columns == width
        calls.append(comparisons)
    assert calls[1] <= 3 * calls[0] + 100


class Counting(str):
    """A name that counts how often it is compared."""

    comparisons = 0
    __hash__ = str.__hash__

    def strip(self, *args):
        """Stay of this class."""
        return self

    def __eq__(self, other):
        Counting.comparisons += 1
        return str.__eq__(self, other)
