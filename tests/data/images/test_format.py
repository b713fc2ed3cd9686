import pytest

from flowgmm_cli.data.images.format import ImageFormat, ImageHeader, choose_format
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.errors import DataError

SMALL, LARGE, RED = ImageHeader(3, 4, False), ImageHeader(6, 8, False), ImageHeader(3, 4, True)


def choose(*headers, channels="auto", size=None, resize="error"):
    named = [(f"{index}.png", header) for index, header in enumerate(headers)]
    config = ImagesConfig(path="photos", channels=channels, size=size, resize=resize)
    return choose_format(named, config, where="photos")


@pytest.mark.parametrize(
    ("headers", "channels", "shape"),
    [
        ([SMALL, SMALL], "auto", (3, 4)),
        ([SMALL, RED], "auto", (3, 4, 3)),
        ([SMALL], "colour", (3, 4, 3)),
        ([RED], "grey", (3, 4)),
    ],
)
def test_images_of_equal_size_keep_it(headers, channels, shape):
    image_format = choose(*headers, channels=channels)
    assert image_format.shape == shape
    assert image_format == ImageFormat.from_shape(shape)


def test_mixed_sizes_name_two_images_and_how_many_there_are():
    with pytest.raises(DataError) as caught:
        choose(SMALL, SMALL, LARGE)
    assert caught.value.message == (
        "photos: images differ in size: 0.png is 4x3 pixels (width x height), 2.png 8x6"
    )
    assert caught.value.details == ("2 of 4x3", "1 of 8x6")
    assert "data.resize=crop" in caught.value.hint


def test_a_size_alone_does_not_allow_resizing():
    with pytest.raises(DataError, match=r"2\.png is 8x6 pixels .*, data.size is 4x3, and data.resize is"):
        choose(SMALL, SMALL, LARGE, size=[3, 4])
    assert choose(SMALL, SMALL, size=[3, 4]).shape == (3, 4)
    assert choose(SMALL, LARGE, size=5, resize="pad") == ImageFormat(5, 5, False, "pad")
