import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.images import copies
from flowgmm_cli.data.images.copies import CopyPlace

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4), dtype=np.uint8)
ALL = np.arange(6)


@pytest.fixture
def place(tmp_path):
    def make(content="files", rule="rule"):
        return CopyPlace(
            DataContext(cache_dir=str(tmp_path / "cache")), where="photos", content=content, rule=rule
        )

    return make


def write(place, rows=ALL, kept=ALL, notes=("said",)):
    writer = place.start(PIXELS.shape)
    writer.pixels[:] = PIXELS
    return writer.finish(kept, rows, notes)


def test_a_copy_is_found_again_until_files_or_rule_change(place):
    assert place().find() is None
    write(place())
    found = place().find()
    np.testing.assert_array_equal(found.pixels, PIXELS)
    assert (found.kept.tolist(), found.notes) == (ALL.tolist(), ("said",))
    assert isinstance(found.pixels, np.memmap)
    assert place(content="changed").find() is None
    assert place(rule="other").find() is None


def test_holes_of_damaged_images_are_closed(place):
    made = write(place(), rows=np.array([0, 2, 5]), kept=np.array([10, 12, 15]))
    for copy in (made, place().find()):
        np.testing.assert_array_equal(copy.pixels, PIXELS[[0, 2, 5]])
        assert copy.kept.tolist() == [10, 12, 15]


def test_copies_of_files_that_have_changed_are_removed(place):
    write(place(rule="a"))
    write(place(rule="b"))
    assert place(rule="a").find()
    write(place(content="changed"))
    assert place(rule="a").find() is None
    assert place(content="changed").find()
    assert len(list(place().folder.parent.iterdir())) == 1


def test_half_written_copies_are_none(place):
    writer = place().start(PIXELS.shape)
    assert place().find() is None
    writer.abandon()
    assert list(place().folder.parent.iterdir()) == []


@pytest.mark.parametrize("file", ["pixels.npy", "about.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY"])
def test_damaged_copies_are_written_anew(place, file, content):
    write(place())
    (place().folder / file).write_bytes(content)
    assert place().find() is None
    write(place())
    np.testing.assert_array_equal(place().find().pixels, PIXELS)


def test_of_two_writers_the_first_wins(place):
    first, second = place().start(PIXELS.shape), place().start(PIXELS.shape)
    for writer in (first, second):
        writer.pixels[:] = PIXELS
    first.finish(ALL, ALL, ["first"])
    assert second.finish(ALL, ALL, ["second"]).notes == ("first",)
    assert len(list(place().folder.parent.iterdir())) == 1


def test_a_full_disk_is_seen_before_writing(place, monkeypatch):
    class Usage:
        free = 100

    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(OSError, match="too little space"):
        place().start(PIXELS.shape)
