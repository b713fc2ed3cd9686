"""The data of a report: the files of a run directory, and its rows under its model.

Model and rows are loaded when a section first needs them. A property whose data is missing raises
`UnavailableError`, and the report goes without the sections that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataContext, Rows, ScoreInputs
from flowgmm_cli.errors import DataError, FlowgmmError, PluginError, RunError
from flowgmm_cli.evaluation.evaluation_file import find_test_hashes, load_results
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.files import read_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.report.text import list_warnings
from flowgmm_cli.runs import Run

if TYPE_CHECKING:
    from flowgmm_cli.data.splits import SplitData
    from flowgmm_cli.evaluation.result_warnings import ResultWarning
    from flowgmm_cli.trained_model import TrainedModel

MAX_FILE_ROWS = 20_000  # rows of a file that a report reads; figures need no more


class UnavailableError(FlowgmmError):
    """A section cannot be made; the message is the reason, as a sentence for readers of the report."""


@dataclass(frozen=True)
class NamedRows:
    """Rows that the model was not trained on."""

    name: str  # in captions, such as `test rows`
    rows: Rows  # as they were read, with labels where they have any
    encoded: ScoreInputs  # the model's outputs for them


@dataclass(frozen=True)
class ReportContext:
    """A run with the data that the sections of its report share.

    Reading `info`, `status` and `recipe` raises `RunError` if the run is damaged.
    """

    run: Run
    data_context: DataContext  # environment of data sources
    warn: Callable[[str], None] = lambda text: None  # called with notes for the user
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
    def info(self) -> Mapping[str, Any]:
        """The contents of `run.json`."""
        return self.run.info()

    @cached_property
    def status(self) -> str:
        """See `Run.status`."""
        return self.run.status()

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe; without regularisers that cannot be used if the model can."""
        try:
            return self.run.recipe()
        except PluginError:
            with suppress(UnavailableError):
                return self.trained.recipe
            raise

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """The stored results, on test rows if there are any; None if they are missing or damaged."""
        return load_results(self.run)

    def require_evaluation(self) -> Evaluation:
        """Return the results on test rows. Raises `UnavailableError` without test results."""
        if self.evaluation is None:
            raise UnavailableError(
                "There are no results on test rows: the run has no labelled test rows, or is not finished."
            )
        return self.evaluation

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
    def labelled_counts(self) -> npt.NDArray[np.intp] | None:
        """Number of the labelled training rows of each class, `(K,)`; None if the data cannot be read."""
        try:
            labels = self.rows.train.labels
        except UnavailableError:
            return None
        return np.bincount(labels[labels >= 0], minlength=len(self.class_names))

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
    def rows(self) -> SplitData:
        """All rows, split as in training. Raises `UnavailableError`."""
        from flowgmm_cli.data.prepare import load_rows

        with self._unavailable("The data of the run cannot be read"):
            recipe, context = self.recipe, replace(self.data_context, offline=True)
            try:
                rows = load_rows(recipe.data, context, test=find_test_hashes(self.run))
            except DataError as error:
                raise DataError(recipe.hide(error.message)) from error
            if self.class_names and rows.class_names != self.class_names:
                raise DataError("its classes are no longer those of the model")
        if rows.fingerprint != self.info.get("fingerprint"):
            self.warn("the data has changed since this run was trained; rows are those of the current data")
        return rows

    @cached_property
    def validation(self) -> NamedRows:
        """The rows of `data`, else test rows, else validation rows. Raises `UnavailableError`."""
        if self.data is not None:
            return self.read_rows(self.data, self.data_format)
        for name, rows in (("test rows", self.rows.test), ("held-out rows", self.rows.val)):
            if rows is not None:
                return self.encode(name, rows)
        raise UnavailableError("The run has no held-out rows to show.")

    def encode(self, name: str, rows: Rows) -> NamedRows:
        """Preprocess rows, and compute the outputs of the model."""
        with_inputs = self.trained.image is not None
        split = self.trained.preprocessor.apply(rows, self.data_context, with_inputs=with_inputs)
        return NamedRows(name, rows, self.trained.encode_rows(split))

    @cached_property
    def row_warnings(self) -> list[ResultWarning]:
        """Differences of the rows of `data` from the training rows; none without such rows."""
        from flowgmm_cli.inference.drift import Drift
        from flowgmm_cli.inference.scores import OODRule, Totals

        if self.data is None:
            return []
        named, rule = self.validation, OODRule.from_model(self.trained)
        scores = self.trained.require_detector()(named.encoded, [rule.score])[rule.score]
        drift = Drift(self.trained, self.data)
        drift.add(named.rows)
        return drift.warnings(Totals(n=len(scores), flagged=int((scores > rule.threshold).sum())), rule)

    def list_warnings(self) -> list[dict[str, Any]]:
        """List the warnings that the report shows: of the training, of the results, and of rows of `data`."""
        warnings = list_warnings(self.info, self.evaluation)
        with suppress(FlowgmmError):  # the sections that show the rows give the reason
            warnings += [warning.to_dict() for warning in self.row_warnings]
        return warnings

    def read_rows(self, data: str, data_format: str | None = None) -> NamedRows:
        """Read and preprocess the first 20,000 rows of a file; warn of rows that cannot be used.

        Raises:
            DataError: the file is missing or malformed, or none of its rows can be used.
            UnavailableError: there is no model.
        """
        from flowgmm_cli.data.readers.open import open_rows
        from flowgmm_cli.inference.inputs import concatenate_rows, input_schema

        trained, chunks, total = self.trained, [], 0
        schema = input_schema(trained)
        for chunk in open_rows(data, schema, context=self.data_context, format=data_format, on_error="keep"):
            chunks.append(chunk)
            total += len(chunk)
            if total >= MAX_FILE_ROWS:
                self.warn(f"report: only the first {total:,} rows of {data} are used")
                break
        if not total:
            raise DataError(f"{data} has no row that the model can use")
        rows = concatenate_rows(chunks)
        problems = [chunk.start + place for chunk in chunks for place in chunk.problems]
        split, refused = trained.preprocessor.apply_valid(
            rows, self.data_context, skip=problems, with_inputs=trained.image is not None
        )
        if problems := [*problems, *refused]:
            self.warn(f"report: {len(problems):,} rows of {data} cannot be used and are left out")
            rows = rows.take(np.delete(np.arange(total), problems))
        if not len(split):
            raise DataError(f"{data} has no row that the model can use")
        return NamedRows(f"rows of {data}", rows, trained.encode_rows(split))

    @property
    def image_limits(self) -> tuple[float, float] | None:
        """Values of black and white, if they are known."""
        column = self.trained.image
        return None if column is None else self.trained.preprocessor.ranges.get(column.name)
