import pytest

from flowgmm_cli.data.images.rule import Header, ImageRule, choose_rule, size_of
from flowgmm_cli.errors import DataError

SMALL, LARGE, RED = Header(4, 3, False), Header(8, 6, False), Header(4, 3, True)


def choose(*headers, channels="auto", size=None, resize="error"):
    named = [(f"{index}.png", one) for index, one in enumerate(headers)]
    return choose_rule(named, where="photos", channels=channels, size=size_of(size), resize=resize)


@pytest.mark.parametrize(
    ("headers", "channels", "shape"),
    [
        ([SMALL, SMALL], "auto", (3, 4)),
        ([SMALL, RED], "auto", (3, 4, 3)),
        ([SMALL], "colour", (3, 4, 3)),
        ([RED], "grey", (3, 4)),
    ],
)
def test_images_of_one_size_keep_it(headers, channels, shape):
    rule = choose(*headers, channels=channels)
    assert rule.shape == shape
    assert rule == ImageRule.of(shape)


def test_mixed_sizes_name_two_images_and_how_many_there_are():
    with pytest.raises(DataError) as caught:
        choose(SMALL, SMALL, LARGE)
    assert caught.value.message == (
        "photos: images differ in size: 0.png is 4x3 pixels (width x height), 2.png 8x6"
    )
    assert caught.value.details == ("2 of 4x3", "1 of 8x6")
    assert "data.resize=crop" in caught.value.hint


def test_a_wanted_size_is_no_leave_to_resize():
    with pytest.raises(DataError, match=r"2\.png is 8x6 pixels .*, data.size is 4x3, and data.resize is"):
        choose(SMALL, SMALL, LARGE, size=[3, 4])
    assert choose(SMALL, SMALL, size=[3, 4]).shape == (3, 4)
    assert choose(SMALL, LARGE, size=5, resize="pad") == ImageRule(5, 5, False, "pad")
