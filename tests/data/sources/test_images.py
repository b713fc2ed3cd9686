"""The source `images` as a whole; each kind of place has a file of its own."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import DataError
from flowgmm_cli.recipe.load import parse_component

DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.integers(0, 256, (40, 6, 5), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Twenty images of each of two classes."""
    for index, pixels in enumerate(IMAGES):
        path = tmp_path / "photos" / ("cat" if index % 2 else "dog") / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def test_rows_divide_like_those_of_any_source(component, context, folder):
    data = component("data", "images", path=str(folder), labels={"per_class": 3})
    rows = load_rows(data, context)
    assert rows.columns[0].shape == (6, 5)
    assert [len(part) for part in (rows.train, rows.val, rows.test)] == [30, 2, 8]
    assert (rows.train.labels >= 0).sum() == 6
    for part in (rows.train, rows.val, rows.test):
        numbers = [int(name[4:6]) for name in part.ids]
        np.testing.assert_array_equal(part.columns["image"], IMAGES[numbers])
        assert part.extras["path"].tolist() == part.ids.tolist()


@pytest.mark.parametrize("cache", ["auto", "never"])
def test_pixels_on_the_disk_make_the_same_rows(component, context, folder, cache):
    settings = {"path": str(folder), "labels": {"per_class": 3}}
    rows = load_rows(component("data", "images", **settings), context)
    lazy = load_rows(component("data", "images", **settings, memory=0.0, cache=cache), context)
    assert isinstance(lazy.train.columns["image"], LazyPixels)
    assert lazy.fingerprint == rows.fingerprint
    for expected, other in [(rows.train, lazy.train), (rows.val, lazy.val), (rows.test, lazy.test)]:
        assert expected.ids.tolist() == other.ids.tolist()
        assert expected.labels.tolist() == other.labels.tolist()
        np.testing.assert_array_equal(expected.columns["image"], np.asarray(other.columns["image"]))


def test_other_splits_may_have_other_paths(load, folder, tmp_path):
    (tmp_path / "more/dog").mkdir(parents=True)
    Image.fromarray(IMAGES[0]).save(tmp_path / "more/dog/1.png")
    data = load(folder, test_path=str(tmp_path / "more"), val_path=str(folder))
    assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 40, "test": 1, "val": 40}
    assert data.splits["test"].ids.tolist() == ["test:dog/1.png"]
    assert data.splits["test"].labels.tolist() == [1]
    ids = [row_id for rows in data.splits.values() for row_id in rows.ids]
    assert len(set(ids)) == len(ids)


def test_files_and_arrays_do_not_mix(load, folder, tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.arange(40) % 2)
    with pytest.raises(DataError, match=r"data.test_path and data.path are of different kinds"):
        load(folder, test_path=str(tmp_path / "a.npz"))


def test_damaged_files_take_their_labels_and_ids_with_them(load, folder):
    (folder / "cat/05.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/05\.png: the file is empty"):
        load(folder, on_error="fail")
    data = load(folder)
    rows = data.splits["train"]
    assert (len(rows), len(rows.labels), len(rows.extras["path"])) == (39, 39, 39)
    assert "cat/05.png" not in rows.ids
    for name, pixels, label in zip(rows.ids, rows.columns["image"], rows.labels, strict=True):
        np.testing.assert_array_equal(pixels, IMAGES[int(name[4:6])])
        assert data.class_names[label] == name[:3]
    assert any("1 of 40 images cannot be read and are left out (cat/05.png" in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos/cat/01.png", "neither a folder of images nor a file"),
        ("fotos/cat/x/y", "no such file"),
        ("phot.npz", "no such file"),
    ],
)
def test_places_without_images(load, folder, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        load(tmp_path / name)


@pytest.mark.parametrize("size", [None, 0, -1, [3], [3, 4, 5], [0, 4], 1.5])
def test_resizing_needs_a_size(size):
    with pytest.raises(
        ValidationError, match="resize is crop, and size is not given" if size is None else "size"
    ):
        ImagesConfig(path="x", size=size, resize="crop")


def test_defaults_suit_images():
    data = parse_component("{use: images, path: photos}", "data", source="a test")
    assert [part.use for part in data.config.transforms] == ["pca"]
    assert [part.use for part in data.config.views.weak] == ["affine"]
    assert [part.use for part in data.config.views.strong] == ["affine", "noise"]
