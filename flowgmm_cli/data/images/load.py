"""Decode images to pixels of one format: in memory, cached on disk, or decoded on each read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowgmm_cli.api import DataContext, iterate_batches
from flowgmm_cli.data.array_types import Bytes, Hashes, Positions
from flowgmm_cli.data.cache import Arrays
from flowgmm_cli.data.fingerprint import pixel_hashes
from flowgmm_cli.data.images.decode import UnreadableError, read_header
from flowgmm_cli.data.images.encoded_images import (
    EncodedImages,
    decode_each,
    decode_images,
    map_in_order,
    unreadable,
)
from flowgmm_cli.data.images.format import ImageFormat, ImageHeader, choose_format
from flowgmm_cli.data.images.lazy_pixels import LazyPixels
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.row_errors import FaultyRows, RowError
from flowgmm_cli.data.store import FeatureFile, require_space, write_features
from flowgmm_cli.data.table_cache import TableCache
from flowgmm_cli.errors import DataError

_BATCH_IMAGES = 256


@dataclass(frozen=True)
class LoadedPixels:
    """Pixels of images.

    Attributes:
        pixels: uint8 `(N, height, width)` or `(N, height, width, 3)`.
        kept: positions of the images, int64 `(N,)`; all but the damaged ones that are left out.
        notes: for the user.
    """

    pixels: Bytes | LazyPixels
    kept: Positions
    notes: tuple[str, ...]


def load_images(images: EncodedImages, config: ImagesConfig, context: DataContext) -> LoadedPixels:
    """Decode every image once, and keep the pixels in memory or on disk."""
    cache = None if config.cache == "never" else TableCache(context, images.where, [images.signature()])
    key = ["pixels", config.channels, config.height_width, config.resize, config.damage_policy]
    if cache is not None and (facts := cache.load(key)) is not None:
        file = cache.open_features(cache.path(key, ".features"))
        if file is not None:
            return _open_entry(file, facts, config)
    notes: list[str] = []
    headers, errors = _read_headers(images, context)
    if not headers:
        _report_errors(errors, images, config, notes)
    candidates = np.array(list(headers), dtype=np.int64)
    named = [(images.names[index], header) for index, header in headers.items()]
    image_format = choose_format(named, config, where=images.where)
    size = len(candidates) * int(np.prod(image_format.shape))
    fits = size <= config.memory_bytes
    if cache is not None and (config.cache == "always" or not fits):
        try:
            require_space(cache.folder, size)
        except OSError as error:
            notes.append(f"decoded images are not kept: {cache.folder} cannot be written ({error.strerror})")
            cache = None
    else:
        cache = None
    decoding = _Decoding(images, candidates, image_format, errors, context)

    def finish() -> None:
        _report_errors(errors, images, config, notes)
        changes = sorted(decoding.changes.items())
        notes.extend(f"{count:,} of {len(decoding.rows):,} images: {change}" for change, count in changes)

    if cache is not None:
        path = cache.path(key, ".features")
        facts = _write_entry(path, decoding, finish, notes)
        cache.save(key, facts)
        if not fits:
            context.note(f"decoded images are kept in {path} ({size / 2**30:,.1f} GiB)")
        return _open_entry(FeatureFile(path), facts, config)
    pixels = np.empty((len(candidates) if fits else 0, *image_format.shape), dtype=np.uint8)
    for start, batch in decoding.batches():
        pixels[start : start + len(batch)] = batch[: len(pixels)]
    finish()
    rows = np.array(decoding.rows, dtype=np.int64)
    kept = candidates[rows]
    if fits:
        return LoadedPixels(pixels if len(rows) == len(pixels) else pixels[rows], kept, tuple(notes))
    notes.append("images are decoded each time they are read, since their pixels do not fit in data.memory")
    return LoadedPixels(_decode_on_read(images, kept, image_format), kept, tuple(notes))


class _Decoding:
    """Decodes images one after the other; `rows` are the good ones so far, `changes` counts theirs."""

    def __init__(
        self,
        images: EncodedImages,
        candidates: Positions,
        image_format: ImageFormat,
        errors: dict[int, RowError],
        context: DataContext,
    ) -> None:
        self.images, self.candidates, self.format, self.errors = images, candidates, image_format, errors
        self._context = context
        self.rows: list[int] = []
        self.changes: Counter[str] = Counter()

    def batches(self) -> Iterator[tuple[int, Bytes]]:
        """Yield the first row of a batch, and its pixels, 0 where an image is unusable."""
        results = decode_each(
            self.images,
            self.candidates,
            self.format,
            lambda done, n: self._context.progress(done, n, "decoding images"),
        )
        for part in iterate_batches(len(self.candidates), _BATCH_IMAGES):
            count = len(self.candidates[part])
            pixels = np.zeros((count, *self.format.shape), dtype=np.uint8)
            for row in range(count):
                result = next(results)
                if isinstance(result, RowError):
                    self.errors[int(self.candidates[part.start + row])] = result
                    continue
                self.rows.append(part.start + row)
                self.changes.update(result[1])
                pixels[row] = result[0]
            yield part.start, pixels
        next(results, None)  # the last report of progress


def _write_entry(path: Path, decoding: _Decoding, finish: Callable[[], None], notes: list[str]) -> Arrays:
    """Decode into a file and describe it; `finish` may raise an error, which leaves no file."""

    def parts() -> Iterator[tuple[Bytes, Hashes]]:
        for _, pixels in decoding.batches():
            yield pixels.reshape(len(pixels), -1), pixel_hashes(pixels)
        finish()

    shape = len(decoding.candidates), int(np.prod(decoding.format.shape))
    write_features(path, shape, np.uint8, parts())
    rows = np.array(decoding.rows, dtype=np.int64)
    return {
        "rows": rows,
        "kept": decoding.candidates[rows],
        "shape": np.array(decoding.format.shape),
        "notes": np.array(notes, dtype=object),
    }


def _open_entry(file: FeatureFile, facts: Arrays, config: ImagesConfig) -> LoadedPixels:
    """Return the pixels of a file."""
    rows, shape = facts["rows"], tuple(facts["shape"].tolist())

    def read(positions: Positions) -> Bytes:
        return file.read_at(rows[positions]).reshape(-1, *shape)

    pixels = LazyPixels(read, np.arange(len(rows)), shape, file.read_hashes(0, file.rows)[rows])
    fits = pixels.nbytes <= config.memory_bytes
    return LoadedPixels(pixels.read() if fits else pixels, facts["kept"], tuple(facts["notes"].tolist()))


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


def _report_errors(
    errors: Mapping[int, RowError], images: EncodedImages, config: ImagesConfig, notes: list[str]
) -> None:
    """Raise `DataError` or add a note if images cannot be read, see `FaultyRows`."""
    faulty = FaultyRows(images.where, config.damage_policy, "images")
    for index in sorted(errors):
        faulty.add(images.where, images.names[index], errors[index])
    faulty.finish(len(images), notes.append)
