import numpy as np
import pytest
from PIL import Image

from flowgmm_cli.data.images.arrays import ImageConverter, channels_last, read_array_header
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.errors import DataError

DRAWN = np.random.default_rng(0)
GREY = DRAWN.integers(0, 256, (5, 6, 7), dtype=np.uint8)
COLOUR = DRAWN.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)


def to_pixels(array):
    """The pixels of an array in its own format, and the notes about them."""
    header = read_array_header(array, where="x")
    image_format = ImageFormat(header.height, header.width, header.colour)
    convert = ImageConverter(array.dtype, [array[:2], array[2:]], image_format, where="x")
    return convert(array), convert.notes


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
    pixels, notes = to_pixels(given)
    np.testing.assert_array_equal(pixels, expected)
    assert notes == []


@pytest.mark.parametrize("shape", [(5,), (5, 36), (5, 6, 7, 2), (5, 6, 7, 3, 1), (5, 0, 7)])
def test_other_shapes_are_no_images(shape):
    assert channels_last(np.zeros(shape)) is None
    with pytest.raises(DataError, match=r"x must hold images .* got float64"):
        read_array_header(np.zeros(shape), where="x")
    with pytest.raises(DataError, match="x has no rows"):
        read_array_header(GREY[:0], where="x")


def test_the_expected_size_decides_where_the_channels_may_be_first_or_last():
    array = np.zeros((5, 3, 8, 4))
    assert channels_last(array).shape == (5, 3, 8, 4)
    assert channels_last(array, (3, 8)).shape == (5, 3, 8, 4)
    assert channels_last(array, (8, 4)).shape == (5, 8, 4, 3)


@pytest.mark.parametrize(
    ("given", "expected", "note"),
    [
        *(
            ((GREY / 255).astype(dtype), GREY, "values from 0 to 1 are scaled")
            for dtype in ("f2", "f4", "f8")
        ),
        *(
            (np.asarray(GREY // 3, dtype), GREY // 3, "are read as pixels")
            for dtype in ("i1", "i8", "u2", "f4")
        ),
        (GREY > 99, (GREY > 99) * 255, "values from 0 to 1 are scaled"),
        (GREY.astype(np.uint16) * 257, GREY, "16 bits are scaled to 8"),
    ],
)
def test_values_of_other_types_become_pixels_with_a_note(given, expected, note):
    pixels, notes = to_pixels(given)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1 if given.dtype == np.float16 else 0)
    assert note in notes[0]


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
        to_pixels(given)
    assert "fractions from 0 to 1" in caught.value.hint


def test_channels_and_sizes_are_those_of_pillow():
    image_format = ImageFormat(3, 4, colour=False, resize="stretch")
    convert = ImageConverter(COLOUR.dtype, [], image_format, where="x")
    for cell, image in zip(convert(COLOUR), COLOUR, strict=True):
        grey = Image.fromarray(image).convert("L").resize((4, 3), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(cell, np.asarray(grey))
    assert convert.notes == ["colour is turned into grey"]
