"""Columns of the input, by name, for the columns that a model reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from flowgmm_cli.api import Column
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.sources.files import NO_HEADER, is_number
from flowgmm_cli.errors import DataError, did_you_mean

_SHOWN = 12  # names in a message


@dataclass(frozen=True)
class Match:
    """Which columns of the input are read.

    Attributes:
        inputs: for each input column, the columns it is made of: one, the parts of a text, or the entries of
            a vector.
        label: the column of classes; None where the input has none.
        id: the column that names rows; None where the input has none.
    """

    inputs: tuple[tuple[Column, tuple[str, ...]], ...]
    label: str | None
    id: str | None

    @property
    def needed(self) -> list[str]:
        """All columns to be read, each once."""
        return list(dict.fromkeys([*self.input_names, *(one for one in (self.label, self.id) if one)]))

    @property
    def input_names(self) -> list[str]:
        """The columns that input columns are made of."""
        return [part for _, parts in self.inputs for part in parts]

    @property
    def numbers(self) -> list[str]:
        """The columns whose cells must be single numbers."""
        return [
            part
            for column, parts in self.inputs
            for part in parts
            if column.kind == "numeric" or (column.kind in ("vector", "image") and len(parts) > 1)
        ]


def match_columns(
    schema: InputSchema, names: Sequence[str], *, where: str, note: Callable[[str], None]
) -> Match:
    """Find a model's columns among those of the input; `note` is told of the ones that are not read.

    Raises:
        DataError: a column is missing.
    """
    found: list[tuple[Column, tuple[str, ...]]] = []
    missing: list[str] = []
    for column in schema.columns:
        parts = next((parts for parts in _ways(column, schema) if set(parts) <= set(names)), None)
        if parts is None:
            wanted = schema.text_parts if column.kind == "text" and schema.text_parts else (column.name,)
            missing += [name for name in wanted if name not in names]
        else:
            found.append((column, parts))
    if missing:
        raise _missing(missing, schema, names, where)
    match = Match(
        tuple(found),
        schema.label if schema.label in names else None,
        schema.id if schema.id in names else None,
    )
    read = {*match.needed, *schema.known}
    if extra := [name for name in names if name not in read]:
        note(f"{where} has columns that the model does not read: {_listed(extra)}")
    return match


def _ways(column: Column, schema: InputSchema) -> Iterator[tuple[str, ...]]:
    """The ways in which an input may spell a column, the best first."""
    if column.kind == "text":
        if schema.text_parts:
            yield schema.text_parts
        yield (column.name,)
        return
    yield (column.name,)
    if column.kind in ("vector", "image"):
        entries = range(math.prod(column.shape))
        yield tuple(f"{column.name}[{entry}]" for entry in entries)
        yield tuple(f"{column.name}_{entry}" for entry in entries)


def _missing(missing: Sequence[str], schema: InputSchema, names: Sequence[str], where: str) -> DataError:
    what = "no column" if len(missing) == 1 else "no columns"
    hint = "add what is missing, or rename the columns as in the training data"
    vectors = [one for one in schema.columns if one.name in missing and one.kind in ("vector", "image")]
    if vectors:
        name, size = vectors[0].name, math.prod(vectors[0].shape)
        hint = f"`{name}` is a list of {size:,} numbers, or the columns {name}[0] to {name}[{size - 1}]"
    elif names and all(map(is_number, names)):
        hint = NO_HEADER
    elif schema.text is not None and len(missing) == 1:
        hint = f"say which column is the text: --data '{{use: csv, path: {where}, text: COLUMN}}'"
    near = "".join(_near(name, names) for name in missing[:1]) if len(missing) == 1 else ""
    details = [f"columns: {_listed(names)}"]
    if len(missing) > 1:
        details = [f"missing: `{name}`{_near(name, names)}" for name in missing[:_SHOWN]] + details
        if len(missing) > _SHOWN:
            details.insert(_SHOWN, f"and {len(missing) - _SHOWN:,} more")
    shown = ", ".join(f"`{name}`" for name in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    return DataError(f"{where} has {what} {shown}{more}{near}", details=details, hint=hint)


def _near(name: str, names: Sequence[str]) -> str:
    same = [other for other in names if other.casefold() == name.casefold()]
    return f"; did you mean `{same[0]}`?" if same else did_you_mean(name, names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
