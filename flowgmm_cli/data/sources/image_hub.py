"""Images of data sets on the Hugging Face hub, or of local copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.images.decode import Content, UnreadableError
from flowgmm_cli.data.images.pictures import Pictures, joined
from flowgmm_cli.data.sources.columns import class_codes, row_ids, strings
from flowgmm_cli.data.sources.hub_tables import read_splits, split_of
from flowgmm_cli.data.sources.image_parts import Found, Part, objects
from flowgmm_cli.data.sources.tables import Table
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.images.specs import ImagesConfig
    from flowgmm_cli.data.sources.image_parts import Strings


def find_in_hub(config: ImagesConfig, context: DataContext) -> Found:
    """The images of the splits that the configuration names.

    Raises:
        DataError: a split or a column is missing, or the data set cannot be read.
    """
    notes: list[str] = []
    named = [config.train_split, config.test_split, config.val_split, config.unlabelled_split]
    tables = read_splits(
        config.path,
        name=config.name,
        revision=config.revision,
        splits=[name for name in named if name],
        train_split=config.train_split,
        context=context,
        note=notes.append,
    )
    chosen = {"train": split_of(tables, config.train_split, path=config.path, key="data.train_split")}
    if config.val_split is not None:
        chosen["val"] = split_of(tables, config.val_split, path=config.path, key="data.val_split")
    if config.test_split == "test" and "test" not in tables:
        notes.append(f"{config.path} has no split `test`")
    elif config.test_split is not None:
        chosen["test"] = split_of(tables, config.test_split, path=config.path, key="data.test_split")
    parts = {split: _part(split, table, config) for split, table in chosen.items()}
    if config.unlabelled_split is not None:
        more = split_of(tables, config.unlabelled_split, path=config.path, key="data.unlabelled_split")
        parts["train"] = _with_unlabelled(parts["train"], more, config)
    names = [table.class_names.get(config.label) for table in chosen.values()]
    same = names[0] is not None and all(other == names[0] for other in names)
    return Found(parts, tuple(names[0] or ()) if same else None, notes)


def _part(split: str, table: Table, config: ImagesConfig) -> Part:
    cells = table.column(config.label, key="data.label")
    names = table.class_names.get(config.label)
    labels = strings(cells)
    if names is not None:
        labels = objects([None if code < 0 else names[code] for code in class_codes(cells, names).tolist()])
    marker = config.labels.column
    extras = {marker: strings(table.data[marker])} if marker is not None and marker in table.names else {}
    pictures = _pictures(table, config.image, split)
    return Part(pictures, labels, row_ids(split, len(labels)), extras)


def _with_unlabelled(train: Part, table: Table, config: ImagesConfig) -> Part:
    more = _pictures(table, config.image, "unlabelled")
    none = np.full(len(more), None, dtype=object)
    first = train.images if isinstance(train.images, Pictures) else more
    extras: dict[str, Strings] = {key: np.concatenate([cells, none]) for key, cells in train.extras.items()}
    return Part(
        joined([first, more]),
        np.concatenate([train.labels, none]),
        np.concatenate([train.ids, row_ids("unlabelled", len(more))]),
        extras,
    )


def _pictures(table: Table, column: str | None, split: str) -> Pictures:
    holding = [name for name in table.names if _holds_images(table.data.column(name).type)]
    if column is None:
        if len(holding) != 1:
            raise DataError(
                f"{table.where} has {len(holding) or 'no'} columns of images",
                details=[f"columns: {', '.join(table.names)}"],
                hint="name one with data.image",
            )
        column = holding[0]
    cells = table.column(column, key="data.image")
    if column not in holding:
        raise DataError(
            f"{table.where}: column `{column}` (data.image) holds no image files but {cells.type}",
            details=[f"columns of images: {', '.join(holding) or 'none'}"],
        )
    names = row_ids(split, len(cells)).tolist()
    encoded = _Cells(cells)
    return Pictures(table.where, names, encoded.content, encoded.signature)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return "bytes" in names and _is_binary(names["bytes"])
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class _Cells:
    """Encoded images in a column, of bytes or of `{bytes, path}`."""

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
        for chunk in _chunks(self._cells):
            for cell in chunk:
                value = cell.as_py()
                content = (
                    value["bytes"] or str(value.get("path")).encode() if isinstance(value, dict) else value
                )
                total.update(b"-" if content is None else b"%d:" % len(content))
                total.update(content or b"")
        return total.hexdigest()


def _chunks(cells: pa.ChunkedArray) -> Sequence[Any]:
    chunks: Sequence[Any] = cells.chunks
    return chunks
