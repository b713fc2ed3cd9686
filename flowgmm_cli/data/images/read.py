"""Encoded images to pixels by a known rule, several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.data.images.decode import UnreadableError, WrongSizeError, decode
from flowgmm_cli.data.images.pictures import Pictures
from flowgmm_cli.data.images.pool import in_order
from flowgmm_cli.data.images.rule import RESIZE_HINT, ImageRule
from flowgmm_cli.data.images.store import PixelStore
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Positions = npt.NDArray[np.int64]
    Decoded = tuple[Bytes, frozenset[str]]


def read_pictures(
    pictures: Pictures, positions: Positions, rule: ImageRule
) -> tuple[Bytes, dict[int, UnreadableError | WrongSizeError], frozenset[str]]:
    """Decode some images.

    Returns:
        Pixels `(n, *rule.shape)`, 0 where an image cannot be used; what is wrong with those, by place in the
        result; and what was changed in others.
    """
    pixels = np.zeros((len(positions), *rule.shape), dtype=np.uint8)
    faults = {}
    changes: frozenset[str] = frozenset()

    def one(at: int) -> Decoded | UnreadableError | WrongSizeError:
        return try_decode(pictures, int(positions[at]), rule)

    for at, found in enumerate(in_order(one, len(positions))):
        if isinstance(found, tuple):
            pixels[at] = found[0]
            changes |= found[1]
        else:
            faults[at] = found
    return pixels, faults, changes


def try_decode(pictures: Pictures, index: int, rule: ImageRule) -> Decoded | UnreadableError | WrongSizeError:
    """What `decode` returns, or the error that it raises."""
    try:
        return decode(pictures.content(index), rule)
    except (UnreadableError, WrongSizeError) as error:
        return error
    except OSError as error:
        return UnreadableError(reason(error))


def decoding_store(pictures: Pictures, kept: Positions, rule: ImageRule) -> PixelStore:
    """Some images, decoded each time they are read."""

    def read(positions: Positions) -> Bytes:
        pixels, faults, _ = read_pictures(pictures, positions, rule)
        if faults:
            at, error = next(iter(faults.items()))
            raise DataError(
                f"{pictures.where}: {pictures.names[int(positions[at])]} could be read before, but now: "
                f"{error}",
                hint="files must stay as they are while a run reads them",
            )
        return pixels

    return PixelStore(read, kept, rule.shape)


def reason(error: Exception) -> str:
    """Why an image cannot be used, for people."""
    if isinstance(error, WrongSizeError):
        return f"{error}; {RESIZE_HINT}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
