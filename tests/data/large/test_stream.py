"""Rows in the order of an epoch, read ahead by a thread."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large import order, stream
from flowgmm_cli.data.large.stream import RowStream
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.errors import DataError


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("rows")]


@pytest.fixture
def make(config, context, folder, monkeypatch):
    """A stream of the rows, whose first form is the number in the table, and all rows in order."""
    monkeypatch.setattr(stream, "BUFFER_ROWS", 500)
    monkeypatch.setattr(order, "_SHORTEST", 50)

    def build(**parameters):
        given = {"labels": LabelsConfig(count=30), "split": SplitConfig(test=0.1, val=0.05), **parameters}
        data = config(folder, **given)
        rows = load_rows(data, context)
        preprocessor = fit_preprocessor(rows, data, context)
        whole = load_rows(config(folder, memory=2.0, split=SplitConfig(test=0, val=0)), context).train

        def forms(part):
            return torch.from_numpy(part.ids - 1), preprocessor.apply(part, context).x

        return RowStream(rows.large, forms, bytes=32), preprocessor.apply(whole, context).x

    yield build
    assert not threads()


def test_rows_are_read_as_they_are_in_memory_each_once_in_an_epoch(make):
    rows, x = make()
    draw = rows.drawn(0)
    assert len(draw) == len(rows) == 2400 - len(rows.source.left_out)
    seen = []
    for start in range(0, len(draw), 70):
        number, found = draw.rows(0, start, min(start + 70, len(draw)))
        assert torch.equal(found, x[number])
        seen += number.tolist()
    assert sorted(seen) == sorted(set(range(2400)) - set(rows.source.left_out.tolist()))
    draw.close()


def test_places_can_be_asked_for_in_any_order(make):
    rows, _ = make()
    straight, jumping = rows.drawn(3), rows.drawn(3)
    parts = {
        (epoch, at): straight.rows(epoch, at, at + 300)[0] for epoch in (0, 1) for at in range(0, 1800, 300)
    }
    for key in ((1, 900), (0, 0), (0, 1500), (1, 900), (0, 300)):
        assert torch.equal(jumping.rows(*key, key[1] + 300)[0], parts[key])
    assert not torch.equal(parts[0, 0], parts[1, 0])
    straight.close()
    jumping.close()


def test_rows_with_a_visible_label_can_be_left_out(make):
    rows, _ = make()
    labelled = np.array([0, 5, 9])
    draw = rows.drawn(0, without=labelled)
    assert len(draw) == len(rows) - 3
    number = draw.rows(0, 0, len(draw))[0].tolist()
    assert not set(number) & set(rows.source.resident[labelled].tolist())
    draw.close()


def test_two_buffers_are_kept_at_most_and_the_next_is_read_ahead(make):
    rows, _ = make()
    draw = rows.drawn(0)
    assert not threads()  # nothing is read before it is asked for
    for start in range(0, len(draw) - 60, 60):
        draw.rows(0, start, start + 60)
        assert len(draw._buffers) == 2
    draw.rows(0, len(draw) - 10, len(draw))
    assert (1, 0) in draw._buffers  # of the next epoch
    assert threads()
    draw.close()
    assert not threads()
    draw.rows(0, 0, 10)  # a closed one begins again
    draw.close()


def test_closing_does_not_wait_for_a_whole_buffer(make):
    rows, _ = make()
    read = []

    def slowly(part):
        time.sleep(0.05)
        read.append(part)
        return rows.make(part)

    draw = RowStream(rows.source, slowly, bytes=32).drawn(0)
    draw.rows(0, 0, 10)
    before = len(read)
    draw.close()
    assert len(read) <= before + 1


def test_a_file_that_breaks_is_named(make, folder):
    rows, _ = make()
    draw = rows.drawn(0)
    draw.rows(0, 0, 10)
    for file in folder.glob("*.parquet"):
        about = file.stat()
        file.write_bytes(b"PAR1" + bytes(about.st_size - 4))
        import os

        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.raises(DataError, match=r"part-\d\.parquet, row group \d cannot be read") as error:
        draw.rows(0, len(draw) - 10, len(draw))
    assert "write it again" in error.value.hint
    draw.close()


def test_a_row_that_cannot_be_used_is_named_with_its_file(make):
    rows, _ = make()

    def refuse(part):
        raise DataError("too large", hint="clip it")

    draw = RowStream(rows.source, refuse, bytes=32).drawn(0)
    with pytest.raises(DataError, match=r"part-\d\.parquet, row group \d: too large") as error:
        draw.rows(0, 0, 10)
    assert error.value.hint == "clip it"
    draw.close()


def test_buffers_are_as_long_as_the_memory_allows(make, monkeypatch):
    monkeypatch.setattr(stream, "_LEAST", 64)
    rows, _ = make()
    for memory, longest in ((0, 64), (8 * 32 * 200, 200), (2**30, 500)):
        source = rows.source.__class__(**{**vars(rows.source), "memory": memory})
        draw = RowStream(source, rows.make, bytes=32).drawn(0)
        ends = draw._shuffle.ends(0)
        assert np.diff(ends, prepend=0).max() <= longest + 50
        assert len(ends) == -(-len(rows) // longest)
