"""Source `images`: folders of files, IDX (MNIST), npz, npy and parquet files, and data sets of the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Bytes
from flowgmm_cli.data.cache import TableCache
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.images.arrays import ImageConverter, LazyPixels, lazy_pixels_of, read_array_header
from flowgmm_cli.data.images.encoded_images import EncodedImages, list_files
from flowgmm_cli.data.images.format import choose_format
from flowgmm_cli.data.images.load import load_images
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.readers.array_files import (
    IDX_LABELS,
    UNNAMED,
    StoredArray,
    find_array_format,
    read_class_names,
)
from flowgmm_cli.data.readers.byte_source import FileStamp, require_file
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.arrays import ArrayFile, read_array_labels
from flowgmm_cli.data.sources.columns import is_image_type, row_ids
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
            if listing.files or not listing.others[".parquet"]:
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


Note = Callable[[str], None]

_IDX = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)[-.]images[-.]idx\d[-.]ubyte(\.gz)?", re.IGNORECASE)


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Return split -> image file of the files in a folder that are named like those of MNIST."""
    sets: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir(), reverse=True):  # the unzipped file comes last and wins
        match = _IDX.fullmatch(file.name)
        if match and file.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            sets.setdefault(match["set"], {})[split] = file
    if len(sets) > 1:
        raise DataError(
            f"{folder} holds several sets of IDX files",
            details=[file.name for files in sets.values() for file in files.values()],
            hint="set data.path and data.test_path to two of them",
        )
    return next(iter(sets.values()), {})


def read_array_images(
    files: Mapping[str, Path], config: ImagesConfig, note: Note
) -> tuple[dict[str, ImageSplit], Sequence[str] | None]:
    """Read the images in files of arrays, by split, and the class names if the files contain them."""
    if "train" not in files:
        only = next(iter(files.values()))
        note(f"{only.name} is the only file; data.split.test sets rows aside for the test")
        files = {"train": only}
    stored: dict[str, tuple[StoredArray, StoredArray | None]] = {}
    names: Sequence[str] | None = config.class_names
    for split, path in files.items():
        file = ArrayFile(str(path))
        if file.format == "idx":
            stored[split] = (file.arrays[UNNAMED], file.arrays.get(IDX_LABELS))
        else:
            stored |= _find_splits(file, config)
        names = names or read_class_names(file.arrays)
    splits = {}
    for split, (x, y) in stored.items():
        pixels = x.load(mapped=True)  # fails if a damaged file only claims its rows, before labels are made
        if y is not None:
            labels = read_array_labels(x, y, names)
        else:
            labels = np.full(x.shape[0], None)
            key = "data.y" if split == "train" else f"data.y_{split}"
            note(f"{x.where} has no labels" + ("" if x.format == "IDX" else f"; {key} can name them"))
        splits[split] = ImageSplit(pixels, labels, row_ids(split, len(pixels)))
    return splits, names


def _find_splits(file: ArrayFile, config: ImagesConfig) -> dict[str, tuple[StoredArray, StoredArray | None]]:
    """Return the images and labels of each split in a file, or in npy files that the recipe names."""
    splits = {}
    given = {"train": (config.x, config.y), "test": (config.x_test, config.y_test), "val": (None, None)}
    for split, (x, y) in given.items():
        end = "" if split == "train" else f"_{split}"
        x = x or _find_name("x", "images", split, file.arrays)
        if x is None and split != "train":
            continue
        y = y or _find_name("y", "labels", split, file.arrays)
        images = file.find(x or "x", f"data.x{end}")
        splits[split] = (images, None if y is None else file.find(y, f"data.y{end}"))
    return splits


def _find_name(key: str, content: str, split: str, arrays: Mapping[str, object]) -> str | None:
    """Return the array of a split among those that are there, such as `x`, `x_train` or `train_images`."""
    main = (key,) if split == "train" else ()
    return next((name for name in (*main, f"{key}_{split}", f"{split}_{content}") if name in arrays), None)


def read_table_images(tables: dict[str, Table], config: ImagesConfig) -> dict[str, ImageSplit]:
    """Read the images in a column of tables, by split; those of `unlabelled` are added to `train`."""
    splits = {}
    for split, table in tables.items():
        cells = _find_images(table, config.image)
        ids = row_ids(split, len(cells))
        none = np.full(len(cells), None)
        labels = none if split == "unlabelled" else table.label_strings(config.label)
        images = EncodedImages(table.where, ids.tolist(), list(cells))
        splits[split] = ImageSplit(images, labels, ids, table.extra_cells(config.extra_columns))
    if (more := splits.pop("unlabelled", None)) is not None:
        train, none = splits["train"], more.labels
        splits["train"] = ImageSplit(
            join_images(config.path, [train, more]),
            np.concatenate([train.labels, none]),
            np.concatenate([train.ids, more.ids]),
            {name: np.concatenate([cells, none]) for name, cells in train.extras.items()},
        )
    return splits


def join_images(where: str, splits: Iterable[ImageSplit]) -> EncodedImages:
    """Return the encoded images of splits as one sequence."""
    parts = [split.images for split in splits if isinstance(split.images, EncodedImages)]
    names = [name for part in parts for name in part.names]
    return EncodedImages(where, names, [content for part in parts for content in part.contents])


def _find_images(table: Table, column: str | None) -> pa.ChunkedArray:
    """Return a column of images, by default the only one."""
    candidates = [name for name in table.names if is_image_type(table.data.column(name).type)]
    if column is None:
        if len(candidates) != 1:
            raise DataError(
                f"{table.where} has {len(candidates) or 'no'} columns of images",
                details=[f"columns: {', '.join(table.names)}"],
                hint="name one with data.image",
            )
        column = candidates[0]
    cells = table.column(column, key="data.image")
    if column not in candidates:
        raise DataError(
            f"{table.where}: column `{column}` (data.image) holds no image files but {cells.type}",
            details=[f"columns of images: {', '.join(candidates) or 'none'}"],
        )
    return cells


build = ImagesSource
