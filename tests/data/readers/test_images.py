"""Images in arrays and data specs as the rows of a model of an image column."""

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flowgmm_cli.api import Column
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.python_rows import open_input
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (7, 3, 4), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (7, 3, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1, -1])


def test_the_schema_takes_the_rule_from_the_run(component):
    column = Column("image", "image", (8, 8))
    data = component("data", "images", path="x", size=8, resize="crop")
    assert InputSchema.from_config(data, [column], ["a"]).resize == "crop"
    assert InputSchema.from_config(component("data", "arrays", path="x"), [column], ["a"]).resize == "error"
    assert ImagesConfig.model_fields["resize"].default == "error"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GREY, GREY),
        (GREY.reshape(7, 12), GREY),
        (GREY.astype(np.int64), GREY),
        (COLOUR.transpose(0, 3, 1, 2) / 255, COLOUR),
    ],
)
def test_arrays_of_every_layout_and_type(rows, read, image, npz, given, expected):
    schema = image(*expected.shape[1:])
    result = read(rows(npz(v=given, y=LABELS), schema, chunk_rows=3))
    assert result.columns["v"].dtype == np.uint8
    np.testing.assert_array_equal(result.columns["v"], expected)


def test_the_value_of_white_is_found_from_the_whole_array(rows, read, image, npz):
    dark_first = np.zeros((7, 3, 4))
    dark_first[5] = 255
    result = read(rows(npz(v=dark_first), image(3, 4), chunk_rows=2))
    np.testing.assert_array_equal(result.columns["v"], dark_first)


def test_names_of_arrays_and_classes(rows, read, image, npz, notes):
    path = npz(x_test=COLOUR, y_test=LABELS, names=np.array(["oak", "ash"]), z=COLOUR)
    result = read(rows(path, image(3, 4, 3)))
    assert result.labels == [1, 0, 1, 0, 1, 0, -1]
    assert "the array `x_test` is read as `v`" in notes[0]


def test_arrays_of_other_channels_and_sizes(rows, read, image, npz, notes):
    result = read(rows(npz(x=COLOUR), image(3, 4)))
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in COLOUR])
    np.testing.assert_array_equal(result.columns["v"], grey)
    assert any("colour is turned into grey" in note for note in notes)
    with pytest.raises(DataError, match="no array has rows that fit"):
        rows(npz(x=COLOUR), image(5, 5, 3))
    result = read(rows(npz(x=COLOUR), image(5, 5, 3, resize="stretch")))
    assert result.columns["v"].shape == (7, 5, 5, 3)


@pytest.mark.parametrize("value", [np.nan, 300.0, -1.0])
def test_arrays_without_pixels(rows, image, npz, value):
    given = GREY.astype(np.float64)
    given[6, 0, 0] = value
    with pytest.raises(DataError, match=r"array `v`: float64 values .* are not pixels"):
        rows(npz(v=given), image(3, 4), chunk_rows=2)


def test_idx_files(rows, read, image, tmp_path):
    for name, array in (("images-idx3", GREY), ("labels-idx1", LABELS[:7].clip(0).astype(np.uint8))):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    result = read(rows(tmp_path / "t10k-images-idx3-ubyte.gz", image(3, 4, codes=("oak", "ash"))))
    np.testing.assert_array_equal(result.columns["v"], GREY)
    assert result.labels == [1, 0, 1, 0, 1, 0, 1]


def test_data_specs_of_other_sources_are_converted_to_pixels(rows, read, image, npz):
    path = npz(train=GREY / 255, train_label=LABELS)
    result = read(rows(f"{{use: arrays, path: {path}}}", image(3, 4)))
    assert result.columns["v"].dtype == np.uint8
    np.testing.assert_array_equal(result.columns["v"], GREY)


def test_images_of_a_data_spec_stay_on_disk(rows, image, tmp_path):
    for name, pixels in (("oak", COLOUR[0]), ("ash", COLOUR[1])):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "1.png")
    spec = f"{{use: images, path: {tmp_path}, memory: 0.0, cache: never}}"
    (chunk,) = list(rows(spec, image(3, 4)))
    assert isinstance(chunk.columns["v"], LazyPixels)
    expected = [np.asarray(Image.fromarray(one).convert("L")) for one in COLOUR[[1, 0]]]
    np.testing.assert_array_equal(np.asarray(chunk.columns["v"]), expected)
    assert chunk.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("given", "shape", "high", "expected"),
    [
        (GREY, (12,), 255.0, GREY.reshape(7, 12)),
        (GREY, (1, 3, 4), 1.0, GREY[:, None] / np.float32(255)),
        (COLOUR, (3, 3, 4), 255.0, COLOUR.transpose(0, 3, 1, 2)),
    ],
)
def test_images_of_a_spec_for_a_model_of_vectors(rows, read, vector, npz, given, shape, high, expected):
    schema = vector(*shape, ranges={"v": (0.0, high)})
    for memory in ("2.0", "0.0"):
        path = npz(x=given, y=LABELS)
        result = read(rows(f"{{use: images, path: {path}, memory: {memory}}}", schema))
        np.testing.assert_allclose(result.columns["v"], expected, rtol=1e-6)


FILES = [png(COLOUR[0]), b"no image", None, png(COLOUR[1])]


@pytest.mark.parametrize("cells", [FILES, [{"bytes": file, "path": None} for file in FILES]])
def test_a_table_of_image_files_as_the_hub_has_them(rows, read, image, context, tmp_path, cells):
    table = pa.table({"photo": cells, "kind": ["ash", "oak", None, "oak"]})
    pq.write_table(table, tmp_path / "t.parquet")
    for schema in (image(3, 4, 3), image(3, 4, 3, image="photo")):
        result = read(rows(tmp_path / "t.parquet", schema, on_error="keep"))
        np.testing.assert_array_equal(result.columns["v"][[0, 3]], COLOUR[:2])
        assert result.labels == [0, 1, -1, 1]
        assert result.problems == {
            1: "row 2: it is not an image of a known type",
            2: "row 3: the cell is empty",
        }
    frame = read(open_input(table.to_pandas(), schema, context=context, on_error="keep"))
    np.testing.assert_array_equal(frame.columns["v"], result.columns["v"])
    with pytest.raises(DataError, match="row 2: it is not an image"):
        read(rows(tmp_path / "t.parquet", schema))


def test_image_files_in_a_table_for_models_of_numbers(rows, read, vector, table, tmp_path):
    pq.write_table(pa.table({"v": [png(GREY[0])]}), tmp_path / "t.parquet")
    result = read(rows(tmp_path / "t.parquet", vector(3, 4, ranges={"v": (0.0, 1.0)})))
    np.testing.assert_allclose(result.columns["v"][0], GREY[0] / 255, rtol=1e-6)
    with pytest.raises(DataError, match="column `v` holds image files, and the model reads 12 numbers"):
        read(rows(tmp_path / "t.parquet", vector(12)))


def test_the_image_column_among_several(rows, image, tmp_path):
    pq.write_table(pa.table({"left": [png(GREY[0])], "right": [png(GREY[1])]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no column `v`") as caught:
        rows(tmp_path / "t.parquet", image(3, 4))
    assert f"--data '{{use: images, path: {tmp_path}/t.parquet, image: left}}'" in caught.value.hint
