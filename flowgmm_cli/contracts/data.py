"""Sources and encoders: parameters, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, model_validator

from flowgmm_cli.contracts.parameters import Component, Config, component_field

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class LabelsConfig(Config):
    """The training rows that keep their label; at most one of count, per_class, fraction, column, ids.

    Without any of them every label in the training data is used. The labels of all other rows are hidden
    from everything but the final test.
    """

    count: int | None = Field(None, ge=1, description="number of labelled rows in all")
    per_class: int | None = Field(None, ge=1, description="number of labelled rows of each class")
    fraction: float | None = Field(
        None, gt=0, le=1, description="share of the training rows that is labelled"
    )
    column: str | None = Field(None, description="column whose true cells mark the labelled rows")
    ids: str | None = Field(None, description="file with the ids of the labelled rows, one on each line")
    probabilities: list[str] | None = Field(
        None,
        min_length=2,
        description="columns of class probabilities, one for each class and named like it, also with `p_` "
        "before it: soft labels of training rows whose label is empty",
    )
    balanced: bool = Field(True, description="the same number of each class (count, fraction)")
    seed: int = Field(0, ge=0, description="seed of the draw")
    single_class: bool = Field(
        False,
        description="allow a single class: the model then learns the distribution of its rows, to detect "
        "other rows, and classifies nothing",
    )

    @model_validator(mode="after")
    def _check_exclusive(self) -> LabelsConfig:
        names = ("count", "per_class", "fraction", "column", "ids")
        present = [name for name in names if getattr(self, name) is not None]
        if len(present) > 1:
            raise ValueError(f"give one of {', '.join(present)}, not {len(present)}")
        return self


class SplitConfig(Config):
    """The division of the rows into splits, if the source has no splits of its own."""

    test: float = Field(0.2, ge=0, lt=1, description="share of the rows for the final test, if none is given")
    val: float = Field(0.05, ge=0, lt=1, description="share of the training rows held out")
    val_labels: bool = Field(
        False,
        description="use the labels of the held-out rows for early stopping and calibration: a validation "
        "split beyond the labelled budget, which every output then states",
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="treatment of training rows that are equal to a test row"
    )
    stratify: bool = Field(True, description="keep class proportions when dividing")
    seed: int = Field(0, ge=0, description="seed of the division")


class ViewsConfig(Config):
    """Random changes of training rows: the teacher sees the weak view, the student the strong one.

    Labelled rows get the weak view, too. A list has changes of texts first, then changes of images, then
    changes of features: the order in which a row passes them.
    """

    weak: list[Component] = component_field(
        "view", [], description="changes before the teacher sees a row, and of the labelled rows"
    )
    strong: list[Component] = component_field(
        "view",
        [{"use": "noise", "scale": 0.5}, {"use": "drop", "rate": 0.2}],
        description="changes before the student sees an unlabelled row",
    )


class DataConfig(Config):
    """Parameters of every data source; a source's own model extends this one."""

    labels: LabelsConfig = Field(
        default_factory=lambda: LabelsConfig(), description="rows that keep their label"
    )
    weight: str | None = Field(
        None, description="column of the weight of each label in the loss, at least 0; an empty cell is 1"
    )
    split: SplitConfig = Field(default_factory=lambda: SplitConfig(), description="train, val and test rows")
    transforms: list[Component] = component_field(
        "transform",
        [{"use": "standardise"}],
        description="maps of the feature matrix, fitted on training rows, first to last",
    )
    views: ViewsConfig = Field(
        default_factory=lambda: ViewsConfig(), description="random changes of training rows"
    )

    @property
    def extra_columns(self) -> list[str]:
        """Columns that a source puts into `Rows.extras` if it has them."""
        named = [name for name in (self.labels.column, self.weight) if name is not None]
        return [*named, *(self.labels.probabilities or ())]


@dataclass(frozen=True)
class Column:
    """One input column.

    `vector` columns hold arrays of shape `(N, *shape)`; `image` columns uint8 pixels, `(N, height, width)` or
    `(N, height, width, 3)`, where 0 is black and 255 white; `text` and `category` columns hold `str` objects
    with None where a cell is empty; `numeric` columns hold float64 with NaN where a cell is empty, and `date`
    columns float64 seconds since 1970 in UTC, or since midnight. `format` is that of the dates in a file, see
    `flowgmm_cli.data.dates`.
    """

    name: str
    kind: Literal["numeric", "category", "text", "vector", "image", "date"]
    shape: tuple[int, ...] = ()
    format: str = ""


@dataclass(frozen=True)
class Rows:
    """Some rows: input columns by name, labels and ids, all of length N.

    Attributes:
        columns: see `Column` for what each kind holds.
        labels: int64 `(N,)`, an index into the class names, -1 where the row is unlabelled.
        ids: `(N,)`, strings that are unique and stable within the source.
        extras: other columns a recipe may name (`labels.column`, `labels.probabilities`, `weight`).
    """

    columns: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[Any]
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[Any]) -> Rows:
        """Return the rows at `index` (positions or a boolean mask), in that order."""
        return Rows(
            columns={name: values[index] for name, values in self.columns.items()},
            labels=self.labels[index],
            ids=self.ids[index],
            extras={name: values[index] for name, values in self.extras.items()},
        )


@dataclass(frozen=True)
class SourceData:
    """The data of a source before labels are chosen and rows are divided.

    Attributes:
        columns: the input columns, in order.
        class_names: index -> name.
        splits: `train` always; `val` and `test` if the source has them, with all labels of the data. The
            labels that training may use are chosen later.
        notes: messages for the user (dropped columns, renamed classes), one line each.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    splits: Mapping[str, Rows]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataContext:
    """The environment of a source or encoder.

    Attributes:
        offline: do not use the network.
        cache_dir: a folder for this user's caches.
        progress: `progress(done, total, what)`, called regularly during long work.
        note: `note(text)`, one line for the user.
        streaming: rows come in chunks without end: nothing is cached on disk, and no note counts rows.
    """

    offline: bool = False
    cache_dir: str = ""
    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    note: Callable[[str], None] = lambda text: None
    streaming: bool = False


class DataSource(Protocol):
    """The result of a data source's `build`."""

    def load(self) -> SourceData:
        """Read everything. Raises `DataError` for missing or malformed data."""
        ...


class Fitted(Protocol):
    """A component that is fitted to training rows and saved with the model."""

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays) from which `load_state` restores the fitted component."""
        ...

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        ...


class Encoder(Fitted, Protocol):
    """The result of an encoder's `build`: texts to vectors, fitted on training rows only."""

    dim: int

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training texts; a pretrained encoder does nothing."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return `(N, dim)`; an empty text gives a finite vector."""
        ...

    def cache_key(self) -> str | None:
        """Return a key of everything but the text that determines a vector; None forbids caching."""
        ...
