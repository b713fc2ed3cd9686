"""Memory does not grow with the number of rows."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers.open import open_rows
from flowgmm_cli.data.readers.schema import InputSchema

SCHEMA = InputSchema(tuple(Column(name, "numeric") for name in "abcd"), ("u",))
LINE = b"0.123456,1.234567,-2.345678,3.456789\n"


def make(path, kind, count):
    if kind in ("csv", "quoted", "careful"):
        line = {"csv": LINE, "quoted": b'"0.5",' + LINE[9:], "careful": b"NOPE," + LINE[9:]}[kind]
        with path.open("wb") as file:
            file.write(b"a,b,c,d\n")
            for _ in range(count // 1000):
                file.write(line * 1000)
    elif kind == "jsonl":
        path.write_bytes((json.dumps(dict.fromkeys("abcd", 0.123456)) + "\n").encode() * count)
    elif kind == "parquet":
        values = np.random.default_rng(0).normal(size=count)
        pq.write_table(pa.table(dict.fromkeys("abcd", values)), path, row_group_size=count)
    else:
        values = np.random.default_rng(0).normal(size=count)
        (np.savez_compressed if kind == "zipped" else np.savez)(path, **dict.fromkeys("abcd", values))


def peak(path, kind):
    """Most bytes that Python and Arrow held at once while reading."""
    name = {"quoted": "csv", "careful": "csv", "zipped": "npz"}.get(kind, kind)
    pool = pa.default_memory_pool()
    tracemalloc.start()
    most, count = 0, 0
    for chunk in open_rows(str(path), SCHEMA, context=DataContext(), format=name, on_error="keep"):
        count += len(chunk)
        most = max(most, pool.bytes_allocated())
    most += tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most, count


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "quoted", "careful", "jsonl", "parquet", "npz", "zipped"])
def test_ten_times_the_rows_take_no_more_memory(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("flowgmm_cli.data.readers.csv.BLOCK", 2**17)
    least = 200_000 if kind == "parquet" else 10_000 if kind in ("careful", "jsonl") else 40_000
    peaks = []
    for count in (least, 10 * least):
        path = tmp_path / (f"{count}.npz" if kind in ("npz", "zipped") else f"{count}.data")
        make(path, kind, count)
        most, read = peak(path, kind)
        assert read == count
        peaks.append(most)
    assert peaks[1] < 1.25 * peaks[0] + 2**21
