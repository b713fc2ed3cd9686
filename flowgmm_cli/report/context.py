"""What a report is made of: what a run directory says, and its rows under its model, as far as there.

What cannot be had is None, with the reason beside it; a report is made of what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.errors import DataError, FlowgmmError, RunError
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.files import read_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.report.history import Series, read_history
from flowgmm_cli.runs import Run

if TYPE_CHECKING:
    from flowgmm_cli.data.prepare import SplitRows
    from flowgmm_cli.data.preprocessor import Split
    from flowgmm_cli.trained import TrainedModel


MOST_ROWS = 20_000
"""Rows of a file that a report looks at; figures need no more."""


class UnavailableError(Exception):
    """A section cannot be made; the message says why, to people."""


@dataclass(frozen=True)
class ValidationRows:
    """Rows that the model was not trained on.

    Attributes:
        name: what they are, such as `test rows`.
        split: preprocessed, with their labels where they have any.
        rows: the same as they were read; None where these were not kept.
    """

    name: str
    split: Split
    rows: Rows | None = None


@dataclass(frozen=True)
class ReportContext:
    """Everything a report may speak of.

    Attributes:
        run: the run.
        info: `run.json`.
        status: as `Run.status` has it.
        recipe: the resolved recipe.
        context: surroundings of data sources.
        warn: told of what the reader of the report should know too.
        data: rows that take the place of the run's own test rows, as for `open_rows`; None for the latter.
        data_format: what they are, where their name does not say it.
        out: rows to hold against in-distribution ones, likewise; None for stand-ins.
    """

    run: Run
    info: Mapping[str, Any]
    status: str
    recipe: Recipe
    context: DataContext
    warn: Callable[[str], None] = field(default=lambda text: None)
    data: str | None = None
    data_format: str | None = None
    out: str | None = None

    @cached_property
    def history(self) -> Mapping[str, Series]:
        """The course of the training, of the first member."""
        return read_history(self.run.metrics)

    @cached_property
    def evaluation(self) -> Evaluation | None:
        """How the model does on the test rows, as stored; None where there is no such result."""
        return stored_evaluation(self.run)

    @cached_property
    def search(self) -> Mapping[str, Any] | None:
        """The race of settings, as stored; None where there was none."""
        file = self.run.path / "search.json"
        return read_json(file, "search") if file.is_file() else None

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What `model.json` knows of the training; empty before there is a model."""
        file = self.run.path / "model.json"
        found = read_json(file, "model").get("facts") if file.is_file() else None
        return found if isinstance(found, dict) else {}

    @cached_property
    def _trained(self) -> TrainedModel | str:
        from flowgmm_cli.trained import TrainedModel

        if not (self.run.path / "model.json").is_file():
            return f"this run has no model yet; its status is {self.status}"
        try:
            return TrainedModel.load(self.run.path, context=self.context)
        except FlowgmmError as error:
            return error_text(error)

    @property
    def trained(self) -> TrainedModel:
        """The model. Raises `MissingError`."""
        if isinstance(self._trained, str):
            raise UnavailableError(f"The model cannot be used: {self._trained}.")
        return self._trained

    @cached_property
    def _rows(self) -> SplitRows | str:
        from flowgmm_cli.data.prepare import load_rows

        try:
            rows = load_rows(self.recipe.data, self.context)
        except FlowgmmError as error:
            return error_text(error)
        if rows.fingerprint != self.info.get("fingerprint"):
            self.warn("the data has changed since this run was trained; the report shows it as it is now")
        if rows.class_names != self.class_names and self.class_names:
            return "its classes are no longer those of the model"
        return rows

    @property
    def rows(self) -> SplitRows:
        """All rows, divided as in training. Raises `MissingError`."""
        if isinstance(self._rows, str):
            raise UnavailableError(f"The data of the run cannot be read: {self._rows}.")
        return self._rows

    @property
    def data_changed(self) -> bool:
        """Whether the rows are no longer those of the training."""
        return not isinstance(self._rows, str) and self._rows.fingerprint != self.info.get("fingerprint")

    @cached_property
    def held(self) -> ValidationRows:
        """The rows of `data`, else test rows, else held-out rows. Raises `MissingError`."""
        if self.data is not None:
            return ValidationRows(f"rows of {self.data}", self.read(self.data, self.data_format))
        rows, trained = self.rows, self.trained
        for name, chosen in (("test rows", rows.test), ("held-out rows", rows.val)):
            if chosen is not None:
                pixels = trained.image is not None
                split = trained.preprocessor.apply(chosen, self.context, with_inputs=pixels)
                return ValidationRows(name, split, chosen)
        raise UnavailableError("The run holds out no rows that could be shown.")

    def read(self, where: str, data_format: str | None = None) -> Split:
        """Rows of a file, preprocessed, at most 20,000; it is told how many could not be used.

        Raises:
            DataError: the file is missing or malformed, or none of its rows can be used.
            MissingError: there is no model.
        """
        from flowgmm_cli.data.readers.open import open_rows
        from flowgmm_cli.data.readers.schema import InputSchema

        trained = self.trained
        featuriser = trained.preprocessor.featuriser
        schema = InputSchema.from_config(
            trained.recipe.data, featuriser.columns, trained.class_names, ranges=featuriser.ranges
        )
        reader = open_rows(where, schema, context=self.context, format=data_format, on_error="keep")
        parts, problems, total = [], 0, 0
        for chunk in reader:
            split, refused = trained.preprocessor.apply_usable(
                chunk.rows, self.context, skip=chunk.problems, with_inputs=trained.image is not None
            )
            parts.append(split)
            problems += len(chunk.problems) + len(refused)
            total += len(split)
            if total >= MOST_ROWS:
                self.warn(f"report: of {where} the first {total:,} rows are used")
                break
        if not total:
            raise DataError(f"{where} has no row that the model can use")
        if problems:
            self.warn(f"report: {problems:,} rows of {where} cannot be used and are left out")
        return join(parts)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as far as any file of the run has them."""
        file = self.run.path / "model.json"
        if file.is_file():
            return tuple(read_json(file, "model").get("class_names", ()))
        return tuple(one.name for one in self.evaluation.classification.per_class) if self.evaluation else ()


def load_report_context(
    run: Run,
    *,
    context: DataContext,
    warn: Callable[[str], None] = lambda text: None,
    data: str | None = None,
    data_format: str | None = None,
    out: str | None = None,
) -> ReportContext:
    """Read what the files of a run say; rows and model are read when a section asks for them.

    Arguments as in `Material`.

    Raises:
        RunError: the run cannot be read at all.
    """
    return ReportContext(run, run.info(), run.status(), run.recipe(), context, warn, data, data_format, out)


def join(parts: Sequence[Split]) -> Split:
    """Several stretches of rows as one."""
    import numpy as np
    import torch

    from flowgmm_cli.data.preprocessor import Split

    inputs = [one.inputs for one in parts if one.inputs is not None]
    return Split(
        x=torch.cat([one.x for one in parts]),
        log_det=torch.cat([one.log_det for one in parts]),
        labels=torch.cat([one.labels for one in parts]),
        ids=np.concatenate([one.ids for one in parts]),
        inputs=torch.cat(inputs) if len(inputs) == len(parts) else None,
    )


def stored_evaluation(run: Run, split: str = "test") -> Evaluation | None:
    """What the last evaluation of a split found; None where there is none or its file is damaged."""
    file = run.path / "eval" / f"{split}.json"
    if not file.is_file():
        return None
    try:
        return Evaluation.from_dict(read_json(file, "evaluation"))
    except (RunError, LookupError, TypeError, ValueError):
        return None


def error_text(error: FlowgmmError) -> str:
    """An error as part of a sentence."""
    return error.message.rstrip(".")
