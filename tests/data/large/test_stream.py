"""Rows in the order of an epoch are read ahead by a thread."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large import shuffle, stream
from flowgmm_cli.data.large.stream import RowStream
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.errors import DataError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rows")]


@pytest.fixture
def make(config, context, folder, monkeypatch):
    """Return a stream whose first tensor has the row indices, and the features of all rows in order."""
    monkeypatch.setattr(stream, "MAX_BUFFER_ROWS", 500)
    monkeypatch.setattr(shuffle, "_MIN_RANGE_ROWS", 50)

    def build(**parameters):
        parameters = {
            "labels": LabelsConfig(count=30),
            "split": SplitConfig(test=0.1, val=0.05),
            **parameters,
        }
        data = config(folder, **parameters)
        rows = load_rows(data, context)
        preprocessor = fit_preprocessor(rows, data, context)
        whole = load_rows(config(folder, memory=2.0, split=SplitConfig(test=0, val=0)), context).train

        def to_tensors(part):
            return torch.from_numpy(part.ids - 1), preprocessor.apply(part, context).x

        return RowStream(rows.large, to_tensors, row_bytes=32), preprocessor.apply(whole, context).x

    yield build
    assert not threads()


def test_an_epoch_has_every_row_once_with_the_features_of_a_table_in_memory(make):
    rows, x = make()
    reader = rows.shuffle(0)
    assert len(reader) == len(rows) == 2400 - len(rows.source.left_out)
    seen = []
    for start in range(0, len(reader), 70):
        number, features = reader.rows(0, start, min(start + 70, len(reader)))
        assert torch.equal(features, x[number])
        seen += number.tolist()
    assert sorted(seen) == sorted(set(range(2400)) - set(rows.source.left_out.tolist()))
    reader.close()


def test_rows_can_be_read_in_any_order(make):
    rows, _ = make()
    straight, jumping = rows.shuffle(3), rows.shuffle(3)
    parts = {
        (epoch, at): straight.rows(epoch, at, at + 300)[0] for epoch in (0, 1) for at in range(0, 1800, 300)
    }
    for key in ((1, 900), (0, 0), (0, 1500), (1, 900), (0, 300)):
        assert torch.equal(jumping.rows(*key, key[1] + 300)[0], parts[key])
    assert not torch.equal(parts[0, 0], parts[1, 0])
    straight.close()
    jumping.close()


def test_labelled_rows_can_be_left_out(make):
    rows, _ = make()
    labelled = np.array([0, 5, 9])
    reader = rows.shuffle(0, without=labelled)
    assert len(reader) == len(rows) - 3
    number = reader.rows(0, 0, len(reader))[0].tolist()
    assert not set(number) & set(rows.source.resident[labelled].tolist())
    reader.close()


def test_there_are_at_most_two_buffers_and_the_next_is_read_ahead(make):
    rows, _ = make()
    reader = rows.shuffle(0)
    assert not threads()  # nothing is read before the first call
    for start in range(0, len(reader) - 60, 60):
        reader.rows(0, start, start + 60)
        assert len(reader._buffers) == 2
    reader.rows(0, len(reader) - 10, len(reader))
    assert (1, 0) in reader._buffers  # of the next epoch
    assert threads()
    reader.close()
    assert not threads()
    reader.rows(0, 0, 10)  # a closed reader starts again
    reader.close()


def test_closing_does_not_wait_for_a_whole_buffer(make):
    rows, _ = make()
    read = []

    def slowly(part):
        time.sleep(0.05)
        read.append(part)
        return rows.make(part)

    reader = RowStream(rows.source, slowly, row_bytes=32).shuffle(0)
    reader.rows(0, 0, 10)
    before = len(read)
    reader.close()
    assert len(read) <= before + 1


def test_a_damaged_file_is_named(make, folder):
    rows, _ = make()
    reader = rows.shuffle(0)
    reader.rows(0, 0, 10)
    for file in folder.glob("*.parquet"):
        status = file.stat()
        file.write_bytes(b"PAR1" + bytes(status.st_size - 4))
        import os

        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"part-\d\.parquet, row group \d cannot be read") as error:
        reader.rows(0, len(reader) - 10, len(reader))
    assert "write it again" in error.value.hint
    reader.close()


def test_an_unusable_row_is_reported_with_its_file(make):
    rows, _ = make()

    def refuse(part):
        raise DataError("too large", hint="clip it")

    reader = RowStream(rows.source, refuse, row_bytes=32).shuffle(0)
    with pytest.raises(DataError, match=r"part-\d\.parquet, row group \d: too large") as error:
        reader.rows(0, 0, 10)
    assert error.value.hint == "clip it"
    reader.close()


def test_buffers_are_as_long_as_the_memory_allows(make, monkeypatch):
    monkeypatch.setattr(stream, "_MIN_BUFFER_ROWS", 64)
    rows, _ = make()
    for memory, longest in ((0, 64), (8 * 32 * 200, 200), (2**30, 500)):
        source = rows.source.__class__(**{**vars(rows.source), "memory": memory})
        reader = RowStream(source, rows.make, row_bytes=32).shuffle(0)
        ends = reader._shuffle.ends(0)
        assert np.diff(ends, prepend=0).max() <= longest + 50
        assert len(ends) == -(-len(rows) // longest)
