"""A table larger than memory, from its files to the rows that are kept in memory and those that are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import DataContext, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.content import row_digests
from flowgmm_cli.data.large.cells import Gathered, RowMaker, gather
from flowgmm_cli.data.large.classes import Classes
from flowgmm_cli.data.large.divide import LEAST, Places, find_places
from flowgmm_cli.data.large.equals import equal_rows
from flowgmm_cli.data.large.facts import Facts
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.data.splits import Division, hide, with_known_classes, with_labels, without_equals
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

_CELL = 8  # bytes of a number
_WHOLE = 2**26  # bytes that may be read at once however small the budget is
_LABELLED, _OTHERS = 8, 32  # parts of the budget that labelled rows and each other kind of rows may take


@dataclass(frozen=True, kw_only=True)
class LargeSource(SourceData):
    """What a source finds whose training rows stay in their files; `splits` has none of them.

    Attributes:
        table: the files.
        maker: what their columns mean.
        classes: labels of all rows.
        memory: the budget, in bytes.
        strict: whether a missing or infinite number is an error.
    """

    table: TableFiles
    maker: RowMaker
    classes: Classes
    memory: int
    strict: bool


@dataclass(frozen=True)
class LargeRows:
    """Training rows that stay in their files.

    Attributes:
        table, maker: see `LargeSource`.
        left_out: numbers of the rows that are not trained on, ascending.
        resident: numbers of the training rows in memory, ascending, as they stand in `train`.
        sample: which of those in memory come from everywhere alike, as positions in `train`.
        facts: what is known of the columns of all of the training rows.
        memory: the budget, in bytes.
    """

    table: TableFiles
    maker: RowMaker
    left_out: Positions
    resident: Positions
    sample: Positions
    facts: Mapping[str, Facts]
    memory: int

    def __len__(self) -> int:
        return self.table.rows - len(self.left_out)


def divide_large(
    source: LargeSource, *, labels: LabelsConfig, split: SplitConfig, context: DataContext
) -> tuple[Division, LargeRows, str]:
    """Divide the rows, and read those that are kept in memory: labelled, held-out, and some of the others.

    Returns:
        The division, whose `train` are the training rows in memory; all of the training rows; and a digest.

    Raises:
        DataError: as `flowgmm_cli.data.splits.divide`; or the labelled rows do not fit into memory.
    """
    row = _CELL * source.maker.width
    given = {name: source.splits.get(name) for name in ("test", "val")}
    places = find_places(
        source.classes,
        labels,
        split,
        most=source.memory // _OTHERS // row,
        has_test=given["test"] is not None,
        has_val=given["val"] is not None,
        require_room=lambda count: _require_room(count, source, row),
    )
    held_out = np.union1d(places.test, places.val)
    wanted = np.unique(np.concatenate([places.labelled, places.sample, held_out]))
    found = gather(source.table, source.maker, wanted, held_out, strict=source.strict, context=context)
    notes = [_about(source), *places.notes]
    test, val = (_held(name, given[name], found, source, places, notes) for name in ("test", "val"))
    if val is not None and not split.val_labels:
        val = hide(val, np.empty(0, dtype=np.int64))
    left_out = held_out
    if split.duplicates == "drop" and (held := [rows for rows in (test, val) if rows is not None]):
        equal = equal_rows(source.table, source.maker, held, held_out, context)
        left_out = np.union1d(held_out, equal)
        if len(left_out) == source.table.rows:
            raise DataError(
                "every training row is equal to a held-out row",
                hint="give other test rows, or set data.split.duplicates=keep",
            )
        if len(equal):
            lost = len(np.intersect1d(equal, places.labelled))
            also = f", {lost:,} labelled ones among them" if lost else ""
            notes.append(f"{len(equal):,} training rows are equal to a held-out row and are left out{also}")
        if test is not None and val is not None:
            digests = partial(row_digests, columns=source.columns)
            val = without_equals(val, test, digests, "validation", "test", notes)
    resident = np.setdiff1d(np.union1d(places.labelled, places.sample), left_out)
    visible = np.isin(resident, places.labelled)
    train = found.at(resident, np.where(visible, source.classes.codes[resident], -1))
    division = with_known_classes(Division(train, val, test, source.class_names, tuple(notes)))
    large = LargeRows(
        table=source.table,
        maker=source.maker,
        left_out=left_out,
        resident=resident,
        sample=np.flatnonzero(np.isin(resident, places.sample)),
        facts=found.facts,
        memory=source.memory,
    )
    return division, large, _digest(source, found, division)


def require_short_batches(table: TableFiles, maker: RowMaker, memory: int) -> None:
    """Check that Arrow's record batches, which are read whole, take little memory.

    Raises:
        DataError: one does not.
    """
    row = _CELL * maker.width
    most = max(memory // _LABELLED, _WHOLE) // row
    for file in table.files:
        if not file.is_parquet and max(file.groups) > most:
            raise DataError(
                f"{file.path} has a record batch of {max(file.groups):,} rows, and one is read as a whole",
                hint=f"write it in batches of at most {most:,} rows (max_chunksize), or as Parquet",
            )


def _held(
    name: str,
    given: Rows | None,
    found: Gathered,
    source: LargeSource,
    places: Places,
    notes: list[str],
) -> Rows | None:
    if given is not None:
        return with_labels(given, notes) if name == "test" else given
    positions = getattr(places, name)
    return found.at(positions, source.classes.codes[positions]) if len(positions) else None


def _require_room(count: int, source: LargeSource, row: int) -> None:
    size, room = count * row, source.memory // _LABELLED
    if size > max(room, LEAST * row):
        raise DataError(
            f"{source.table.where}: {count:,} labelled rows take {size / 2**30:.2f} GiB, and labelled rows "
            f"are kept in memory, in an eighth of data.memory ({source.memory / 2**30:g} GiB)",
            hint="choose some of them with data.labels.count, or raise data.memory",
        )


def _about(source: LargeSource) -> str:
    size = source.table.in_memory(column.name for column in source.columns) / 2**30
    return (
        f"{source.table.rows:,} rows would take {size:,.1f} GiB and stay in their files (data.memory); what "
        "is fitted before training is fitted to some of them"
    )


def _digest(source: LargeSource, found: Gathered, division: Division) -> str:
    """A digest of rows and labels: by what is known of the columns, not by every cell, but on any machine."""
    total = blake2b(digest_size=16)
    columns = [(one.name, one.kind, one.shape) for one in source.columns]
    total.update(repr((columns, division.class_names, source.table.rows)).encode())
    for name, facts in found.facts.items():
        seen = replace(facts, categories=set())
        total.update(repr((name, seen, sorted(map(str, facts.categories)))).encode())
    total.update(np.ascontiguousarray(source.table.group_rows, dtype="<i8").tobytes())  # it fixes the order
    total.update(np.ascontiguousarray(source.classes.codes).data)
    for rows in (division.train, division.val, division.test):
        if rows is not None:
            total.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
            total.update("\n".join(map(str, rows.ids)).encode("utf-8", "surrogatepass"))
            numbers = [one for one in rows.columns.values() if one.dtype != object]
            for cells in numbers:
                total.update(np.ascontiguousarray(cells, dtype="<f8").tobytes())
    return total.hexdigest()
