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
from flowgmm_cli.data.images.decode_many import decode_on_read, error_text, map_in_order, try_decode
from flowgmm_cli.data.images.encoded_images import EncodedImages
from flowgmm_cli.data.images.format import ImageFormat, ImageHeader, choose_format
from flowgmm_cli.data.images.lazy_pixels import lazy_pixels_of
from flowgmm_cli.data.images.pixel_cache import LoadedPixels, PixelCache, PixelCacheWriter
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.messages import join_some, list_some
from flowgmm_cli.errors import DataError

_MAX_LISTED = 8  # damaged files named in a message


def load_images(images: EncodedImages, config: ImagesConfig, context: DataContext) -> LoadedPixels:
    """Decode every image once, and keep the pixels in memory or on disk."""
    cache = None
    if config.cache != "never":
        settings = repr((config.channels, config.height_width, config.resize, config.on_corrupt))
        cache = PixelCache(context, where=images.where, content=images.signature(), settings=settings)
        if (cached := cache.load()) is not None:
            return _from_cache(cached, config)
    errors: dict[int, str] = {}
    headers = _read_headers(images, context, errors)
    if not headers:
        raise _damage_error(errors, images, usable=0)
    named = [(images.names[index], header) for index, header in headers.items()]
    image_format = choose_format(named, config, where=images.where)
    candidates = np.array(list(headers), dtype=np.int64)
    return _decode_all(images, candidates, image_format, errors, config, cache, context)


def _read_headers(
    images: EncodedImages, context: DataContext, errors: dict[int, str]
) -> dict[int, ImageHeader]:
    """Return the headers of the readable images by position; add the errors of the others to `errors`."""

    def read(index: int) -> ImageHeader | str:
        try:
            return read_header(images.content(index))
        except (UnreadableError, OSError) as error:
            return error_text(error)

    headers = {}
    results = map_in_order(read, len(images), lambda done, n: context.progress(done, n, "looking at images"))
    for index, result in enumerate(results):
        if isinstance(result, str):
            errors[index] = result
        else:
            headers[index] = result
    return headers


def _decode_all(
    images: EncodedImages,
    candidates: Positions,
    image_format: ImageFormat,
    errors: dict[int, str],
    config: ImagesConfig,
    cache: PixelCache | None,
    context: DataContext,
) -> LoadedPixels:
    shape = (len(candidates), *image_format.shape)
    fits = int(np.prod(shape)) <= config.memory_bytes
    notes: list[str] = []
    writer = None
    if cache is not None and (config.cache == "always" or not fits):
        writer = _create_entry(cache, shape, notes)
    target = writer.pixels if writer is not None else np.empty(shape, np.uint8) if fits else None
    try:
        changes, decode_errors = _decode_into(target, images, candidates, image_format, context)
        errors |= decode_errors
        if errors and (config.on_corrupt == "error" or len(decode_errors) == len(candidates)):
            raise _damage_error(errors, images, usable=len(candidates) - len(decode_errors))
        rows = np.flatnonzero([index not in decode_errors for index in candidates.tolist()])
        kept = candidates[rows]
        notes += [f"{count:,} of {len(kept):,} images: {change}" for change, count in sorted(changes.items())]
        if errors:
            notes.append(_skip_note(errors, images))
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
    return LoadedPixels(decode_on_read(images, kept, image_format), kept, tuple(notes))


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
    context: DataContext,
) -> tuple[Counter[str], dict[int, str]]:
    """Decode into `target`; return the number of images with each change, and the errors by position."""
    changes: Counter[str] = Counter()
    errors: dict[int, str] = {}
    results = map_in_order(
        lambda index: try_decode(images, int(candidates[index]), image_format),
        len(candidates),
        lambda done, n: context.progress(done, n, "decoding images"),
    )
    for index, result in enumerate(results):
        if isinstance(result, tuple):
            changes.update(result[1])
            if target is not None:
                target[index] = result[0]
        else:
            errors[int(candidates[index])] = error_text(result)
    return changes, errors


def _from_cache(cached: LoadedPixels, config: ImagesConfig) -> LoadedPixels:
    mapped = cast(Bytes, cached.pixels)
    fits = mapped.nbytes <= config.memory_bytes
    return replace(cached, pixels=np.array(mapped) if fits else lazy_pixels_of(mapped))


def _damage_error(errors: Mapping[int, str], images: EncodedImages, *, usable: int) -> DataError:
    details = (f"{images.names[index]}: {errors[index]}" for index in sorted(errors))
    return DataError(
        f"{images.where}: {len(errors):,} of {len(images):,} images cannot be read"
        if usable
        else f"{images.where}: no image can be read",
        details=list_some(details, len(errors), _MAX_LISTED),
        hint="make these files again" + (", or leave them out: data.on_corrupt=skip" if usable else ""),
    )


def _skip_note(errors: Mapping[int, str], images: EncodedImages) -> str:
    listed = join_some(
        (f"{images.names[index]} ({errors[index]})" for index in sorted(errors)), len(errors), 3
    )
    return f"{len(errors):,} of {len(images):,} images cannot be read and are left out: {listed}"
