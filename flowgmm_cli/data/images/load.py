"""Decode images to pixels of one format: in memory, cached on disk, or decoded on each read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from flowgmm_cli.api import DataContext, iterate_batches
from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.cache import Arrays, TableCache
from flowgmm_cli.data.feature_file import FeatureFile, require_space, write_features
from flowgmm_cli.data.fingerprint import pixel_hashes
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.data.images.decode import read_header
from flowgmm_cli.data.images.encoded_images import EncodedImages, decode_images
from flowgmm_cli.data.images.format import ImageFormat, choose_format
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.row_errors import FaultyRows, RowError
from flowgmm_cli.errors import DataError

_BATCH_IMAGES = 256


class LoadedPixels(NamedTuple):
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
    decoding = _Decoding(images, config, context)
    count, shape = len(decoding.candidates), decoding.format.shape
    width = int(np.prod(shape))
    fits = count * width <= config.memory_bytes
    if cache is not None and (config.cache == "always" or not fits):
        try:
            require_space(cache.folder, count * width)
        except OSError as error:
            reason = f"{cache.folder} cannot be written ({error.strerror})"
            decoding.notes.append(f"decoded images are not kept: {reason}")
        else:
            path = cache.path(key, ".features")
            parts = ((pixels.reshape(len(pixels), width), pixel_hashes(pixels)) for _, pixels in decoding)
            write_features(path, (count, width), np.uint8, parts)
            rows, kept = decoding.good_rows()
            notes = np.array(decoding.notes, dtype=object)
            facts = {"rows": rows, "kept": kept, "shape": np.array(shape), "notes": notes}
            cache.save(key, facts)
            if not fits:
                context.note(f"decoded images are kept in {path} ({count * width / 2**30:,.1f} GiB)")
            return _open_entry(FeatureFile(path), facts, config)
    pixels = np.empty((count if fits else 0, *shape), dtype=np.uint8)
    for start, batch in decoding:
        pixels[start : start + len(batch)] = batch[: len(pixels)]
    rows, kept = decoding.good_rows()
    if fits:
        return LoadedPixels(pixels if len(rows) == count else pixels[rows], kept, tuple(decoding.notes))
    note = "images are decoded each time they are read, since their pixels do not fit in data.memory"
    lazy = _decode_on_read(images, kept, decoding.format)
    return LoadedPixels(lazy, kept, (*decoding.notes, note))


class _Decoding:
    """Batches of the decoded images with a readable header, the `candidates`, each with its first row.

    Pixels are 0 where an image is unusable. After the last batch, damaged images raise `DataError` or are
    noted, see `FaultyRows`.
    """

    def __init__(self, images: EncodedImages, config: ImagesConfig, context: DataContext) -> None:
        self._images, self._config, self._context = images, config, context
        self._errors: dict[int, RowError] = {}
        self.notes: list[str] = []
        headers = {}
        positions = np.arange(len(images))
        results = images.read_each(read_header, positions, self._progress("looking at images"))
        for index, result in enumerate(results):
            if isinstance(result, RowError):
                self._errors[index] = result
            else:
                headers[index] = result
        if not headers:
            self._report_errors()
        self.candidates = np.array(list(headers), dtype=np.int64)
        named = [(images.names[index], header) for index, header in headers.items()]
        self.format = choose_format(named, config, where=images.where)

    def _progress(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._context.progress(done, total, what)

    def __iter__(self) -> Iterator[tuple[int, Bytes]]:
        count, changes = len(self.candidates), Counter[str]()
        progress = self._progress("decoding images")
        for part in iterate_batches(count, _BATCH_IMAGES):
            progress(part.start, count)
            positions = self.candidates[part]
            pixels, errors, batch_changes = decode_images(self._images, positions, self.format)
            self._errors |= {int(positions[place]): error for place, error in errors.items()}
            changes += batch_changes
            yield part.start, pixels
        progress(count, count)
        self._report_errors()
        good = len(self._images) - len(self._errors)
        self.notes += [
            f"{number:,} of {good:,} images: {change}" for change, number in sorted(changes.items())
        ]

    def _report_errors(self) -> None:
        faulty = FaultyRows(self._images.where, self._config.damage_policy, "images")
        for index in sorted(self._errors):
            faulty.add(self._images.where, self._images.names[index], self._errors[index])
        faulty.finish(len(self._images), self.notes.append)

    def good_rows(self) -> tuple[Positions, Positions]:
        """Return the usable images after decoding: their places among the candidates, and in all images."""
        rows = np.flatnonzero(~np.isin(self.candidates, list(self._errors)))
        return rows, self.candidates[rows]


def _open_entry(file: FeatureFile, facts: Arrays, config: ImagesConfig) -> LoadedPixels:
    rows, shape = facts["rows"], tuple(facts["shape"].tolist())

    def read(positions: Positions) -> Bytes:
        return file.read_at(rows[positions]).reshape(-1, *shape)

    pixels = LazyPixels(read, np.arange(len(rows)), shape, file.read_hashes(0, file.rows)[rows])
    fits = pixels.nbytes <= config.memory_bytes
    return LoadedPixels(np.asarray(pixels) if fits else pixels, facts["kept"], tuple(facts["notes"].tolist()))


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
