"""What rows must look like to go through a model, and the chunks in which they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from flowgmm_cli.api import Column, Component, Rows
from flowgmm_cli.data.images.rule import Resize
from flowgmm_cli.data.images.specs import ImagesConfig

OnError = Literal["fail", "keep"]
"""What becomes of a row that cannot be read: it ends the reading, or it is kept as a problem."""


@dataclass(frozen=True)
class InputSchema:
    """The columns that a model reads, by name, and what a file may hold beside them.

    Attributes:
        columns: the input columns in use.
        class_names: index -> name.
        label: column with true classes; read where the input has it, never required.
        id: column that names rows; read where the input has it.
        text_parts: columns that are joined to make the text column.
        delimiter: of csv files; None to take it from the suffix and the header line.
        arrays: pairs (features, labels) of array names that the run's source was told of.
        codes: names of the labels 0, 1, ... where the labels of arrays are such codes.
        known: other columns that the run's source was told to leave alone; not worth a note.
        ranges: the smallest and the largest training value of input columns, where known.
        resize: what becomes of an image of another size, see `ImageRule`.
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
    def of(
        cls,
        data: Component,
        columns: Sequence[Column],
        class_names: Sequence[str],
        *,
        ranges: Mapping[str, tuple[float, float]] | None = None,
    ) -> InputSchema:
        """The schema of a run.

        Args:
            data: the `data` section it was trained with.
            columns: the input columns in use, `preprocessor.featuriser.columns`.
            class_names: index -> name.
            ranges: `preprocessor.featuriser.ranges`.
        """
        config = data.config
        text: str | list[str] | None = getattr(config, "text", None)
        labels = getattr(config, "labels", None)
        marker = getattr(labels, "column", None)
        pairs = [
            (name, getattr(config, y, None))
            for x, y in (("x_test", "y_test"), ("x", "y"))
            if isinstance(name := getattr(config, x, None), str)
        ]
        return cls(
            columns=tuple(columns),
            class_names=tuple(class_names),
            label=getattr(config, "label", "label"),
            id=getattr(config, "id", None),
            text_parts=(text,) if isinstance(text, str) else tuple(text or ()),
            delimiter=getattr(config, "delimiter", None),
            arrays=tuple(pairs),
            codes=tuple(getattr(config, "class_names", None) or ()),
            known=frozenset([*getattr(config, "drop", ()), *([marker] if marker else [])]),
            ranges=dict(ranges or {}),
            resize=config.resize if isinstance(config, ImagesConfig) else "error",
        )

    @cached_property
    def class_index(self) -> Mapping[str, int]:
        """Class name -> index."""
        return {name: index for index, name in enumerate(self.class_names)}

    @property
    def text(self) -> Column | None:
        """The text column, if texts are all that the model reads."""
        only = self.columns[0] if len(self.columns) == 1 else None
        return only if only is not None and only.kind == "text" else None


@dataclass(frozen=True)
class Chunk:
    """Every row of one stretch of the input, in order.

    Attributes:
        rows: labels are indices into the class names, -1 where unknown, absent or of another class; ids are
            the id column's cells, else row numbers from 1 (of images, paths).
        start: number of rows before this chunk.
        problems: position in the chunk -> why that row cannot be scored; its cells hold placeholders.
    """

    rows: Rows
    start: int
    problems: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


class RowReader(Protocol):
    """Rows in chunks.

    Attributes:
        name: what to call the input in messages.
        total: number of rows, where that is known without reading them all.
    """

    name: str
    total: int | None

    def __iter__(self) -> Iterator[Chunk]:
        """Read from the start. Standard input can be read only once.

        Raises:
            DataError: the input is malformed or has no rows; with `on_error="fail"`, a row is.
        """
        ...
