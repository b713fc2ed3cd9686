"""Images from outside, in folders, arrays and data specs, on their way to a model of an image column."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.api import Column
from flowgmm_cli.data.images.lazy_pixels import LazyPixels
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError

DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (7, 3, 4), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (7, 3, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1, -1])


@pytest.fixture
def images():
    """A model of one image column."""

    def make(*shape, **more):
        return InputSchema((Column("image", "image", shape),), ("ash", "oak"), label="kind", **more)

    return make


@pytest.fixture
def folder(tmp_path):
    def make(**files):
        for name, pixels in files.items():
            path = tmp_path / "images" / (name.replace("__", "/") + ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        return tmp_path / "images"

    return make


def test_the_schema_takes_the_rule_from_the_run(component):
    column = Column("image", "image", (8, 8))
    data = component("data", "images", path="x", size=8, resize="crop")
    assert InputSchema.from_config(data, [column], ["a"]).resize == "crop"
    assert InputSchema.from_config(component("data", "arrays", path="x"), [column], ["a"]).resize == "error"
    assert ImagesConfig.model_fields["resize"].default == "error"


def test_a_folder_is_read_as_pixels_and_labels(rows, read, images, folder, notes):
    path = folder(oak__1=GREY[0], test__ash__2=GREY[1], other__3=GREY[2], ash=GREY[3])
    result = read(rows(path, images(3, 4), chunk_rows=2))
    assert result.ids == ["ash.png", "oak/1.png", "other/3.png", "test/ash/2.png"]
    assert result.labels == [-1, 1, -1, 0]
    assert result.columns["image"].dtype == np.uint8
    np.testing.assert_array_equal(result.columns["image"], GREY[[3, 0, 2, 1]])
    assert notes == []


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv"])
def test_labels_of_a_folder_are_those_of_its_table(rows, read, images, folder, notes, name):
    path = folder(a=GREY[0], b=GREY[1], oak__c=GREY[2], ash__d=GREY[3])
    (path / name).write_text("file_name,kind\na.png,oak\nb.png,fir\ngone.png,oak\nash/d.png,\n")
    (path / "oak/metadata.csv").write_text("file_name,kind\nc.png,ash\n")
    result = read(rows(path, images(3, 4)))
    assert dict(zip(result.ids, result.labels, strict=True)) == {
        "a.png": 1, "ash/d.png": -1, "b.png": -1, "oak/c.png": 0,
    }  # fmt: skip
    assert result.unknown_labels == {result.ids.index("b.png"): "fir"}


def test_a_table_without_labels_is_left_out(rows, read, images, folder, notes):
    path = folder(oak__c=GREY[2])
    (path / "metadata.csv").write_text("file_name,caption\noak/c.png,a tree\n")
    assert read(rows(path, images(3, 4))).labels == [1]
    assert "has no column `kind`" in notes[0]


def test_channels_are_those_of_the_model_with_a_note(rows, read, images, folder, notes):
    path = folder(a=GREY[0], b=COLOUR[0])
    result = read(rows(path, images(3, 4, 3), chunk_rows=1))
    np.testing.assert_array_equal(result.columns["image"][0], np.repeat(GREY[0][..., None], 3, axis=2))
    np.testing.assert_array_equal(result.columns["image"][1], COLOUR[0])
    assert notes == [f"{path}: grey is turned into colour"]


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
def test_images_are_resized_as_in_training(rows, read, images, folder, context, resize, tmp_path):
    path = folder(oak__1=DRAWN.integers(0, 256, (9, 20), dtype=np.uint8), ash__2=GREY[0])
    source = f"{{use: images, path: {path}, size: [3, 4], resize: {resize}}}"
    trained = read(rows(source, images(3, 4)))
    result = read(rows(path, images(3, 4, resize=resize)))
    assert result.ids == trained.ids
    np.testing.assert_array_equal(result.columns["image"], trained.columns["image"])


def test_unusable_images_are_errors_or_problems(rows, read, images, folder):
    path = folder(a=GREY[0], b=GREY[0].T.copy(), e=GREY[1])
    (path / "c.png").write_bytes((path / "a.png").read_bytes()[:50])
    (path / "d.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        list(rows(path, images(3, 4)))
    assert caught.value.message == f"{path}, b.png: the image is 3x4 pixels, the model reads 4x3"
    assert "-resize 4x3!" in caught.value.hint
    assert "--on-error keep" in caught.value.hint
    result = read(rows(path, images(3, 4), on_error="keep"))
    assert result.problems[1] == "b.png: the image is 3x4 pixels, the model reads 4x3"
    assert result.problems[2].startswith("c.png: it cannot be decoded")
    assert result.problems[3] == "d.png: the file is empty"
    np.testing.assert_array_equal(result.columns["image"][[0, 4]], GREY[:2])


def test_a_folder_without_images_names_the_source(rows, images, tmp_path):
    (tmp_path / "a.parquet").write_text("")
    with pytest.raises(DataError, match="holds no images") as caught:
        rows(tmp_path, images(3, 4))
    assert "use: images" in caught.value.hint


def written(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (GREY.reshape(7, 12), GREY),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.float32), GREY),
        (GREY / 255, GREY),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (COLOUR.astype(np.float32) / 255, COLOUR),
    ],
)
def test_arrays_of_every_layout_and_type(rows, read, images, tmp_path, given, expected):
    schema = images(*expected.shape[1:])
    result = read(rows(written(tmp_path, image=given, y=LABELS), schema, chunk_rows=3))
    assert result.columns["image"].dtype == np.uint8
    np.testing.assert_array_equal(result.columns["image"], expected)


def test_the_value_of_white_is_found_from_the_whole_array(rows, read, images, tmp_path):
    dark_first = np.zeros((7, 3, 4))
    dark_first[5] = 255
    result = read(rows(written(tmp_path, image=dark_first), images(3, 4), chunk_rows=2))
    np.testing.assert_array_equal(result.columns["image"], dark_first)


def test_names_of_arrays_and_classes(rows, read, images, tmp_path, notes):
    path = written(tmp_path, x_test=COLOUR, y_test=LABELS, names=np.array(["oak", "ash"]), z=COLOUR)
    result = read(rows(path, images(3, 4, 3)))
    assert result.labels == [1, 0, 1, 0, 1, 0, -1]
    assert "the array `x_test` is read as `image`" in notes[0]


def test_arrays_of_other_channels_and_sizes(rows, read, images, tmp_path, notes):
    result = read(rows(written(tmp_path, x=COLOUR), images(3, 4)))
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in COLOUR])
    np.testing.assert_array_equal(result.columns["image"], grey)
    assert any("colour is turned into grey" in note for note in notes)
    with pytest.raises(DataError, match="no array has rows that fit"):
        rows(written(tmp_path, x=COLOUR), images(5, 5, 3))
    result = read(rows(written(tmp_path, x=COLOUR), images(5, 5, 3, resize="stretch")))
    assert result.columns["image"].shape == (7, 5, 5, 3)


@pytest.mark.parametrize("value", [np.nan, 300.0, -1.0])
def test_arrays_without_pixels(rows, images, tmp_path, value):
    given = GREY.astype(np.float64)
    given[6, 0, 0] = value
    with pytest.raises(DataError, match=r"array `image`: float64 values .* are not pixels"):
        rows(written(tmp_path, image=given), images(3, 4), chunk_rows=2)


def test_idx_files(rows, read, images, tmp_path):
    for name, array in (("images-idx3", GREY), ("labels-idx1", LABELS[:7].clip(0).astype(np.uint8))):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    result = read(rows(tmp_path / "t10k-images-idx3-ubyte.gz", images(3, 4, codes=("oak", "ash"))))
    np.testing.assert_array_equal(result.columns["image"], GREY)
    assert result.labels == [1, 0, 1, 0, 1, 0, 1]


def test_data_specs_of_other_sources_are_converted_to_pixels(rows, read, images, tmp_path):
    path = written(tmp_path, train=GREY / 255, train_label=LABELS)
    result = read(rows(f"{{use: arrays, path: {path}}}", images(3, 4)))
    assert result.columns["image"].dtype == np.uint8
    np.testing.assert_array_equal(result.columns["image"], GREY)


def test_images_of_a_data_spec_stay_on_disk(rows, images, folder):
    path = folder(oak__1=COLOUR[0], ash__2=COLOUR[1])
    spec = f"{{use: images, path: {path}, memory: 0.0, cache: never}}"
    (chunk,) = list(rows(spec, images(3, 4)))
    assert isinstance(chunk.rows.columns["image"], LazyPixels)
    expected = [np.asarray(Image.fromarray(one).convert("L")) for one in COLOUR[[1, 0]]]
    np.testing.assert_array_equal(np.asarray(chunk.rows.columns["image"]), expected)
    assert chunk.rows.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "shape", "high", "expected"),
    [
        (GREY, (12,), 255.0, GREY.reshape(7, 12)),
        (GREY, (1, 3, 4), 1.0, GREY[:, None] / np.float32(255)),
        (COLOUR, (3, 3, 4), 255.0, COLOUR.transpose(0, 3, 1, 2)),
    ],
)
def test_images_of_a_spec_for_a_model_of_vectors(rows, read, vector, tmp_path, given, shape, high, expected):
    schema = vector(*shape, ranges={"v": (0.0, high)})
    for memory in ("2.0", "0.0"):
        path = written(tmp_path, x=given, y=LABELS)
        result = read(rows(f"{{use: images, path: {path}, memory: {memory}}}", schema))
        np.testing.assert_array_equal(result.columns["v"], expected)
