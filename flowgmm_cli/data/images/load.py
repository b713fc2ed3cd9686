"""Decode images to pixels of one format: in memory, cached on disk, or decoded on each read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.images.decode import UnreadableError, read_header
from flowgmm_cli.data.images.encoded_images import (
    EncodedImages,
    decode_each,
    decode_images,
    map_in_order,
    unreadable,
)
from flowgmm_cli.data.images.format import ImageFormat, ImageHeader, choose_format
from flowgmm_cli.data.images.lazy_pixels import LazyPixels, lazy_pixels_of
from flowgmm_cli.data.images.pixel_cache import LoadedPixels, PixelCache, PixelCacheWriter
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.row_errors import FaultyRows, RowError
from flowgmm_cli.errors import DataError


def load_images(images: EncodedImages, config: ImagesConfig, context: DataContext) -> LoadedPixels:
    """Decode every image once, and keep the pixels in memory or on disk."""
    cache = None
    if config.cache != "never":
        settings = repr((config.channels, config.height_width, config.resize, config.damage_policy))
        cache = PixelCache(context, where=images.where, content=images.signature(), settings=settings)
        if (cached := cache.load()) is not None:
            return _from_cache(cached, config)
    notes: list[str] = []
    headers, errors = _read_headers(images, context)
    if not headers:
        _report_errors(errors, images, config, notes)
    candidates = np.array(list(headers), dtype=np.int64)
    named = [(images.names[index], header) for index, header in headers.items()]
    image_format = choose_format(named, config, where=images.where)
    shape = (len(candidates), *image_format.shape)
    fits = int(np.prod(shape)) <= config.memory_bytes
    writer = None
    if cache is not None and (config.cache == "always" or not fits):
        writer = _create_entry(cache, shape, notes)
    target = writer.pixels if writer is not None else np.empty(shape, np.uint8) if fits else None
    try:
        rows, changes = _decode_into(target, images, candidates, image_format, errors, context)
        _report_errors(errors, images, config, notes)
        kept = candidates[rows]
        notes += [f"{count:,} of {len(kept):,} images: {change}" for change, count in sorted(changes.items())]
        if writer is not None and cache is not None:
            cached = writer.finish(kept, rows, notes)
            if not fits:
                context.note(f"decoded images are kept in {cache.folder}")
            return _from_cache(cached, config)
    except BaseException:
        if writer is not None:
            writer.discard()
        raise
    if target is not None:
        return LoadedPixels(target if len(rows) == len(target) else target[rows], kept, tuple(notes))
    notes.append("images are decoded each time they are read, since their pixels do not fit in data.memory")
    return LoadedPixels(_decode_on_read(images, kept, image_format), kept, tuple(notes))


def _read_headers(
    images: EncodedImages, context: DataContext
) -> tuple[dict[int, ImageHeader], dict[int, RowError]]:
    """Return the headers of the readable images and the errors of the others, by position."""

    def read(index: int) -> ImageHeader | RowError:
        try:
            return read_header(images.content(index))
        except (UnreadableError, OSError) as error:
            return unreadable(error)

    results = list(
        map_in_order(read, len(images), lambda done, n: context.progress(done, n, "looking at images"))
    )
    headers = {index: result for index, result in enumerate(results) if isinstance(result, ImageHeader)}
    return headers, {index: result for index, result in enumerate(results) if isinstance(result, RowError)}


def _create_entry(cache: PixelCache, shape: tuple[int, ...], notes: list[str]) -> PixelCacheWriter | None:
    try:
        return cache.create(shape)
    except OSError as error:
        notes.append(
            f"decoded images are not kept: {cache.folder.parent} cannot be written ({error.strerror})"
        )
        return None


def _decode_into(
    target: Bytes | None,
    images: EncodedImages,
    candidates: Positions,
    image_format: ImageFormat,
    errors: dict[int, RowError],
    context: DataContext,
) -> tuple[Positions, Counter[str]]:
    """Decode into rows of `target`, and add to `errors`; return the good rows, and counts of the changes."""
    changes: Counter[str] = Counter()
    good = []
    results = decode_each(
        images, candidates, image_format, lambda done, n: context.progress(done, n, "decoding images")
    )
    for row, result in enumerate(results):
        if isinstance(result, RowError):
            errors[int(candidates[row])] = result
            continue
        good.append(row)
        changes.update(result[1])
        if target is not None:
            target[row] = result[0]
    return np.array(good, dtype=np.int64), changes


def _decode_on_read(images: EncodedImages, kept: Positions, image_format: ImageFormat) -> LazyPixels:
    """Return some images as pixels that are decoded each time they are read."""

    def read(positions: Positions) -> Bytes:
        pixels, errors, _ = decode_images(images, positions, image_format)
        if errors:
            index, error = next(iter(errors.items()))
            raise DataError(
                f"{images.where}: {images.names[int(positions[index])]} could be read before, "
                f"but now: {error.message}",
                hint="files must not change while a run reads them",
            )
        return pixels

    return LazyPixels(read, kept, image_format.shape)


def _from_cache(cached: LoadedPixels, config: ImagesConfig) -> LoadedPixels:
    mapped = cast(Bytes, cached.pixels)
    fits = mapped.nbytes <= config.memory_bytes
    return replace(cached, pixels=np.array(mapped) if fits else lazy_pixels_of(mapped))


def _report_errors(
    errors: Mapping[int, RowError], images: EncodedImages, config: ImagesConfig, notes: list[str]
) -> None:
    """Raise `DataError` or add a note if images cannot be read, see `FaultyRows`."""
    faulty = FaultyRows(images.where, config.damage_policy, "images")
    for index in sorted(errors):
        faulty.add(images.where, images.names[index], errors[index])
    faulty.finish(len(images), notes.append)
