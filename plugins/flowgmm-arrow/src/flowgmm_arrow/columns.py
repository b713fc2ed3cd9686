"""Selection of the input columns of an Arrow schema, and their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from flowgmm_cli.api import DataError, RecipeError

if TYPE_CHECKING:
    from flowgmm_arrow.plugin import TableConfig


@dataclass(frozen=True)
class ColumnSelection:
    """The columns in use.

    Attributes:
        kinds: input column -> kind, in order, without the text.
        text: the parts of the text column; empty without text.
        named: columns that the recipe declares as categories, of any number.
        read: all columns to read: the input, the label, ids and the marker of labelled rows.
        notes: messages for the user.
    """

    kinds: dict[str, Literal["numeric", "category", "vector"]]
    text: tuple[str, ...]
    named: frozenset[str]
    read: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def text_name(self) -> str:
        """Name of the text column."""
        return self.text[0] if len(self.text) == 1 else "text"


def select_columns(schema: pa.Schema, config: TableConfig, where: str) -> ColumnSelection:
    """Choose the columns of a table.

    Args:
        schema: of the training rows.
        config: of the source.
        where: the table's name in messages.

    Raises:
        RecipeError: the recipe names missing columns.
        DataError: two columns have the same name, or a column's type cannot be an input.
    """
    names = list(schema.names)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where} has two columns of one name: {', '.join(twice)}", hint="rename one of them")
    text = (config.text,) if isinstance(config.text, str) else tuple(config.text or ())
    _check_names(names, config, text, where)
    marker = config.labels.column if config.labels.column in names else None
    reserved = {config.label, config.id, config.labels.column, *config.drop}
    others = [name for name in names if name not in reserved and name not in text]
    notes: tuple[str, ...] = ()
    if config.features is not None:
        others = [name for name in config.features if name not in text]
    elif text:
        if others:
            notes = (
                f"the text alone is used; list columns in data.features to add them: {', '.join(others)}",
            )
        others = []
    named = frozenset(config.categorical or ())
    kinds = {name: "category" if name in named else _kind(schema.field(name), where) for name in others}
    if not (kinds or text):
        raise DataError(
            f"{where} has no input column beside the label `{config.label}`",
            hint="check data.features and data.drop",
        )
    read = dict.fromkeys([*kinds, *text, config.label, *filter(None, (config.id, marker))])
    return ColumnSelection(kinds, text, named, tuple(read), notes)


def _check_names(names: Sequence[str], config: TableConfig, text: Sequence[str], where: str) -> None:
    given = {
        "label": [config.label],
        "id": [config.id] if config.id is not None else [],
        "text": text,
        "features": config.features or [],
        "drop": config.drop,
        "categorical": config.categorical or [],
    }
    problems = [
        f"data.{key}  no column `{name}`{suggest(name, names)}"
        for key, columns in given.items()
        for name in columns
        if name not in names
    ]
    if config.label in (config.features or []) or config.label in text:
        problems.append(f"data.label  `{config.label}` cannot be an input as well")
    if problems:
        raise RecipeError(f"{where} has other columns", details=problems, hint=f"columns: {', '.join(names)}")


def _kind(field: pa.Field, where: str) -> Literal["numeric", "category", "vector"]:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if is_number(kind):
        return "category" if pa.types.is_dictionary(field.type) else "numeric"
    if is_text(kind):
        return "category"
    if isinstance(kind, pa.FixedShapeTensorType) or (is_list(kind) and is_number(kind.value_type)):
        return "vector"
    raise DataError(
        f"{where}: column `{field.name}` is of the type {field.type}, which cannot be an input",
        hint=f"leave it out with data.drop=[{field.name}], or turn it into numbers",
    )


def is_number(kind: pa.DataType) -> bool:
    """Return whether cells of a type are numbers."""
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(plain or types.is_boolean(kind) or types.is_null(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether cells of a type are strings."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    """Return whether cells of a type are lists."""
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def suggest(given: str, allowed: Sequence[str]) -> str:
    """Return `; did you mean `x`?` for the nearest allowed name, or an empty string."""
    matches = get_close_matches(given, allowed, n=1, cutoff=0.6)
    return f"; did you mean `{matches[0]}`?" if matches else ""
