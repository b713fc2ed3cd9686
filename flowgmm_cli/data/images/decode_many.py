"""Decode many images at once: Pillow releases the interpreter lock while it decodes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

import numpy as np

from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.images.decode import UnreadableError, WrongSizeError, decode
from flowgmm_cli.data.images.encoded_images import EncodedImages
from flowgmm_cli.data.images.format import RESIZE_HINT, ImageFormat
from flowgmm_cli.data.images.lazy_pixels import LazyPixels
from flowgmm_cli.errors import DataError

Decoded = tuple[Bytes, frozenset[str]]

Result = TypeVar("Result")

_MIN_THREADED = 5  # fewer images are decoded sooner than threads start
_BATCH_IMAGES = 256  # results held at once
_WARNINGS_LOCK = Lock()  # warning filters belong to the whole process


def worker_count() -> int:
    """Return the number of threads to use: one for each processor of this process, at most 16."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(16, len(affinity(0)) if affinity is not None else os.cpu_count() or 1)


def map_in_order(
    work: Callable[[int], Result], count: int, progress: Callable[[int, int], None] = lambda done, total: None
) -> Iterator[Result]:
    """Yield `work(0)` to `work(count - 1)` in that order, computed by several threads.

    Warnings of Pillow about oddities that do not change pixels are suppressed.
    """
    if count < _MIN_THREADED:
        for index in range(count):
            yield _without_warnings(work, range(index, index + 1))[0]
        return
    with ThreadPoolExecutor(worker_count(), thread_name_prefix="images") as pool:
        for start in range(0, count, _BATCH_IMAGES):
            progress(start, count)
            yield from _without_warnings(work, range(start, min(start + _BATCH_IMAGES, count)), pool)
    progress(count, count)


def _without_warnings(
    work: Callable[[int], Result], indices: range, pool: ThreadPoolExecutor | None = None
) -> list[Result]:
    with _WARNINGS_LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        return list((pool.map if pool is not None else map)(work, indices))


def decode_images(
    images: EncodedImages, positions: Positions, image_format: ImageFormat
) -> tuple[Bytes, dict[int, UnreadableError | WrongSizeError], frozenset[str]]:
    """Decode some images.

    Returns:
        Pixels `(n, *image_format.shape)`, 0 where an image cannot be used; the errors of those, by place in
        the result; and descriptions of the changes to others.
    """
    pixels = np.zeros((len(positions), *image_format.shape), dtype=np.uint8)
    errors = {}
    changes: frozenset[str] = frozenset()
    results = map_in_order(
        lambda index: try_decode(images, int(positions[index]), image_format), len(positions)
    )
    for index, result in enumerate(results):
        if isinstance(result, tuple):
            pixels[index] = result[0]
            changes |= result[1]
        else:
            errors[index] = result
    return pixels, errors, changes


def try_decode(
    images: EncodedImages, index: int, image_format: ImageFormat
) -> Decoded | UnreadableError | WrongSizeError:
    """Return the result of `decode`, or the error that it raises."""
    try:
        return decode(images.content(index), image_format)
    except (UnreadableError, WrongSizeError) as error:
        return error
    except OSError as error:
        return UnreadableError(error_text(error))


def decode_on_read(images: EncodedImages, kept: Positions, image_format: ImageFormat) -> LazyPixels:
    """Return some images as pixels that are decoded each time they are read."""

    def read(positions: Positions) -> Bytes:
        pixels, errors, _ = decode_images(images, positions, image_format)
        if errors:
            index, error = next(iter(errors.items()))
            raise DataError(
                f"{images.where}: {images.names[int(positions[index])]} could be read before, "
                f"but now: {error}",
                hint="files must not change while a run reads them",
            )
        return pixels

    return LazyPixels(read, kept, image_format.shape)


def error_text(error: Exception) -> str:
    """Return the reason that an image cannot be used."""
    if isinstance(error, WrongSizeError):
        return f"{error}; {RESIZE_HINT}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
