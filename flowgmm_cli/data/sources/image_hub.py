"""Read images from data sets of the Hugging Face hub, or from local copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Strings
from flowgmm_cli.data.images.decode import Content, UnreadableError
from flowgmm_cli.data.images.encoded_images import EncodedImages, concatenate_images
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.sources.hub_tables import read_splits
from flowgmm_cli.data.sources.image_set import ImageSet, ImageSplit
from flowgmm_cli.data.sources.tables import common_class_names
from flowgmm_cli.errors import DataError


def read_hub_images(config: ImagesConfig, context: DataContext) -> ImageSet:
    """Read the images of the splits that the configuration names."""
    notes: list[str] = []
    tables = read_splits(
        config,
        context,
        notes.append,
        single_split=config.train_split,
        unlabelled_split=config.unlabelled_split,
    )
    unlabelled = tables.pop("unlabelled", None)
    splits = {split: _image_split(split, table, config) for split, table in tables.items()}
    if unlabelled is not None:
        splits["train"] = _add_unlabelled(splits["train"], unlabelled, config)
    return ImageSet(splits, common_class_names(list(tables.values()), config.label), notes)


def _image_split(split: str, table: Table, config: ImagesConfig) -> ImageSplit:
    labels = table.label_strings(config.label)
    extras = table.marker_cells(config.labels.column)
    return ImageSplit(
        _images_in_column(table, config.image, split), labels, row_ids(split, len(labels)), extras
    )


def _add_unlabelled(train: ImageSplit, table: Table, config: ImagesConfig) -> ImageSplit:
    more = _images_in_column(table, config.image, "unlabelled")
    none = np.full(len(more), None, dtype=object)
    extras: dict[str, Strings] = {key: np.concatenate([cells, none]) for key, cells in train.extras.items()}
    return ImageSplit(
        concatenate_images([cast(EncodedImages, train.images), more]),
        np.concatenate([train.labels, none]),
        np.concatenate([train.ids, row_ids("unlabelled", len(more))]),
        extras,
    )


def _images_in_column(table: Table, column: str | None, split: str) -> EncodedImages:
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
    names = row_ids(split, len(cells)).tolist()
    encoded = _EncodedCells(cells)
    return EncodedImages(table.where, names, encoded.content, encoded.signature)


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return "bytes" in names and _is_binary(names["bytes"])
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class _EncodedCells:
    """Encoded images in a column of bytes or of `{bytes, path}`."""

    def __init__(self, cells: pa.ChunkedArray) -> None:
        self._cells = cells

    def content(self, index: int) -> Content:
        cell: Any = self._cells[index].as_py()
        path = None
        if isinstance(cell, dict):
            cell, path = cell["bytes"], cell.get("path")
        if cell is not None:
            return bytes(cell)
        if path is None:
            raise UnreadableError("the cell is empty")
        return Path(path)

    def signature(self) -> str:
        total = blake2b(digest_size=16)
        chunks: Sequence[Any] = self._cells.chunks
        for cell in (cell.as_py() for chunk in chunks for cell in chunk):
            content = cell["bytes"] or str(cell.get("path")).encode() if isinstance(cell, dict) else cell
            total.update(b"-" if content is None else b"%d:" % len(content))
            total.update(content or b"")
        return total.hexdigest()
