import gzip
import json

import pytest

from flowgmm_cli.errors import DataError


def test_every_line_is_a_text_also_a_blank_line(rows, read, texts, write):
    path = write("\ufeffone\r\n\n  two, 2\nüç", "t.txt")
    for size in (1, 3, 100):
        result = read(rows(path, texts, chunk_rows=size))
        assert result["text"] == ["one", "", "  two, 2", "üç"]
        assert result.ids == ["1", "2", "3", "4"]
        assert result.labels == [-1] * 4
    assert read(rows(write(gzip.compress(b"a\nb\n"), "t.txt.gz"), texts))["text"] == ["a", "b"]


def test_batches_of_long_lines_have_few_rows(rows, read, texts, write, monkeypatch):
    monkeypatch.setattr("flowgmm_cli.data.readers.byte_source._MAX_BATCH", 1000)
    lines = ["x" * 600, "y" * 600, "z"] * 3
    for suffix, content in (("txt", lines), ("jsonl", [json.dumps({"text": line}) for line in lines])):
        reader = rows(write("\n".join(content), f"t.{suffix}"), texts)
        assert max(map(len, reader)) == 3
        assert read(reader)["text"] == lines


def test_lines_that_are_not_utf8(rows, read, texts, write):
    path = write(b"a\nb\xe4\nc\n", "t.txt")
    with pytest.raises(DataError) as caught:
        list(rows(path, texts, chunk_rows=1))
    assert caught.value.message == f"{path}:2: not UTF-8 text"
    result = read(rows(path, texts, chunk_rows=1, on_error="keep"))
    assert result.problems == {1: "line 2: not UTF-8 text"}
    assert result["text"] == ["a", "", "c"]


def test_a_model_of_a_table_needs_more_than_texts(rows, table, texts, write):
    with pytest.raises(DataError, match="nothing but texts, but the model reads columns: x, colour, y"):
        rows(write("a\n", "t.txt"), table)
    with pytest.raises(DataError, match="has no rows"):
        list(rows(write("", "t.txt"), texts))
