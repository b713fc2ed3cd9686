"""Schema of the rows that a model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flowgmm_cli.api import Column, Component, DataConfig
from flowgmm_cli.data.images.format import Resize
from flowgmm_cli.data.images.specs import ImagesConfig


@dataclass(frozen=True)
class InputSchema:
    """Columns that a model reads, and the other columns that a file may contain.

    Attributes:
        columns: the input columns in use.
        class_names: index -> name.
        label: column of true classes; optional in the input.
        id: column of row names; optional in the input.
        text_parts: columns whose cells are joined to form the text column.
        delimiter: delimiter of csv files; None takes it from the suffix and the header line.
        arrays: pairs (features, labels) of array names in the recipe of the run.
        codes: class names of the labels 0, 1, ... in arrays of integer labels.
        known: columns that the recipe of the run drops; they cause no note.
        ranges: column -> smallest and largest training value, where known.
        resize: policy for images of another size, see `ImageRule`.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    label: str | None = None
    id: str | None = None
    text_parts: tuple[str, ...] = ()
    delimiter: str | None = None
    arrays: tuple[tuple[str, str | None], ...] = ()
    codes: tuple[str, ...] = ()
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
        marker = config.labels.column if isinstance(config, DataConfig) else None
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
            delimiter=values.get("delimiter"),
            arrays=tuple(pairs),
            codes=tuple(values.get("class_names") or ()),
            known=frozenset([*values.get("drop", ()), *([marker] if marker else [])]),
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
