"""Batches of rows to the data of a source."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flowgmm_arrow.cells import Cells, numbers, sort_naturally, strings, texts, vectors
from flowgmm_arrow.columns import ColumnSelection
from flowgmm_cli.api import Column, DataError, Rows, SourceData

if TYPE_CHECKING:
    from flowgmm_arrow.plugin import TableConfig

MANY_CATEGORIES = 64
"""A column of strings with more different values than this must be declared in the recipe."""


class SplitBuilder:
    """Collects the rows of a split: each batch is converted to arrays, and Arrow's memory is freed.

    Args:
        selection: the columns.
        config: of the source.
        where: the name of the rows in messages.
        codes: names of the label's codes 0, 1, ...; empty for labels that are not codes.
    """

    def __init__(
        self, selection: ColumnSelection, config: TableConfig, where: str, codes: Sequence[str] = ()
    ) -> None:
        self._selection = selection
        self._config = config
        self._where = where
        self._codes = {str(code): name for code, name in enumerate(codes)}
        self._parts: dict[str, list[Cells]] = {}
        self.rows = 0

    def add(self, batch: pa.RecordBatch, ids: Iterable[str]) -> None:
        """Add a batch with the columns in use; `ids` are ignored if the recipe has an id column."""
        selection, config = self._selection, self._config
        arrays: dict[str, Cells] = {}
        if selection.text:
            arrays["text"] = texts([batch.column(part) for part in selection.text])
        for name, kind in selection.kinds.items():
            cells = batch.column(name)
            try:
                arrays[f"in {name}"] = (
                    numbers(cells)
                    if kind == "numeric"
                    else strings(cells)
                    if kind == "category"
                    else vectors(cells, name)
                )
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise DataError(
                    f"{self._where}: column `{name}` cannot be read as {kind}: {error}",
                    hint=f"make it of one type in all files, or leave it out with data.drop=[{name}]",
                ) from error
        arrays["label"] = strings(batch.column(config.label))
        if config.id is not None:
            arrays["id"] = strings(batch.column(config.id))
        else:
            arrays["id"] = np.array(list(ids), dtype=object)
        marker = config.labels.column
        if marker is not None and marker in batch.schema.names:
            arrays["marker"] = strings(batch.column(marker))
        for name, cells in arrays.items():
            self._parts.setdefault(name, []).append(cells)
        self.rows += batch.num_rows

    def take(self, name: str) -> Cells:
        """All cells of a part; its batches are forgotten."""
        parts = self._parts.pop(name)
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise DataError(
                f"{self._where}: column `{name.removeprefix('in ')}` holds vectors of different lengths",
                hint=f"leave it out with data.drop=[{name.removeprefix('in ')}]",
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def labels(self) -> Cells:
        """The classes' names, None where a row has none."""
        cells, skipped = self.take("label"), self._config.unlabelled
        if self._codes:
            return np.array([self._codes.get(cell) for cell in cells], dtype=object)
        if skipped is not None:
            cells[cells == skipped] = None
        return cells

    def ids(self) -> Cells:
        """Ids, each a string of its own.

        Raises:
            DataError: one is empty or there twice.
        """
        ids, column = self.take("id"), self._config.id
        if column is not None:
            seen: set[str | None] = set()
            for row, code in enumerate(ids.tolist(), start=1):
                if code is None or code in seen:
                    what = "is empty" if code is None else f"is `{code}` again"
                    raise DataError(
                        f"{self._where}: column `{column}` (data.id) {what} in row {row}",
                        hint="an id names one row",
                    )
                seen.add(code)
        return ids

    def has_marker(self) -> bool:
        """Return whether the rows have the column that marks labelled rows."""
        return "marker" in self._parts


def assemble(
    splits: Mapping[str, SplitBuilder], selection: ColumnSelection, config: TableConfig, *, sort: bool = False
) -> SourceData:
    """Make the source's data of its splits.

    Args:
        splits: `train`, and the others where they are given.
        chosen: the columns.
        config: of the source.
        sort: put rows in the order of their ids.

    Raises:
        DataError: a split is empty, ids are not unique, or a column of strings is no category.
    """
    for split, gathered in splits.items():
        if not gathered.rows:
            raise DataError(f"the {split} split has no rows", hint=f"check what data gives for `{split}`")
    labels = {split: gathered.labels() for split, gathered in splits.items()}
    names = sort_naturally({cell for cells in labels.values() for cell in cells.tolist() if cell is not None})
    code: dict[Any, int] = {None: -1} | {name: index for index, name in enumerate(names)}
    columns: tuple[Column, ...] = ()
    rows_by_split: dict[str, Rows] = {}
    for split, gathered in splits.items():
        inputs: dict[str, Cells] = {}
        if selection.text:
            inputs[selection.text_name] = gathered.take("text")
        for name, kind in selection.kinds.items():
            inputs[name] = gathered.take(f"in {name}")
            if kind == "category" and split == "train" and name not in selection.named:
                _check_categories(name, inputs[name])
        if split == "train":
            columns = tuple(
                Column(name, "text")
                if selection.text and name == selection.text_name
                else Column(name, selection.kinds[name], cells.shape[1:])
                for name, cells in inputs.items()
            )
        for column in columns:
            if inputs[column.name].shape[1:] != column.shape:
                raise DataError(
                    f"column `{column.name}` holds vectors of {inputs[column.name].shape[1:]} in `{split}`, "
                    f"but of {column.shape} in `train`",
                    hint=f"leave it out with data.drop=[{column.name}]",
                )
        extras = {str(config.labels.column): gathered.take("marker")} if gathered.has_marker() else {}
        own = np.fromiter((code[cell] for cell in labels[split]), dtype=np.int64, count=gathered.rows)
        rows = Rows(inputs, own, gathered.ids(), extras)
        rows_by_split[split] = rows.take(np.argsort(rows.ids.astype(str), kind="stable")) if sort else rows
    return SourceData(columns, tuple(names), rows_by_split, selection.notes)


def _check_categories(name: str, cells: Cells) -> None:
    distinct = {cell for cell in cells.tolist() if cell is not None}
    if len(distinct) > MANY_CATEGORIES:
        raise DataError(
            f"column `{name}` holds {len(distinct):,} different strings, such as `{min(distinct)[:40]}`",
            hint=f"name it as text (data.text={name}) or categories (data.categorical=[{name}]), or leave it "
            f"out with data.drop=[{name}]",
        )


def class_codes(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Names of the codes of a `ClassLabel` column, which files written by `datasets` have; else nothing."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = about["info"]["features"][label]
    except (KeyError, TypeError, ValueError):
        return ()
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return ()
    return tuple(map(str, feature.get("names", ())))
