"""Read images from arrays, npz, npy and IDX (MNIST) files, and from columns of tables, as of the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from flowgmm_cli.data.images.encoded_images import EncodedImages
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.array_files import IDX_LABELS, UNNAMED, StoredArray, read_class_names
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.arrays import ArrayFile, read_array_labels
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.sources.image_folder import ImageSplit
from flowgmm_cli.errors import DataError

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
        if y is not None:
            labels = read_array_labels(x, y, names)
        else:
            labels = np.full(x.shape[0], None)
            key = "data.y" if split == "train" else f"data.y_{split}"
            note(f"{x.where} has no labels" + ("" if x.format == "IDX" else f"; {key} can name them"))
        splits[split] = ImageSplit(x.load(mapped=True), labels, row_ids(split, x.shape[0]))
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
        splits[split] = ImageSplit(images, labels, ids, table.marker_cells(config.labels.column))
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
    candidates = [name for name in table.names if _is_image_type(table.data.column(name).type)]
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


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return "bytes" in names and _is_image_type(names["bytes"])
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
