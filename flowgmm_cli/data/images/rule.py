"""What every image becomes: one size, grey or colour, and what is done to those of another size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flowgmm_cli.errors import DataError

Channels = Literal["auto", "grey", "colour"]
Resize = Literal["error", "stretch", "crop", "pad"]
RESIZE_HINT = "set data.size=[height, width] and data.resize=crop, pad or stretch"


@dataclass(frozen=True)
class ImageRule:
    """What an image becomes.

    Attributes:
        height: in pixels.
        width: in pixels.
        colour: three channels; else one.
        resize: what becomes of one of another size: it is refused (`error`), deformed (`stretch`), cut to the
            shape about its centre and scaled (`crop`), or scaled into the shape on black (`pad`).
    """

    height: int
    width: int
    colour: bool
    resize: Resize = "error"

    @property
    def shape(self) -> tuple[int, ...]:
        """`(height, width)`, of colour images `(height, width, 3)`."""
        return (self.height, self.width, 3) if self.colour else (self.height, self.width)

    @classmethod
    def of(cls, shape: tuple[int, ...], resize: Resize = "error") -> ImageRule:
        """The rule whose `shape` this is.

        >>> ImageRule.of((32, 24, 3)).colour
        True
        """
        return cls(shape[0], shape[1], len(shape) == 3, resize)


@dataclass(frozen=True)
class Header:
    """What an image is before it is decoded; sizes in pixels, of the image turned upright."""

    width: int
    height: int
    colour: bool

    @property
    def size(self) -> str:
        """For people."""
        return f"{self.width}x{self.height}"


def size_of(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """`data.size` as (height, width).

    >>> size_of(32), size_of([32, 24])
    ((32, 32), (32, 24))
    """
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    return size[0], size[1]


def choose_rule(
    headers: Sequence[tuple[str, Header]],
    *,
    where: str,
    channels: Channels,
    size: tuple[int, int] | None,
    resize: Resize,
) -> ImageRule:
    """The rule for images with these headers.

    Args:
        headers: what each image is called in messages, with its header; at least one.
        where: what to call all of them.
        channels: `auto` = grey where all are grey.
        size: (height, width); None where all have the same.
        resize: see `ImageRule`.

    Raises:
        DataError: sizes differ and nothing may be done about it.
    """
    colour = channels == "colour" or (channels == "auto" and any(one.colour for _, one in headers))
    if resize != "error" and size is not None:
        return ImageRule(*size, colour, resize)
    first_name, first = headers[0]
    if size is None:
        size = (first.height, first.width)
        other = next(((name, one) for name, one in headers if (one.height, one.width) != size), None)
        if other is not None:
            counts = Counter(one.size for _, one in headers).most_common(8)
            raise DataError(
                f"{where}: images differ in size: {first_name} is {first.size} pixels (width x height), "
                f"{other[0]} {other[1].size}",
                details=[f"{count:,} of {listed}" for listed, count in counts],
                hint=RESIZE_HINT,
            )
        return ImageRule(*size, colour)
    unlike = [(name, one) for name, one in headers if (one.height, one.width) != size]
    if unlike:
        more = f", and {len(unlike) - 1:,} more" if len(unlike) > 1 else ""
        raise DataError(
            f"{where}: {unlike[0][0]} is {unlike[0][1].size} pixels (width x height){more}, data.size is "
            f"{size[1]}x{size[0]}, and data.resize is `error`",
            hint="set data.resize=crop, pad or stretch",
        )
    return ImageRule(*size, colour)
