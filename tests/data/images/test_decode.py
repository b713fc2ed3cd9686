import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageFile

from flowgmm_cli.data.images import decode as decode_module
from flowgmm_cli.data.images.decode import UnreadableError, decode, read_header
from flowgmm_cli.data.images.format import ImageFormat, ImageHeader

GREY = (np.arange(12, dtype=np.uint8) * 20).reshape(3, 4)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
AS_GREY, AS_COLOUR = ImageFormat(3, 4, colour=False), ImageFormat(3, 4, colour=True)


def content(pixels, format="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def expect(encoded, image_format, expected, *changes):
    decoded, made = decode(encoded, image_format)
    np.testing.assert_array_equal(decoded, expected)
    assert made == set(changes)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR])
def test_pixels_are_unchanged(format, pixels):
    colour = pixels.ndim == 3
    encoded, image_format = content(pixels, format), AS_COLOUR if colour else AS_GREY
    expect(encoded, image_format, pixels)
    decoded, _ = decode(encoded, image_format)
    assert (decoded.dtype, decoded.flags.writeable) == (np.uint8, True)
    assert read_header(content(pixels, format)) == ImageHeader(3, 4, colour)


def test_a_file_is_read_like_its_bytes(save):
    path = save("a.png", COLOUR)
    expect(path, AS_COLOUR, COLOUR)
    assert read_header(path) == ImageHeader(3, 4, True)


def test_grey_and_colour_are_turned_into_each_other():
    expect(content(GREY), AS_COLOUR, np.repeat(GREY[..., None], 3, axis=2), "grey is turned into colour")
    decoded, changes = decode(content(COLOUR), AS_GREY)
    luma = (COLOUR @ np.array([0.299, 0.587, 0.114])).round()  # ITU-R BT.601
    np.testing.assert_allclose(decoded, luma, atol=1)
    assert changes == {"colour is turned into grey"}


def test_colour_files_of_grey_pixels_lose_nothing():
    expect(content(np.repeat(GREY[..., None], 3, axis=2)), AS_GREY, GREY)


def test_what_is_transparent_becomes_white():
    alpha = np.full((3, 4), 255, dtype=np.uint8)
    alpha[0, 0], alpha[0, 1] = 0, 128
    decoded, changes = decode(content(np.dstack([COLOUR, alpha])), AS_COLOUR)
    assert decoded[0, 0].tolist() == [255, 255, 255]
    share = 128 / 255
    np.testing.assert_allclose(decoded[0, 1], COLOUR[0, 1] * share + 255 * (1 - share), atol=1)
    np.testing.assert_array_equal(decoded[1:], COLOUR[1:])
    assert changes == {"transparency becomes white"}
    expect(content(np.dstack([COLOUR, np.full_like(alpha, 255)])), AS_COLOUR, COLOUR)


def test_grey_with_transparency():
    alpha = np.full((3, 4), 255, dtype=np.uint8)
    alpha[0, 0] = 0
    encoded = content(np.dstack([GREY, alpha]))
    decoded, _ = decode(encoded, AS_GREY)
    assert decoded[0, 0] == 255
    np.testing.assert_array_equal(decoded[1:], GREY[1:])
    assert read_header(encoded) == ImageHeader(3, 4, False)


@pytest.mark.parametrize("transparency", [None, 3])
def test_palettes(transparency):
    image = Image.fromarray(COLOUR).quantize(12)
    options = {} if transparency is None else {"transparency": transparency}
    expected = np.array(image.convert("RGB"))
    expected[np.asarray(image) == transparency] = 255
    changes = [] if transparency is None else ["transparency becomes white"]
    expect(content(image, **options), AS_COLOUR, expected, *changes)


