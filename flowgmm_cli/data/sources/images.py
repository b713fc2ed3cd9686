"""Source `images`: folders of files, IDX (MNIST), npz, npy and parquet files, and data sets of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Bytes
from flowgmm_cli.data.cache import TableCache
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.arrays import ImageConverter, read_array_header
from flowgmm_cli.data.images.encoded_images import EncodedImages, list_files
from flowgmm_cli.data.images.format import choose_format
from flowgmm_cli.data.images.lazy_pixels import LazyPixels, lazy_pixels_of
from flowgmm_cli.data.images.load import load_images
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.readers.array_files import find_array_format
from flowgmm_cli.data.readers.byte_source import FileStamp
from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.data.sources.image_arrays import (
    find_idx_files,
    join_images,
    read_array_images,
    read_table_images,
)
from flowgmm_cli.data.sources.image_folder import ImageFolder, ImageSplit
from flowgmm_cli.data.sources.tables import common_class_names, is_hub_id, read_splits
from flowgmm_cli.errors import DataError

Pixels = dict[str, Any]  # by split, uint8 arrays or `LazyPixels`
Splits = dict[str, ImageSplit]

COLUMN = "image"


class ImagesSource:
    """One image column `image`, uint8 `(N, height, width)` or `(N, height, width, 3)`."""

    def __init__(self, config: ImagesConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Find the images and their labels, and decode them once."""
        splits, names = self._read_all()
        if any(isinstance(split.images, EncodedImages) for split in splits.values()):
            pixels, splits = self._decode_files(splits)
        else:
            pixels = self._convert_arrays(splits)
        class_names, labels = encode_labels(
            {name: split.labels for name, split in splits.items()},
            names,
            where=f"{self._config.path}: labels",
            note=self._notes.append,
            unlabelled=self._config.unlabelled_names,
            remedy="set data.unlabelled={}",
            single_class=self._config.labels.single_class,
        )
        rows = {
            name: Rows({COLUMN: pixels[name]}, labels[name], split.ids, split.extras)
            for name, split in splits.items()
        }
        column = Column(COLUMN, "image", pixels["train"].shape[1:])
        return SourceData((column,), class_names, rows, tuple(self._notes))

    def _read_all(self) -> tuple[Splits, Sequence[str] | None]:
        """Read the images at `path`, and those at `test_path` and `val_path` as further splits."""
        config = self._config
        splits, names = self._read(config.path, config.class_names)
        encoded = isinstance(splits["train"].images, EncodedImages)
        for split, path in (("test", config.test_path), ("val", config.val_path)):
            if path is None:
                continue
            others, _ = self._read(path, names)
            part = others.get(split, others["train"])
            if isinstance(part.images, EncodedImages) is not encoded:
                raise DataError(
                    f"data.{split}_path and data.path are of different kinds: {path} and {config.path}",
                    hint="give both as files of images, or both as arrays",
                )
            ids = [f"{split}:{name.removeprefix('train:').removeprefix(f'{split}:')}" for name in part.ids]
            splits[split] = replace(part, ids=np.array(ids, dtype=object))
        return splits, names

    def _read(self, path: str, names: Sequence[str] | None) -> tuple[Splits, Sequence[str] | None]:
        """Read the images at a path by split, and the class names if `names` or the data define them."""
        config = self._config.model_copy(update={"path": path, "class_names": names})
        local = Path(path).expanduser()
        note = self._notes.append
        if local.is_dir():
            if files := find_idx_files(local):
                return read_array_images(files, config, note)
            listing = list_files(local)
            if listing.images or not listing.others[".parquet"]:
                return ImageFolder(local.resolve(), listing, config, note).read(), None
        elif local.suffix.lower() != ".parquet" and (local.exists() or not is_hub_id(path)):
            file = require_file(path)
            if find_array_format(file) is None:
                raise DataError(
                    f"{path} is neither a folder of images nor a file of image arrays",
                    hint="known files: npz, npy, parquet, and IDX such as train-images-idx3-ubyte.gz",
                )
            return read_array_images({"train": file}, config, note)
        tables = read_splits(config, self._context, note)
        labelled = [table for split, table in tables.items() if split != "unlabelled"]
        return read_table_images(tables, config), common_class_names(labelled, config.label)

    def _decode_files(self, splits: Splits) -> tuple[Pixels, Splits]:
        """Return pixels by split, and the splits without the images that are left out."""
        images = join_images(self._config.path, splits.values())
        loaded = load_images(images, self._config, self._context)
        self._notes += loaded.notes
        pixels, usable = {}, {}
        start = 0
        for name, split in splits.items():
            end = start + len(split)
            rows = slice(*np.searchsorted(loaded.kept, [start, end]).tolist())
            kept = loaded.kept[rows] - start
            pixels[name] = loaded.pixels[rows]
            extras = {key: cells[kept] for key, cells in split.extras.items()}
            usable[name] = replace(split, labels=split.labels[kept], ids=split.ids[kept], extras=extras)
            start = end
        return pixels, usable

    def _convert_arrays(self, splits: Splits) -> Pixels:
        config, pixels = self._config, dict[str, Bytes]()
        where = {name: f"{config.path}, `{name}`" for name in splits}
        arrays = {
            name: split.images
            for name, split in splits.items()
            if not isinstance(split.images, EncodedImages)
        }
        headers = [
            (f"the image in `{name}`", read_array_header(array, where=where[name]))
            for name, array in arrays.items()
        ]
        image_format = choose_format(headers, config, where=config.path)
        for name, array in arrays.items():
            convert = ImageConverter(array.dtype, [array], image_format, where=where[name])
            pixels[name] = convert(array)
            self._notes += [f"`{name}`: {note}" for note in convert.notes]
        fit = sum(array.nbytes for array in pixels.values()) <= config.memory_bytes
        keep = np.array if fit else self._leave_on_disk
        return {
            name: keep(array) if isinstance(array, np.memmap) else array for name, array in pixels.items()
        }

    def _leave_on_disk(self, pixels: np.memmap[Any, Any]) -> LazyPixels:
        """Return pixels that are read on access, with hashes that are kept in the cache."""
        lazy = lazy_pixels_of(pixels)
        if self._config.cache != "never":
            columns: dict[str, Any] = {COLUMN: lazy}
            rows = Rows(columns, np.full(len(pixels), -1), np.arange(0))
            column = Column(COLUMN, "image", lazy.shape[1:])
            stamp = FileStamp.of(Path(str(pixels.filename)))
            cache = TableCache(self._context, self._config.path, [astuple(stamp)])
            key = ["hashes", pixels.shape, pixels.strides]
            found = cache.load_or_compute(key, lambda: {"hashes": row_hashes(rows, [column])})
            lazy.hashes = found["hashes"]
        return lazy


build = ImagesSource
