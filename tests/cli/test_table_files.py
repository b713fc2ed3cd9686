"""What trains also predicts: the same files, the same rows, the same complaints."""

import gzip

import numpy as np
import pytest

HEADER = "x1,x2,kind"
SHORT = ["--no-auto", "train.epochs=1"]


@pytest.fixture
def lines():
    """90 lines of three classes, two in three labelled."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 2)) + 4 * (np.arange(90)[:, None] % 3)
    return [f"{x:.3f},{y:.3f},{'abc'[i % 3] if i % 3 != i % 9 else ''}" for i, (x, y) in enumerate(rows)]


def test_a_stray_quote_loses_no_other_line(flowgmm, tmp_path):
    texts = [f"{['red apple', 'blue sea', 'green leaf'][i % 3]} {i},{'abc'[i % 3]}" for i in range(90)]
    texts[10], texts[50] = '"' + texts[10], '"' + texts[50]
    (tmp_path / "q.csv").write_text("\n".join(["text,kind", *texts]))
    trained = flowgmm("train", "text", "data.path=q.csv", "data.text=text", "data.label=kind", *SHORT)
    assert "2 of 90 rows cannot be read and are left out" in trained.err
    assert "line 12: a quote is opened and never closed, line 52: a quote is opened" in trained.err
    predicted = flowgmm("predict", "--data", "q.csv", "--save", "p.csv")
    assert "written p.csv: 90 rows" in predicted.err
    assert "line 12" in predicted.err
    assert "line 52" in predicted.err


def test_compressed_files_train_and_start_a_recipe(flowgmm, tmp_path, lines):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *lines]).encode()))
    flowgmm("train", "csv", "data.path=a.csv.gz", "data.label=kind", *SHORT)
    flowgmm("init", "a.csv.gz", "--label", "kind", "--save", "my.yaml")
    flowgmm("predict", "--data", "a.csv.gz", "--save", "p.csv")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [HEADER, *(f"{line}," for line in lines)], None),
        (lambda lines: ["# made by tool v1", HEADER, *lines], "lines above the header that begin with #"),
        (lambda lines: ["sep=;", *(line.replace(",", ";") for line in [HEADER, *lines])], None),
    ],
)
def test_trailing_delimiters_comments_and_separator_lines(flowgmm, tmp_path, lines, change, words):
    (tmp_path / "t.csv").write_text("\n".join(change(lines)))
    trained = flowgmm("train", "csv", "data.path=t.csv", "data.label=kind", "--dry-run")
    assert "2 features" in trained.err
    assert words is None or words in trained.err


def test_a_european_table_needs_two_keys(flowgmm, tmp_path, lines):
    text = "\n".join([HEADER, *lines]).replace(",", ";").replace(".", ",")
    (tmp_path / "t.csv").write_bytes(text.replace("a", "ä").encode("cp1252"))
    words = ["train", "csv", "data.path=t.csv", "data.label=kind", "--dry-run"]
    refused = flowgmm(*words, code=5)
    assert "data.encoding=cp1252" in refused.err
    refused = flowgmm(*words, "data.encoding=cp1252", code=5)
    assert "data.decimal" in refused.err
    flowgmm(*words, "data.encoding=cp1252", 'data.decimal=","')


def test_faulty_lines_stop_the_training_or_are_left_out(flowgmm, tmp_path, lines):
    (tmp_path / "t.csv").write_text("\n".join([HEADER, *(f"{line},more" for line in lines[:9]), *lines[9:]]))
    words = ["train", "csv", "data.path=t.csv", "data.label=kind", "--dry-run"]
    refused = flowgmm(*words, code=5)
    assert "t.csv:2: 4 cells, but the header has 3" in refused.err
    assert "9 of 90 rows cannot be read" in refused.err
    flowgmm(*words, "data.on_error=keep")


def test_init_reads_other_encodings_and_writes_them_into_the_recipe(flowgmm, tmp_path, lines):
    text = "\n".join([HEADER, *lines]).replace(",", ";").replace(".", ",").replace("a", "ä")
    (tmp_path / "t.csv").write_bytes(text.encode("cp1252"))
    refused = flowgmm("init", "t.csv", "--label", "kind", code=5)
    assert "--encoding cp1252" in refused.err
    flowgmm("init", "t.csv", "--label", "kind", "--encoding", "cp1252")
    recipe = (tmp_path / "t.yaml").read_text()
    assert '  encoding: cp1252\n  decimal: ","\n' in recipe
    flowgmm("train", "t.yaml", "--dry-run")


@pytest.mark.parametrize(
    ("cells", "keys"),
    [
        (["0,126", "-4,640"], '  decimal: ","\n'),
        (["1.234,5", "7,25"], '  decimal: ","\n  thousands: "."\n'),
        (["1,234.5", "7.25"], '  thousands: ","\n'),
        (["1,234", "7,250"], None),
    ],
)
def test_init_does_not_guess_what_a_comma_means(flowgmm, tmp_path, cells, keys):
    rows = [f"{cells[i % 2]};{i % 7};{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["x;y;kind", *rows]))
    flowgmm("init", "t.csv", "--label", "kind")
    recipe = (tmp_path / "t.yaml").read_text()
    if keys is None:
        assert "decimal:" not in recipe
        assert "thousands:" not in recipe
    else:
        assert f"label: kind  # an empty cell is an unlabelled row\n{keys}" in recipe


def test_the_hints_for_marks_and_encodings_work_as_typed(flowgmm, run, tmp_path):
    (tmp_path / "marks.csv").write_text("x1;x2\n1,5;2,5\n0,5;1\n", encoding="utf-8")
    outcome = flowgmm("predict", "marks.csv", code=5)
    assert "`1,5`, with a decimal comma" in outcome.err
    spec = '{use: csv, path: FILE, decimal: ","}'
    assert spec in outcome.err
    assert len(flowgmm("predict", "--data", spec.replace("FILE", "marks.csv")).out.splitlines()) == 3
    (tmp_path / "latin.csv").write_bytes("x1,x2,größe\n1,2,3\n".encode("cp1252"))
    outcome = flowgmm("predict", "latin.csv", code=5)
    spec = "{use: csv, path: FILE, encoding: cp1252}"
    assert spec in outcome.err
    flowgmm("predict", "--data", spec.replace("FILE", "latin.csv"))
