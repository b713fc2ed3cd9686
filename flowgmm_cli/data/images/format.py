"""The size and channels of images: of columns, of files, and the format that a model reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flowgmm_cli.api import Column
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.images.specs import ImagesConfig

Channels = Literal["auto", "grey", "colour"]
Resize = Literal["error", "stretch", "crop", "pad"]
RESIZE_HINT = "set data.size=[height, width] and data.resize=crop, pad or stretch"
_CHANNELS = (1, 3, 4)
MAX_CHANNELS = 4
"""A longer first axis is the height of an image with its channels last, or the entry is not an image."""
WHITE = 255
"""The largest value of a pixel of an `image` column."""


def image_shape(column: Column) -> tuple[int, int, int] | None:
    """Return `(channels, height, width)` of a column's entries; None if they are not images.

    `image` columns hold `(height, width)` or `(height, width, channels)`; vector columns that count as images
    hold `(height, width)` or `(channels, height, width)`. The feature matrix has channels first.

    >>> image_shape(Column("photo", "image", (32, 24, 3)))
    (3, 32, 24)
    >>> image_shape(Column("x", "vector", (8, 8)))
    (1, 8, 8)
    >>> image_shape(Column("x", "vector", (50,))) is None
    True
    """
    shape = column.shape
    if len(shape) == 2 and column.kind in ("image", "vector"):
        return (1, *shape)
    if len(shape) != 3:
        return None
    if column.kind == "image":
        return (shape[2], shape[0], shape[1])
    return shape if column.kind == "vector" and shape[0] <= MAX_CHANNELS else None


def image_column(columns: Sequence[Column]) -> Column | None:
    """Return the only column if its entries are images by `channel_axis`; else None."""
    if len(columns) != 1 or columns[0].kind not in ("vector", "image"):
        return None
    return None if channel_axis(columns[0].shape) is None else columns[0]


def channel_axis(row: tuple[int, ...], size: tuple[int, ...] | None = None) -> int | None:
    """Return the axis of the 1, 3 or 4 channels of an image, 2 if it has none; None for another shape.

    If either axis could hold them, the expected `size` (height, width) decides; without it they are last.
    """
    if len(row) not in (2, 3) or 0 in row:
        return None
    first, last = row[0] in _CHANNELS, len(row) == 2 or row[2] in _CHANNELS
    if len(row) == 3 and first and (not last or (row[1:] == size and row[:2] != size)):
        return 0
    return 2 if last else None


@dataclass(frozen=True)
class ImageHeader:
    """Size in pixels, upright, and channels of an image: three if `colour`, else one."""

    height: int
    width: int
    colour: bool

    @property
    def size(self) -> str:
        """Width and height as text."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class ImageFormat(ImageHeader):
    """The size and channels that every image is converted to.

    Attributes:
        resize: treatment of an image of another size: `error` refuses it, `stretch` deforms it, `crop` scales
            it and cuts it about its centre, `pad` scales it to fit on a black background.
    """

    resize: Resize = "error"

    @property
    def shape(self) -> tuple[int, ...]:
        """`(height, width)`, of colour images `(height, width, 3)`."""
        return (self.height, self.width, 3) if self.colour else (self.height, self.width)

    @classmethod
    def from_shape(cls, shape: tuple[int, ...], resize: Resize = "error") -> ImageFormat:
        """Return the format with this `shape`."""
        return cls(shape[0], shape[1], len(shape) == 3, resize)


def choose_format(
    headers: Sequence[tuple[str, ImageHeader]], config: ImagesConfig, *, where: str
) -> ImageFormat:
    """Choose the common format of images, given the name in messages and the header of each, at least one."""
    any_colour = config.channels == "auto" and any(header.colour for _, header in headers)
    colour = config.channels == "colour" or any_colour
    size = config.height_width
    if config.resize != "error" and size is not None:
        return ImageFormat(*size, colour, config.resize)
    first_name, first = headers[0]
    common = size or (first.height, first.width)
    others = [(name, header) for name, header in headers if (header.height, header.width) != common]
    if others and size is None:
        counts = Counter(header.size for _, header in headers).most_common(8)
        raise DataError(
            f"{where}: images differ in size: {first_name} is {first.size} pixels (width x height), "
            f"{others[0][0]} {others[0][1].size}",
            details=[f"{count:,} of {listed}" for listed, count in counts],
            hint=RESIZE_HINT,
        )
    if others:
        more = f", and {len(others) - 1:,} more" if len(others) > 1 else ""
        raise DataError(
            f"{where}: {others[0][0]} is {others[0][1].size} pixels (width x height){more}, data.size is "
            f"{common[1]}x{common[0]}, and data.resize is `error`",
            hint="set data.resize=crop, pad or stretch",
        )
    return ImageFormat(*common, colour)
