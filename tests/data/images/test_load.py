import os
from dataclasses import replace

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data import cache
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.images.encoded_images import EncodedImages, list_files
from flowgmm_cli.data.images.load import load_images
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 5, 4), dtype=np.uint8)


def config(**settings):
    return ImagesConfig(path="images", **settings)


NEVER, ON_DISK = config(cache="never", memory=0.0), config(memory=0.0)


@pytest.fixture
def pictures(save):
    for index, pixels in enumerate(PIXELS):
        folder = save(f"{index}.png", pixels).parent
    return lambda: EncodedImages.in_folder(folder, list_files(folder).files)


@pytest.fixture
def damage(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / "images" / name
            path.write_bytes(path.read_bytes()[:60])

    return make


@pytest.mark.parametrize("options", [config(), config(cache="always"), ON_DISK, NEVER])
def test_pixels_are_the_same_wherever_they_are_kept(pictures, context, options):
    for _ in range(2):  # a second time from the copy, if there is one
        loaded = load_images(pictures(), options, context)
        assert isinstance(loaded.pixels, LazyPixels) is (options.memory == 0)
        np.testing.assert_array_equal(np.asarray(loaded.pixels), PIXELS)
        assert loaded.kept.tolist() == list(range(20))


def test_a_cache_saves_the_decoding_until_a_file_changes(pictures, context, save, monkeypatch):
    load_images(pictures(), ON_DISK, context)
    with monkeypatch.context() as patch:
        patch.setattr("flowgmm_cli.data.images.load.read_header", lambda content: pytest.fail("looked at"))
        patch.setattr("flowgmm_cli.data.images.encoded_images.decode", lambda *_: pytest.fail("decoded"))
        np.testing.assert_array_equal(np.asarray(load_images(pictures(), ON_DISK, context).pixels), PIXELS)
    path = save("3.png", 255 - PIXELS[3])
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(
        np.asarray(load_images(pictures(), ON_DISK, context).pixels)[3], 255 - PIXELS[3]
    )


def test_the_place_of_the_cache_is_noted(pictures, context, notes, tmp_path):
    load_images(pictures(), ON_DISK, context)
    (file,) = (tmp_path / "cache").rglob("*.features")
    assert notes == [f"decoded images are kept in {file} (0.0 GiB)"]


def test_small_sets_leave_nothing_on_the_disk(pictures, context, tmp_path):
    load_images(pictures(), config(), context)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("memory", [0.0, 1.0])
@pytest.mark.parametrize("cache", ["auto", "never", "always"])
@pytest.mark.parametrize("policy", [{"on_error": "keep"}, {"on_corrupt": "skip"}])
def test_damaged_images_are_left_out_on_request(pictures, damage, context, memory, cache, policy):
    damage("0.png", "7.png", "19.png")
    options = config(memory=memory, cache=cache, **policy)
    for _ in range(2):
        loaded = load_images(pictures(), options, context)
        good = [index for index in range(20) if index not in (0, 7, 19)]
        assert loaded.kept.tolist() == good
        np.testing.assert_array_equal(np.asarray(loaded.pixels), PIXELS[good])
        skipped = [note for note in loaded.notes if "left out" in note]
        assert len(skipped) == 1
        assert "3 of 20 images cannot be read and are left out (0.png: it cannot be decoded" in skipped[0]


@pytest.mark.parametrize(
    ("policy", "is_left_out"), [({}, True), ({"on_error": "fail"}, False), ({"on_corrupt": "error"}, False)]
)
def test_a_damaged_image_among_many_is_left_out_by_default(pictures, damage, context, policy, is_left_out):
    damage("7.png")
    if is_left_out:
        assert len(load_images(pictures(), config(**policy), context).kept) == 19
    else:
        with pytest.raises(DataError, match=r"7\.png: it cannot be decoded"):
            load_images(pictures(), config(**policy), context)


@pytest.mark.parametrize("options", [config(), ON_DISK, NEVER])
def test_damaged_images_are_named_all_at_once(pictures, damage, context, options, tmp_path):
    damage(*(f"{index}.png" for index in range(11)))
    (tmp_path / "images/11.png").write_text("no image")
    (tmp_path / "images/12.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_images(pictures(), options, context)
    assert "images, 0.png: it cannot be decoded" in caught.value.message
    assert caught.value.details[0].startswith("1.png: it cannot be decoded")
    assert caught.value.details[-1] == "13 of 20 images cannot be read"
    assert "data.on_error=keep" in caught.value.hint
    assert not list(tmp_path.glob("cache/features/*/*"))  # nothing half-written


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_no_image_left_is_an_error_even_if_they_may_be_left_out(pictures, damage, context, content, tmp_path):
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(DataError) as caught:
        load_images(pictures(), config(on_error="keep"), context)
    assert caught.value.details[-1] == "20 of 20 images cannot be read"
    assert "keep" not in caught.value.hint


def test_a_folder_that_cannot_be_written_costs_a_note(pictures, context, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    loaded = load_images(pictures(), ON_DISK, context)
    np.testing.assert_array_equal(np.asarray(loaded.pixels), PIXELS)
    assert any("cannot be written" in note for note in loaded.notes)
    assert any("decoded each time" in note for note in loaded.notes)


def test_an_interrupt_leaves_no_entry(pictures, context, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("flowgmm_cli.data.images.encoded_images.decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_images(pictures(), ON_DISK, context)
    assert not list(tmp_path.glob("cache/features/*/*"))


def test_a_file_that_goes_away_is_named_when_it_is_read(pictures, context, tmp_path):
    pixels = load_images(pictures(), NEVER, context).pixels
    (tmp_path / "images/4.png").unlink()
    np.testing.assert_array_equal(np.asarray(pixels[:4]), PIXELS[:4])
    with pytest.raises(
        DataError, match=r"4\.png could be read before, but now: it cannot be opened: No such"
    ):
        np.asarray(pixels[2:6])


def test_changes_are_counted(save, context):
    folder = save("a.png", PIXELS[0]).parent
    save("b.png", np.dstack([PIXELS[0]] * 3) + np.arange(3, dtype=np.uint8))
    loaded = load_images(
        EncodedImages.in_folder(folder, list_files(folder).files), config(channels="colour"), context
    )
    assert loaded.pixels.shape == (2, 5, 4, 3)
    assert loaded.notes == ("1 of 2 images: grey is turned into colour",)


def test_progress_is_reported(pictures, context):
    calls = []
    load_images(pictures(), NEVER, replace(context, progress=lambda *call: calls.append(call)))
    assert {what for *_, what in calls} == {"looking at images", "decoding images"}
    assert (20, 20, "decoding images") in calls


def test_the_format_of_entries_is_part_of_their_name(pictures, context, monkeypatch, notes):
    load_images(pictures(), ON_DISK, context)
    monkeypatch.setattr(cache, "_FORMAT", "other")
    load_images(pictures(), ON_DISK, context)
    assert len(set(notes)) == 2


@pytest.mark.parametrize("suffix", [".features", ".npz"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x93NUMPY", "changed"])
def test_a_damaged_copy_is_written_again_with_a_note(pictures, context, tmp_path, suffix, content, notes):
    load_images(pictures(), ON_DISK, context)
    (file,) = (tmp_path / "cache").rglob(f"*{suffix}")
    if content == "changed":
        content = bytearray(file.read_bytes())
        content[200] ^= 1
    file.write_bytes(content)
    notes.clear()
    np.testing.assert_array_equal(np.asarray(load_images(pictures(), ON_DISK, context).pixels), PIXELS)
    assert f"{file} in the cache is damaged, and is written again" in notes


def test_hashes_of_the_copy_are_those_of_the_pixels(pictures, damage, context):
    damage("3.png")
    column = [Column("image", "image", (5, 4))]
    pixels = load_images(pictures(), ON_DISK, context).pixels
    rows = Rows({"image": pixels}, np.zeros(19, np.int64), np.arange(19)).take(np.arange(19) % 2 == 0)
    plain = Rows({"image": np.asarray(rows.columns["image"])}, rows.labels, rows.ids)
    assert rows.columns["image"].hashes is not None
    assert row_hashes(rows, column).tolist() == row_hashes(plain, column).tolist()
