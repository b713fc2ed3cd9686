"""The data of a report: the files of a run directory, and its rows under its model.

Model and rows are loaded when a section first needs them. A property whose data is missing raises
`UnavailableError`, and the report goes without the sections that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.errors import DataError, FlowgmmError, RunError
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.files import read_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run

if TYPE_CHECKING:
    from flowgmm_cli.data.preprocessor import Tensors
    from flowgmm_cli.data.splits import SplitRows
    from flowgmm_cli.trained_model import TrainedModel

MAX_FILE_ROWS = 20_000  # rows of a file that a report reads; figures need no more


class UnavailableError(Exception):
    """A section cannot be made; the message is the reason, as a sentence for readers of the report."""


@dataclass(frozen=True)
class ValidationRows:
    """Rows that the model was not trained on."""

    name: str  # of the rows in captions, such as `test rows`
    split: Tensors  # preprocessed rows, with labels where they have any
    rows: Rows | None = None  # the rows as they were read; None if they were not kept


@dataclass(frozen=True)
class ReportContext:
    """A run with the data that the sections of its report share."""

    run: Run
    info: Mapping[str, Any]  # `run.json`
    status: str  # see `Run.status`
    recipe: Recipe  # the resolved recipe
    data_context: DataContext  # environment of data sources
    warn: Callable[[str], None] = field(default=lambda text: None)  # called with notes for the user
    # rows to use instead of the run's own test rows, a file or specification as for `open_rows`
    data: str | None = None
    data_format: str | None = None  # format of `data`, if its name does not tell
    out: str | None = None  # out-of-distribution rows, likewise; None for pseudo-OOD rows
    _failures: dict[str, UnavailableError] = field(default_factory=dict, init=False, repr=False)

    @contextmanager
    def _unavailable(self, message: str) -> Iterator[None]:
        """Translate errors to `UnavailableError`; a failed block is not tried again."""
        if message not in self._failures:
            try:
                yield
                return
            except FlowgmmError as error:
                self._failures[message] = UnavailableError(f"{message}: {error.message.rstrip('.')}.")
        raise self._failures[message]

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The stored results on test rows; None if there are no such results."""
        return read_evaluation(self.run)

    @cached_property
    def search(self) -> Mapping[str, Any] | None:
        """The stored search over settings; None if there was no search."""
        file = self.run.path / "search.json"
        return read_json(file, "search") if file.is_file() else None

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """Facts of the training in `model.json`; empty before there is a model."""
        facts = self._model_file.get("facts")
        return facts if isinstance(facts, dict) else {}

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, from the model or else from the evaluation."""
        if self._model_file or self.evaluation is None:
            return tuple(self._model_file.get("class_names", ()))
        return tuple(row.name for row in self.evaluation.classification.per_class)

    @cached_property
    def _model_file(self) -> Mapping[str, Any]:
        file = self.run.path / "model.json"
        return read_json(file, "model") if file.is_file() else {}

    @cached_property
    def trained(self) -> TrainedModel:
        """The model. Raises `UnavailableError`."""
        from flowgmm_cli.trained_model import TrainedModel

        with self._unavailable("The model cannot be used"):
            if not self._model_file:
                raise RunError(f"this run has no model yet; its status is {self.status}")
            return TrainedModel.load(self.run.path, context=self.data_context)

    @cached_property
    def rows(self) -> SplitRows:
        """All rows, split as in training. Raises `UnavailableError`."""
        from flowgmm_cli.data.prepare import load_rows

        with self._unavailable("The data of the run cannot be read"):
            rows = load_rows(self.recipe.data, self.data_context)
            if self.class_names and rows.class_names != self.class_names:
                raise DataError("its classes are no longer those of the model")
        if rows.fingerprint != self.info.get("fingerprint"):
            self.warn("the data has changed since this run was trained; the report shows the current data")
        return rows

    @cached_property
    def validation(self) -> ValidationRows:
        """The rows of `data`, else test rows, else validation rows. Raises `UnavailableError`."""
        if self.data is not None:
            return ValidationRows(f"rows of {self.data}", self.read_split(self.data, self.data_format))
        for name, rows in (("test rows", self.rows.test), ("held-out rows", self.rows.val)):
            if rows is not None:
                with_inputs = self.trained.image is not None
                split = self.trained.preprocessor.apply(rows, self.data_context, with_inputs=with_inputs)
                return ValidationRows(name, split, rows)
        raise UnavailableError("The run has no held-out rows to show.")

    def read_split(self, data: str, data_format: str | None = None) -> Tensors:
        """Read and preprocess the first 20,000 rows of a file; warn of rows that cannot be used.

        Raises:
            DataError: the file is missing or malformed, or none of its rows can be used.
            UnavailableError: there is no model.
        """
        from flowgmm_cli.data.readers.open import open_rows
        from flowgmm_cli.data.readers.schema import InputSchema

        trained = self.trained
        preprocessor = trained.preprocessor
        schema = InputSchema.from_config(
            trained.recipe.data, preprocessor.columns, trained.class_names, ranges=preprocessor.ranges
        )
        reader = open_rows(data, schema, context=self.data_context, format=data_format, on_error="keep")
        parts, problems, total = [], 0, 0
        for chunk in reader:
            split, unusable = trained.preprocessor.apply_valid(
                chunk.rows, self.data_context, skip=chunk.problems, with_inputs=trained.image is not None
            )
            parts.append(split)
            problems += len(chunk.problems) + len(unusable)
            total += len(split)
            if total >= MAX_FILE_ROWS:
                self.warn(f"report: only the first {total:,} rows of {data} are used")
                break
        if not total:
            raise DataError(f"{data} has no row that the model can use")
        if problems:
            self.warn(f"report: {problems:,} rows of {data} cannot be used and are left out")
        return concatenate(parts)


def load_report_context(
    run: Run,
    *,
    context: DataContext,
    warn: Callable[[str], None] = lambda text: None,
    data: str | None = None,
    data_format: str | None = None,
    out: str | None = None,
) -> ReportContext:
    """Read the small files of a run; model and rows are loaded later. See `ReportContext` for arguments.

    Raises:
        RunError: the run cannot be read at all.
    """
    return ReportContext(run, run.info(), run.status(), run.recipe(), context, warn, data, data_format, out)


def concatenate(splits: Sequence[Tensors]) -> Tensors:
    """Join consecutive rows."""
    import numpy as np
    import torch

    from flowgmm_cli.data.preprocessor import Tensors

    inputs = [split.inputs for split in splits if split.inputs is not None]
    return Tensors(
        x=torch.cat([split.x for split in splits]),
        log_det=torch.cat([split.log_det for split in splits]),
        labels=torch.cat([split.labels for split in splits]),
        ids=np.concatenate([split.ids for split in splits]),
        inputs=torch.cat(inputs) if len(inputs) == len(splits) else None,
    )


def read_evaluation(run: Run, split: str = "test") -> Evaluation | None:
    """Read the last evaluation of a split; None if the file is missing or damaged."""
    file = run.path / "eval" / f"{split}.json"
    if not file.is_file():
        return None
    try:
        return Evaluation.from_dict(read_json(file, "evaluation"))
    except (RunError, LookupError, TypeError, ValueError):
        return None
