"""The columns that a model reads, and those of an input that match them by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flowgmm_cli.api import Column, Component, DataConfig
from flowgmm_cli.data.images.format import Resize
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.byte_source import NO_HEADER, is_number
from flowgmm_cli.data.readers.table import ReadSettings
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.messages import join_some, list_some, override, split_names, suggest_column

_MAX_NAMES = 12  # names in a message


@dataclass(frozen=True)
class InputSchema:
    """Columns that a model reads, and the other columns that a file may contain.

    Attributes:
        columns: the input columns in use.
        class_names: index -> name.
        label: column of true classes; optional in the input.
        id: column of row names; optional in the input.
        text_parts: columns whose cells are joined to form the text column.
        image: column of image files in the training tables, if the recipe names it.
        settings: form of text files.
        arrays: pairs (features, labels) of array names in the recipe of the run.
        codes: class names of the labels 0, 1, ... in arrays of integer labels.
        unlabelled: labels, or names of folders, that mean no label.
        known: columns that the recipe of the run drops; they cause no note.
        ranges: column -> smallest and largest training value, where known.
        resize: policy for images of another size, see `ImageFormat`.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    text_parts: tuple[str, ...] = ()
    image: str | None = None
    settings: ReadSettings = field(default_factory=ReadSettings)
    arrays: tuple[tuple[str, str | None], ...] = ()
    codes: tuple[str, ...] = ()
    unlabelled: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    resize: Resize = "error"

    @classmethod
    def from_config(
        cls,
        data: Component,
        columns: Sequence[Column],
        class_names: Sequence[str],
        *,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> InputSchema:
        """Return the schema of a run with a `data` section; `columns` and `ranges` are the preprocessor's."""
        config = data.config
        values = dict(config)
        text: str | list[str] | None = values.get("text")
        extras = config.extra_columns if isinstance(config, DataConfig) else []
        pairs = [
            (name, values.get(y))
            for x, y in (("x_test", "y_test"), ("x", "y"))
            if isinstance(name := values.get(x), str)
        ]
        return cls(
            columns=tuple(columns),
            class_names=tuple(class_names),
            label=values.get("label", "label"),
            id=values.get("id"),
            text_parts=(text,) if isinstance(text, str) else tuple(text or ()),
            image=values.get("image"),
            settings=read_settings(values),
            arrays=tuple(pairs),
            codes=tuple(values.get("class_names") or ()),
            unlabelled=frozenset([none] if isinstance(none := values.get("unlabelled", ()), str) else none),
            known=frozenset([*values.get("drop", ()), *extras]),
            ranges=dict(ranges or {}),
            resize=config.resize if isinstance(config, ImagesConfig) else "error",
        )

    @cached_property
    def class_index(self) -> Mapping[str, int]:
        """Mapping of class names to indices."""
        return {name: index for index, name in enumerate(self.class_names)}

    @property
    def text(self) -> Column | None:
        """The text column, or None unless it is the only input column."""
        only = self.columns[0] if len(self.columns) == 1 else None
        return only if only is not None and only.kind == "text" else None


def read_settings(values: Mapping[str, Any]) -> ReadSettings:
    """Return the form of text files that the keys of a data section give."""
    return ReadSettings(
        values.get("delimiter"), values.get("encoding"), values.get("decimal", "."), values.get("thousands")
    )


@dataclass(frozen=True)
class ColumnMatch:
    """Columns of the input that are read.

    Attributes:
        inputs: each input column with the columns that form it: a single one, the parts of a text, or the
            entries of a vector.
        label: column of classes; None if the input lacks it.
        id: column of row names; None if the input lacks it.
        kept: columns to pass on as they are.
    """

    inputs: tuple[tuple[Column, tuple[str, ...]], ...]
    label: str | None
    id: str | None
    kept: tuple[str, ...] = ()

    @property
    def needed(self) -> list[str]:
        """All columns to read, without duplicates."""
        inputs = [part for _, parts in self.inputs for part in parts]
        return list(dict.fromkeys([*inputs, *filter(None, (self.label, self.id)), *self.kept]))


def match_columns(
    schema: InputSchema,
    names: Sequence[str],
    *,
    where: str,
    note: Callable[[str], None],
    keep: Sequence[str] = (),
    images: Sequence[str] = (),
) -> ColumnMatch:
    """Find the columns of a model in an input; `note` receives the names of those that are not read.

    `images` are the columns of image files: a single one is that of a model of images, under any name.

    Raises:
        DataError: a column of the model is missing.
        UsageError: a column to keep is missing.
    """
    inputs, missing = list[tuple[Column, tuple[str, ...]]](), list[str]()
    present = set(names)
    for column in schema.columns:
        parts = next(
            (parts for parts in _spellings(column, schema, images) if present.issuperset(parts)), None
        )
        if parts is None:
            expected = schema.text_parts if column.kind == "text" and schema.text_parts else (column.name,)
            missing += [name for name in expected if name not in present]
        else:
            inputs.append((column, parts))
    if missing:
        raise _missing_columns(missing, schema, names, where, images)
    match = ColumnMatch(
        tuple(inputs),
        schema.label if schema.label in names else None,
        schema.id if schema.id in names else None,
        _select_kept(keep, schema, names, where),
    )
    read = {*match.needed, *schema.known}
    if extra := [name for name in names if name not in read]:
        ids = [name for name in extra if schema.id is None and re.fullmatch(r"(?i)(.*_)?(id|uuid)", name)]
        key = override("data.id", ids[0], listed=False) if ids else ""
        hint = f"; {key} in training names rows by it, --with keeps it" if ids else ""
        note(f"{where} has columns that the model does not read: {_join(extra)}{hint}")
    return match


def _select_kept(
    words: Sequence[str], schema: InputSchema, names: Sequence[str], where: str
) -> tuple[str, ...]:
    """Return the columns of `--with`; ids in a column of the name `id` are in every output already."""
    selected = list(names) if list(words) == ["all"] else split_names(words, names)
    present = set(names)
    for name in selected:
        if name not in present:
            message = f"--with: {where} has no column `{name}`{suggest_column(name, names)}"
            hint = "--with all keeps every column"
            raise UsageError(message, details=[f"columns: {_join(names)}"], hint=hint)
    return tuple(name for name in selected if not name == schema.id == "id")


def _spellings(column: Column, schema: InputSchema, images: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Yield the names under which an input may hold a column, the preferred first."""
    if column.kind == "text" and schema.text_parts:
        yield schema.text_parts
    yield (column.name,)
    if column.kind in ("vector", "image"):
        entries = range(math.prod(column.shape))
        yield tuple(f"{column.name}[{entry}]" for entry in entries)
        yield tuple(f"{column.name}_{entry}" for entry in entries)
        if schema.image or len(images) == 1:
            yield (schema.image,) if schema.image else tuple(images)


def _missing_columns(
    missing: Sequence[str], schema: InputSchema, names: Sequence[str], where: str, images: Sequence[str]
) -> DataError:
    what = "no column" if len(missing) == 1 else "no columns"
    hint = "add the missing columns, or rename the columns as in the training data"
    vectors = [
        column for column in schema.columns if column.kind in ("vector", "image") and column.name in missing
    ]
    if vectors:
        name, size = vectors[0].name, math.prod(vectors[0].shape)
        hint = f"`{name}` is a list of {size:,} numbers, or the columns {name}[0] to {name}[{size - 1}]"
        numbered = [other for other in names if re.fullmatch(r".*\d+\W?", other)]
        if len(numbered) == size:
            hint += f"; rename {numbered[0]} to {numbered[-1]}, if they are these"
        if images:
            hint = f"say which column it is: --data '{{use: images, path: {where}, image: {images[0]}}}'"
    elif names and all(map(is_number, names)):
        hint = NO_HEADER
    elif schema.text is not None and len(missing) == 1:
        hint = f"say which column is the text: --data '{{use: csv, path: {where}, text: COLUMN}}'"
    near = suggest_column(missing[0], names) if len(missing) == 1 else ""
    details = [f"columns: {_join(names)}"]
    if len(missing) > 1:
        suggestions = (f"missing: `{name}`{suggest_column(name, names)}" for name in missing)
        details = [*list_some(suggestions, len(missing), _MAX_NAMES), *details]
    listed = _join([f"`{name}`" for name in missing])
    return DataError(f"{where} has {what} {listed}{near}", details=details, hint=hint)


def _join(names: Sequence[str]) -> str:
    return join_some(names, len(names), _MAX_NAMES)