def test_a_palette_of_greys_is_grey():
    image = Image.fromarray((GREY // 20).astype(np.uint8))
    image.putpalette([value for index in range(12) for value in [index * 20] * 3])
    assert image.mode == "P"
    assert read_header(content(image)) == ImageHeader(3, 4, False)
    expect(content(image), AS_GREY, GREY)


def test_bits_and_cmyk():
    bits = GREY > 100
    expect(content(Image.fromarray(bits)), AS_GREY, bits * 255)
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    expect(content(cmyk, "TIFF"), AS_COLOUR, np.array(cmyk.convert("RGB")), "CMYK is turned into RGB")


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled(format):
    deep = np.array([[0, 128, 129, 257], [5_000, 30_000, 65_278, 65_535]], dtype=np.uint16)
    change = "16 bits are scaled to 8, 65,535 to 255"
    expect(content(deep, format), ImageFormat(2, 4, colour=False), np.rint(deep / 257), change)


@pytest.mark.parametrize(
    "pixels", [np.full((3, 4), 70_000, dtype=np.int32), np.full((3, 4), 0.5, dtype=np.float32)]
)
def test_numbers_without_a_defined_white_are_refused(pixels):
    with pytest.raises(UnreadableError, match="no defined white"):
        decode(content(pixels, "TIFF"), AS_GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_images_are_turned_upright(orientation, format, tmp_path):
    upright = {
        1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1],
        5: GREY.T, 6: GREY.T[:, ::-1], 7: GREY[::-1, ::-1].T, 8: GREY.T[::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if format == "WEBP" else {}
    encoded = content(GREY, format, exif=exif, **options)
    file = tmp_path / "a"
    file.write_bytes(encoded)
    for source in (encoded, file):
        header = read_header(source)
        assert (header.height, header.width) == upright.shape
        decoded, _ = decode(source, ImageFormat(*upright.shape, colour=False))
        np.testing.assert_array_equal(decoded, upright)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(format):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    options = {"lossless": True} if format == "WEBP" else {}
    encoded = content(frames[0], format, save_all=True, append_images=frames[1:], **options)
    expect(encoded, AS_GREY, GREY, "of several frames the first counts")


def test_an_image_of_another_size_is_refused_and_not_decoded(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(UnreadableError, match="the image is 4x3 pixels"):
        decode(content(GREY), ImageFormat(4, 3, colour=False))


MIDDLE = np.pad(np.full((10, 10), 200, np.uint8), ((0, 0), (10, 10)))
PADDED = np.pad(np.full((4, 8), 200), ((2, 2), (0, 0)))


@pytest.mark.parametrize(
    ("given", "resize", "expected"),
    [
        (COLOUR, "stretch", np.asarray(Image.fromarray(COLOUR).resize((5, 6), Image.Resampling.BILINEAR))),
        (MIDDLE, "crop", np.full((10, 10), 200)),
        (np.full((10, 20), 200, np.uint8), "pad", PADDED),
        (np.full((20, 10), 200, np.uint8), "pad", PADDED.T),
    ],
)
def test_sizes_are_changed_as_asked(given, resize, expected):
    image_format = ImageFormat(*expected.shape[:2], colour=given.ndim == 3, resize=resize)
    expect(content(given), image_format, expected)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1)])
def test_extreme_shapes(resize, shape):
    decoded, _ = decode(content(np.full(shape, 9, np.uint8)), ImageFormat(8, 6, colour=True, resize=resize))
    assert decoded.shape == (8, 6, 3)
    assert decoded.max() == 9


def test_large_photographs_are_decoded_at_a_fraction_of_their_size():
    y, x = np.mgrid[:800, :1200]
    photo = np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8) // 64 * 16 + 64
    smooth = np.asarray(Image.fromarray(photo).resize((120, 80)).resize((1200, 800)))
    encoded = content(smooth, "JPEG", quality=95)
    decoded, _ = decode(encoded, ImageFormat(32, 48, colour=True, resize="stretch"))
    whole = Image.open(io.BytesIO(encoded)).resize((48, 32), Image.Resampling.BILINEAR)
    assert np.abs(decoded.astype(int) - np.asarray(whole)).mean() < 2


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (b"", "it is empty"),
        (b"no image", "not an image of a known type"),
        (content(np.zeros((64, 64, 3), np.uint8))[:60], "cannot be decoded: .*truncated"),
        (content(NOISE, "JPEG")[:900], "truncated"),
        (b"GIF89a", "not an image of a known type|cannot be decoded"),
    ],
)
def test_damaged_images_say_why(damaged, why):
    with pytest.raises(UnreadableError, match=why):
        decode(damaged, ImageFormat(64, 64, colour=True))


def test_empty_files_and_damaged_headers(tmp_path):
    empty = tmp_path / "a.png"
    empty.write_bytes(b"")
    for read in (read_header, lambda content: decode(content, AS_GREY)):
        with pytest.raises(UnreadableError, match="the file is empty"):
            read(empty)
        with pytest.raises(UnreadableError, match="not an image of a known type"):
            read(b"<svg></svg>")


def test_a_bomb_is_refused_with_the_next_step(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    for read in (read_header, lambda content: decode(content, AS_GREY)):
        with pytest.raises(UnreadableError, match="it has more than 10 pixels") as error:
            read(content(GREY))
        assert error.value.hint == "scale it down first"


def test_large_images_are_decoded_one_at_a_time(monkeypatch):
    active, most = [], []
    real = decode_module.convert_image

    def watch(image, image_format):
        active.append(image)
        time.sleep(0.02)
        most.append(len(active))
        active.pop()
        return real(image, image_format)

    monkeypatch.setattr(decode_module, "_LARGE_PIXELS", 8)
    monkeypatch.setattr(decode_module, "convert_image", watch)
    small = ImageFormat(2, 2, colour=False, resize="stretch")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode(content(GREY), small), range(8)))
    assert max(most) == 1


@pytest.mark.parametrize("resize", ["error", "stretch"])
def test_frames_of_an_image_of_another_size_are_not_counted(resize, monkeypatch):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    encoded = io.BytesIO()
    frames[0].save(encoded, "GIF", save_all=True, append_images=frames[1:])
    seeks = []
    seek = GifImagePlugin.GifImageFile.seek
    monkeypatch.setattr(
        GifImagePlugin.GifImageFile, "seek", lambda self, frame: seeks.append(frame) or seek(self, frame)
    )
    with suppress(UnreadableError):
        decode(encoded.getvalue(), ImageFormat(9, 9, colour=False, resize=resize))
    assert bool(seeks) == (resize == "stretch")


def test_damaged_exif_spoils_no_pixel():
    expect(content(GREY, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), AS_GREY, GREY)
