"""A finished run as a Python object, with the commands of the command line as methods.

from flowgmm_cli import load

model = load("runs/latest")
result = model.predict("new.csv")  # or an array, a dict of columns, a list of texts
result.prediction, result.confidence, result.is_ood
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.array_types import Bools, Floats
from flowgmm_cli.data.readers.base import MemoryReader, RowReader
from flowgmm_cli.data.readers.python_rows import RowsLike, open_input
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.inference.drift import Drift
from flowgmm_cli.inference.embedding import MapMethod, check_map, embedding_columns
from flowgmm_cli.inference.evaluate_run import evaluate_scores
from flowgmm_cli.inference.inputs import (
    concatenate_rows,
    input_schema,
    load_run_rows,
    read_first_rows,
    select_held_out,
)
from flowgmm_cli.inference.ood import OODResult, collect_scores, compare_scores
from flowgmm_cli.inference.scores import OODRule, Scores, Totals
from flowgmm_cli.inference.scoring import Space, score
from flowgmm_cli.inference.table_result import render_table
from flowgmm_cli.messages import join_some
from flowgmm_cli.runs import Run, find_run
from flowgmm_cli.trained_model import TrainedModel

if TYPE_CHECKING:
    from flowgmm_cli.inference.check_report import CheckReport
    from flowgmm_cli.inference.explanation import Explanation
    from flowgmm_cli.inference.samples import GeneratedRows


_SHOWN_NAMES = 10


class FlowGMM:
    """A loaded run; see `load`.

    The rows of a method, `data`, have one of these types:

    - `str` or a path: a file or folder in any form of `--data`, or a data spec;
    - a data frame of pandas, polars or another library with Arrow's interface, or a dict of columns;
    - a list of dicts, one for each row;
    - a list of `str` or a Series, for a model of texts;
    - an array `(N, F)`: the numeric columns in the order of training, or vectors or images;
    - None: the run's own held-out rows.

    Columns are matched by name. Rows that cannot be scored keep their place, unless `on_error="fail"`. Pickle
    stores the path of the run, which must stay there.

    Attributes:
        run: the run directory.
        trained: preprocessor, flow, mixture and scores.
        class_names: index -> name.
    """

    def __init__(
        self, run: Run, trained: TrainedModel, context: DataContext, *, device: str = "auto"
    ) -> None:
        self.run = run
        self.trained = trained
        self.class_names = trained.class_names
        self._context = context
        self._device = device

    def __repr__(self) -> str:
        return f"FlowGMM({str(self.run.path)!r}, classes={list(self.class_names)})"

    def _repr_html_(self) -> str:
        accuracy = (self.run.info().get("test") or {}).get("accuracy")
        facts = {
            "run": self.run.path,
            "classes": join_some(self.class_names, len(self.class_names), _SHOWN_NAMES),
            "reads": join_some((column.name for column in self.columns), len(self.columns), _SHOWN_NAMES),
            "scores": ", ".join(self.scores) if self.trained.detector else None,
            "test accuracy": accuracy,
        }
        return render_table(["", ""], list(facts.items()), "FlowGMM")

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_again, (str(self.run.path.absolute()), self._device, self._context.offline)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Input columns that the model reads."""
        return self.trained.preprocessor.columns

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the out-of-distribution scores, the default first."""
        return self.trained.require_detector().names

    def predict(
        self,
        data: RowsLike | None = None,
        *,
        score: str | None = None,
        fpr: float | None = None,
        on_error: OnError = "keep",
    ) -> Scores:
        """Predict classes, probabilities, densities and out-of-distribution flags; see `Scores`.

        Args:
            data: rows, see the class.
            score: name of the score that flags; None for the run's own choice.
            fpr: share of in-distribution rows that may be flagged; None for the recipe's.
            on_error: `fail` raises for a row that cannot be scored.

        Returns:
            A table with a row for each input row: `id`, `prediction`, `confidence`, `ood_score`, `is_ood` and
            `p_<class>` as on the command line, and the same as arrays.
        """
        return self._score(data, rule=self.ood_rule(score, fpr), on_error=on_error)

    def predict_proba(self, data: RowsLike | None = None, *, on_error: OnError = "keep") -> Floats:
        """Return calibrated probabilities `(N, K)`, in the order of `class_names`."""
        return self._score(data, on_error=on_error).probabilities

    def predict_set(
        self,
        data: RowsLike | None = None,
        *,
        coverage: float = 0.9,
        by_class: bool = False,
        on_error: OnError = "keep",
    ) -> Bools:
        """Return a mask of the classes in the set of each row, `(N, K)`, in the order of `class_names`.

        The sets hold the class of a share `coverage` of the rows, or of the rows of each class, by the labels
        that folds or a validation split have held out in training.

        Raises:
            DataError: too few labels were held out.
        """
        held_out = self.trained.held_out
        thresholds = held_out.class_thresholds(coverage, self.class_names, by_class=by_class)
        return thresholds.sets(self._score(data, on_error=on_error).log_probabilities)

    def explain(self, data: RowsLike | None = None, *, on_error: OnError = "keep") -> Explanation:
        """Find the columns or words behind the class and the density of each row; see `Explanation`.

        Cells are compared with those of the run's own rows, which are read.
        """
        from flowgmm_cli.inference.discovery import CollectingReader
        from flowgmm_cli.inference.why import Explainer

        reader = CollectingReader(self._reader(data, on_error))
        scores = self._score(reader, on_error=on_error)
        own = load_run_rows(self.run, self.trained, self._context, purpose="explain")
        explainer = Explainer(self.trained, own.train, self._context)
        return explainer.explain(concatenate_rows(reader.rows), scores.scorable)

    def embed(
        self,
        data: RowsLike | None = None,
        *,
        space: Space = "latent",
        map: MapMethod | None = None,
        on_error: OnError = "keep",
    ) -> npt.NDArray[np.float32]:
        """Return vectors `(N, D)` of the latent space or of the flow's input; with `map`, points `(N, 2)`."""
        if space not in ("latent", "input"):
            raise UsageError(f"space is latent or input, not `{space}`")
        check_map(map)
        scores = self._score(data, space=space, on_error=on_error)
        ((_, columns),) = embedding_columns(iter([scores]), map)
        return columns["z"] if map is None else np.stack([columns["map_0"], columns["map_1"]], axis=1)

    def sample(
        self, n: int = 16, *, class_name: str | None = None, temperature: float | None = None, seed: int = 0
    ) -> GeneratedRows:
        """Draw rows of one class, or of all classes by their weights.

        Args:
            n: number of rows.
            class_name: name of a class, `--class` on the command line and `y` of `FlowGMMClassifier.sample`.
            temperature: spread of the latents; None for the default of `flowgmm sample`.
            seed: seed of the draw.

        Returns:
            A table with a row for each drawn row: `id`, `class`, `log_density`, `confidence` and the input
            columns.
        """
        from flowgmm_cli.inference.samples import class_index
        from flowgmm_cli.inference.sampling import TEMPERATURE, draw_samples

        return draw_samples(
            self.trained,
            n,
            classes=None if class_name is None else [class_index(self.trained, class_name)],
            temperature=TEMPERATURE if temperature is None else temperature,
            generator=torch.Generator().manual_seed(seed),
        )

    def ood(
        self,
        outside: RowsLike,
        inside: RowsLike | None = None,
        *,
        score: str | None = None,
        fpr: float | None = None,
        seed: int = 0,
    ) -> OODResult:
        """Measure how well each score separates out-of-distribution rows from in-distribution rows.

        Args:
            outside: out-of-distribution rows.
            inside: in-distribution rows; None for the run's own held-out rows.
            score: name of the score that flags; None for the run's own choice.
            fpr: share of in-distribution rows that may be flagged.
            seed: seed of the confidence intervals.

        Returns:
            A table with a row for each score, the one that flags first: AUROC with a 95 % interval, AUPR of
            both sides and FPR95.
        """
        rule = self.ood_rule(score, fpr)
        sets = []
        for data, usual in ((inside, rule), (outside, None)):
            reader = self._reader(data, "keep")
            drift = Drift(self.trained, reader.name)
            stream = self._stream(reader, rule=rule, scores=self.scores, drift=drift)
            sets.append(collect_scores(reader.name, stream, drift, usual))
            if not sets[-1].n:
                raise DataError(f"no row of {reader.name} could be scored", details=sets[-1].totals.reasons)
        rng = np.random.default_rng(seed)
        return compare_scores(str(self.run.path), *sets, default=self.scores[0], rule=rule, rng=rng)

    def evaluate(self, data: RowsLike | None = None) -> Evaluation:
        """Compare predictions with labels; `data` has the label column of training.

        Labels that are no class of the model count as wrong; rows without a label, and rows whose label the
        training used, are left out.
        """
        reader = self._reader(data, "keep")
        name = "test" if data is None else reader.name
        return evaluate_scores(self._score(reader), name, self.trained)

    def check(self, data: RowsLike | None = None, *, at_most: int = 64) -> CheckReport:
        """Check inverses, log-determinants and latents at some rows; see `flowgmm check`."""
        from flowgmm_cli.inference.check import MAX_LATENT_ROWS, check

        rows = read_first_rows(self._reader(data, "fail"), max(at_most, MAX_LATENT_ROWS))
        return check(self.trained, rows, context=self._context, at_most=at_most)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the page of `flowgmm report`, by default into the run directory."""
        from flowgmm_cli.report.context import ReportContext
        from flowgmm_cli.report.report import write_report

        target = self.run.path / "report.html" if path is None else Path(path)
        return write_report(ReportContext(self.run, self._context), target).path

    def ood_rule(self, score: str | None = None, fpr: float | None = None) -> OODRule:
        """Return the score that flags, its threshold and the share of held-out rows above it.

        Raises:
            UsageError: there is no such score, or the share is not between 0 and 1.
        """
        return OODRule.from_model(self.trained, score, fpr)

    def _reader(self, data: RowsLike | None, on_error: OnError) -> RowReader:
        if data is None:
            rows = load_run_rows(self.run, self.trained, self._context)
            split, held_out = select_held_out(rows)
            return MemoryReader(held_out, f"the run's {split} split")
        return open_input(data, input_schema(self.trained), context=self._context, on_error=on_error)

    def _stream(self, reader: RowReader, *, on_error: OnError = "keep", **options: Any) -> Iterator[Scores]:
        context, device = self._context, self._device
        return score(self.trained, reader, context=context, on_error=on_error, device=device, **options)

    def _score(self, data: RowsLike | None, *, on_error: OnError = "keep", **options: Any) -> Scores:
        reader, totals = self._reader(data, on_error), Totals()
        drift, parts = Drift(self.trained, reader.name), []
        for scores in self._stream(reader, on_error=on_error, drift=drift, **options):
            totals.add(scores)
            parts.append(scores)
        warnings = tuple(drift.warnings(totals, options.get("rule")))
        for warning in warnings:
            self._context.note(f"warning: {warning.text}")
        return replace(Scores.concatenate(parts), warnings=warnings)


def load(
    run: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    offline: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> FlowGMM:
    """Load a finished run.

    Args:
        run: `str` or path of a run directory; a last component `latest` means the newest finished run of that
            folder, and `hf://owner/name[@revision]` a run of the Hugging Face Hub. None takes
            `$FLOWGMM_RUN`, or else the newest finished run under `./runs`.
        device: `auto`, `cpu` or `cuda`.
        offline: True never uses the network.
        note: function of a `str`, such as `print`, that receives each message which the command line would
            print on stderr.

    Raises:
        RunError: there is no such run, or its files cannot be used.
        PluginError: a component of it is not installed.
    """
    from flowgmm_cli.data.cache import user_cache_dir

    directory, _ = find_run(None if run is None else os.fspath(run), offline=offline, note=note)
    context = DataContext(offline=offline, cache_dir=str(user_cache_dir()), note=note)
    return FlowGMM(directory, TrainedModel.load(directory.path, context=context), context, device=device)


def _load_again(run: str, device: str, offline: bool) -> FlowGMM:
    """Load a pickled run."""
    return load(run, device=device, offline=offline)
