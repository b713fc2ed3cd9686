import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.data.images.arrays import as_pixels, channels_last, convert_pixels, fit_pixels
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.errors import DataError

DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (5, 6, 7), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY),
        (GREY[:, None], GREY),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
    ],
)
def test_layouts_are_recognised_by_their_shape(given, expected):
    pixels, note = as_pixels(given, where="x")
    np.testing.assert_array_equal(pixels, expected)
    assert note == ""


@pytest.mark.parametrize("shape", [(5,), (5, 36), (5, 6, 7, 2), (5, 6, 7, 3, 1), (5, 0, 7)])
def test_other_shapes_are_no_images(shape):
    assert channels_last(np.zeros(shape)) is None
    with pytest.raises(DataError, match=r"x must hold images .* got float64"):
        as_pixels(np.zeros(shape), where="x")


def test_the_expected_size_decides_where_the_channels_may_be_first_or_last():
    array = np.zeros((5, 3, 8, 4))
    assert channels_last(array).shape == (5, 3, 8, 4)
    assert channels_last(array, (3, 8)).shape == (5, 3, 8, 4)
    assert channels_last(array, (8, 4)).shape == (5, 8, 4, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fractions_are_scaled_with_a_note(dtype):
    pixels, note = as_pixels((GREY / 255).astype(dtype), where="x")
    assert np.abs(pixels.astype(int) - GREY).max() <= (1 if dtype == np.float16 else 0)
    assert "x: values from 0 to 1 are scaled" in note


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float32, np.float64])
def test_whole_numbers_are_pixels(dtype):
    given = (GREY // 3).astype(dtype)
    pixels, note = as_pixels(given, where="x")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, given)
    assert "are read as pixels" in note


def test_bits_and_sixteen_bits():
    np.testing.assert_array_equal(as_pixels(GREY > 99, where="x")[0], (GREY > 99) * 255)
    deep = GREY.astype(np.uint16) * 257
    pixels, note = as_pixels(deep, where="x")
    np.testing.assert_array_equal(pixels, GREY)
    assert "16 bits are scaled to 8" in note


def with_value(value):
    given = GREY / 255
    given[2, 3, 4] = value
    return given


@pytest.mark.parametrize(
    "given",
    [
        GREY.astype(int) - 1,
        GREY.astype(int) * 2,
        GREY / 100,
        with_value(np.nan),
        with_value(np.inf),
        with_value(-0.1),
    ],
)
def test_other_numbers_are_no_pixels(given):
    with pytest.raises(DataError, match=r"x: .* are not pixels") as caught:
        as_pixels(given, where="x")
    assert "fractions from 0 to 1" in caught.value.hint


def test_no_rows():
    with pytest.raises(DataError, match="x has no rows"):
        as_pixels(GREY[:0], where="x")


def test_channels_and_sizes_are_those_of_pillow():
    image_format = ImageFormat(3, 4, colour=False, resize="stretch")
    cells, changes = convert_pixels(COLOUR, image_format)
    for cell, image in zip(cells, COLOUR, strict=True):
        grey = Image.fromarray(image).convert("L").resize((4, 3), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(cell, np.asarray(grey))
    assert changes == ["colour is turned into grey"]


def test_arrays_of_several_splits_get_a_common_format():
    fitted, notes = fit_pixels({"train": GREY, "test": COLOUR}, ImagesConfig(path="x"), where="a.npz")
    assert {name: pixels.shape for name, pixels in fitted.items()} == {
        "train": (5, 6, 7, 3),
        "test": (5, 6, 7, 3),
    }
    assert notes == ["`train`: grey is turned into colour"]
    with pytest.raises(DataError, match="images differ in size: the image in `train` is 7x6"):
        fit_pixels({"train": GREY, "test": GREY[:, :5]}, ImagesConfig(path="x"), where="a.npz")
