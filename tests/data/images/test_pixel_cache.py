import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.images import pixel_cache
from flowgmm_cli.data.images.pixel_cache import PixelCache

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 4), dtype=np.uint8)
ALL = np.arange(6)


@pytest.fixture
def place(tmp_path):
    def make(content="files", settings="rule"):
        return PixelCache(
            DataContext(cache_dir=str(tmp_path / "cache")), where="photos", content=content, settings=settings
        )

    return make


def write(place, rows=ALL, kept=ALL, notes=("said",)):
    writer = place.create(PIXELS.shape)
    writer.pixels[:] = PIXELS
    return writer.finish(kept, rows, notes)


def test_an_entry_is_reused_until_files_or_settings_change(place):
    assert place().load() is None
    write(place())
    cached = place().load()
    np.testing.assert_array_equal(cached.pixels, PIXELS)
    assert (cached.kept.tolist(), cached.notes) == (ALL.tolist(), ("said",))
    assert isinstance(cached.pixels, np.memmap)
    assert place(content="changed").load() is None
    assert place(settings="other").load() is None


def test_gaps_of_damaged_images_are_closed(place):
    written = write(place(), rows=np.array([0, 2, 5]), kept=np.array([10, 12, 15]))
    for copy in (written, place().load()):
        np.testing.assert_array_equal(copy.pixels, PIXELS[[0, 2, 5]])
        assert copy.kept.tolist() == [10, 12, 15]


def test_entries_of_changed_files_are_removed(place):
    write(place(settings="a"))
    write(place(settings="b"))
    assert place(settings="a").load()
    write(place(content="changed"))
    assert place(settings="a").load() is None
    assert place(content="changed").load()
    assert len(list(place().folder.parent.iterdir())) == 1


def test_unfinished_entries_are_ignored(place):
    writer = place().create(PIXELS.shape)
    assert place().load() is None
    writer.discard()
    assert list(place().folder.parent.iterdir()) == []


@pytest.mark.parametrize("file", ["pixels.npy", "about.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY"])
def test_damaged_entries_are_written_again(place, file, content):
    write(place())
    (place().folder / file).write_bytes(content)
    assert place().load() is None
    write(place())
    np.testing.assert_array_equal(place().load().pixels, PIXELS)


def test_of_two_writers_the_first_wins(place):
    first, second = place().create(PIXELS.shape), place().create(PIXELS.shape)
    for writer in (first, second):
        writer.pixels[:] = PIXELS
    first.finish(ALL, ALL, ["first"])
    assert second.finish(ALL, ALL, ["second"]).notes == ("first",)
    assert len(list(place().folder.parent.iterdir())) == 1


def test_a_full_disk_is_seen_before_writing(place, monkeypatch):
    class Usage:
        free = 100

    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(OSError, match="too little space"):
        place().create(PIXELS.shape)
