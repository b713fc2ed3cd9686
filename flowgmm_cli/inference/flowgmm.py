"""A finished run as a Python object, with the verbs of the command line.

from flowgmm_cli import load

model = load("runs/latest")
found = model.predict("new.csv")  # or an array, a dict of columns, a list of texts
found.prediction, found.confidence, found.is_ood
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers.base import Chunk, OnError, RowReader
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError, RunError, UsageError
from flowgmm_cli.evaluation.evaluate import Evaluation, evaluate
from flowgmm_cli.inference.embedding import MapMethod, Space, check_map, embedding_columns
from flowgmm_cli.inference.inputs import InputRows, held_out_rows, load_run_rows, read_input
from flowgmm_cli.inference.ood import OODResult, collect_scores, compare_scores
from flowgmm_cli.inference.predictions import OODRule, PredictionResult, concatenate
from flowgmm_cli.inference.scoring import ScoredRows, score
from flowgmm_cli.runs import Run, find_run
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.inference.check_report import CheckReport
    from flowgmm_cli.inference.sampling import GeneratedRows

    Floats = npt.NDArray[np.float64]


class FlowGMM:
    """A loaded run; see `load`.

    Rows may be given in any form that `flowgmm_cli.inference.inputs.read_given` takes; None stands for the
    run's own held-out rows. Rows that cannot be scored keep their place, unless `on_error="fail"`.

    Attributes:
        run: its directory.
        trained: preprocessing, flow, mixture and scores.
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

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns that the model reads."""
        return self.trained.preprocessor.columns

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the out-of-distribution scores, the default first."""
        return self.trained.detector.names if self.trained.detector else ()

    def predict(
        self,
        data: Any = None,
        *,
        score: str | None = None,
        fpr: float | None = None,
        on_error: OnError = "keep",
    ) -> PredictionResult:
        """Classes, probabilities, densities and out-of-distribution flags.

        Args:
            data: rows.
            score: the score that flags; the run's own choice without it.
            fpr: share of in-distribution rows that may be flagged.
            on_error: `fail` raises for a row that cannot be scored.
        """
        flag = self.flag(score, fpr) if score or fpr or self.scores else None
        stream = self._score(data, scores=(flag.score,) if flag else (), on_error=on_error)
        return PredictionResult.of(list(stream), self.class_names, flag)

    def predict_proba(self, data: Any = None, *, on_error: OnError = "keep") -> Floats:
        """Calibrated probabilities `(N, K)`, in the order of `class_names`."""
        found = [one.log_probabilities for one in self._score(data, on_error=on_error)]
        probabilities: Floats = np.exp(np.concatenate(found))
        return probabilities

    def embed(
        self,
        data: Any = None,
        *,
        space: Space = "latent",
        map: MapMethod | None = None,
        on_error: OnError = "keep",
    ) -> npt.NDArray[np.float32]:
        """Vectors `(N, D)` of the latent space or of the flow's input; with `map`, places `(N, 2)`."""
        if space not in ("latent", "input"):
            raise UsageError(f"space is latent or input, not `{space}`")
        stream = self._score(data, latents=space == "latent", inputs=space == "input", on_error=on_error)
        parts = [columns for _, columns in embedding_columns(stream, space, check_map(map))]
        if map is None:
            return np.concatenate([part["z"] for part in parts])
        return np.concatenate([np.stack([part["map_0"], part["map_1"]], axis=1) for part in parts])

    def sample(
        self, n: int = 16, *, class_name: str | None = None, temperature: float | None = None, seed: int = 0
    ) -> GeneratedRows:
        """Draw rows, of one class or by the class weights; `Made.table()` has them by column."""
        from flowgmm_cli.inference.sampling import TEMPERATURE, class_index, draw_samples

        return draw_samples(
            self.trained,
            n,
            classes=None if class_name is None else [class_index(self.trained, class_name)],
            temperature=TEMPERATURE if temperature is None else temperature,
            generator=torch.Generator().manual_seed(seed),
        )

    def ood(
        self,
        outside: Any,
        inside: Any = None,
        *,
        score: str | None = None,
        fpr: float | None = None,
        seed: int = 0,
    ) -> OODResult:
        """How well every score tells rows from elsewhere from in-distribution ones.

        Args:
            outside: rows to hold against the others.
            inside: in-distribution rows; the run's own held-out ones without it.
            score: the score that flags; the run's own choice without it.
            fpr: share of in-distribution rows that may be flagged.
            seed: of the confidence intervals.
        """
        flag = self.flag(score, fpr)
        rng = np.random.default_rng(seed)
        sides = []
        for data in (inside, outside):
            reader = self._reader(data, "keep")
            stream = self._score(reader, scores=self.scores)
            sides.append(collect_scores(reader.name, stream, flag, rng))
            if not sides[-1].n:
                raise DataError(f"no row of {reader.name} could be scored", details=sides[-1].reasons)
        return compare_scores(str(self.run.path), *sides, default=self.scores[0], flag=flag, rng=rng)

    def evaluate(self, data: Any = None) -> Evaluation:
        """Compare predictions with the labels that the rows have: a file or a dict with the label column."""
        reader = self._reader(data, "keep")
        stream = list(self._score(reader))
        labels, good = concatenate(stream, lambda one: one.labels), concatenate(stream, lambda one: one.good)
        known = good & (labels >= 0)
        if not known.any():
            raise DataError(f"{reader.name}: no row has a label", hint="name rows that have the label column")
        return evaluate(
            "test" if data is None else reader.name,
            concatenate(stream, lambda one: one.log_probabilities)[known],
            concatenate(stream, lambda one: one.log_density)[known],
            labels[known],
            self.class_names,
            pixels=self.trained.preprocessor.pixels,
        )

    def check(self, data: Any = None, *, at_most: int = 64) -> CheckReport:
        """Examine inverses, log-determinants and latents at some rows; see `flowgmm check`."""
        from flowgmm_cli.inference.check import STATISTICS, check
        from flowgmm_cli.inference.inputs import read_first_rows

        rows = read_first_rows(self._reader(data, "fail"), max(at_most, STATISTICS))
        return check(self.trained, rows, context=self._context, at_most=at_most)

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Write the page of `flowgmm report`; into the run directory unless a path is given."""
        from flowgmm_cli.report.context import load_report_context
        from flowgmm_cli.report.report import write_report

        target = self.run.path / "report.html" if path is None else Path(path)
        return write_report(load_report_context(self.run, context=self._context), target).path

    def flag(self, score: str | None = None, fpr: float | None = None) -> OODRule:
        """How rows are flagged: the score, its threshold and the share of held-out rows above it.

        Raises:
            RunError: the run has no scores.
            UsageError: there is no such score, or no such share.
        """
        detector = self.trained.detector
        if detector is None:
            raise RunError(
                "this run has no out-of-distribution scores: it was trained by an older version",
                hint="train again to have them",
            )
        share = self.trained.recipe.ood.fpr if fpr is None else fpr
        if not 0 < share < 1:
            raise UsageError(f"fpr is {share}, it must lie between 0 and 1")
        name = detector.default if score is None else score
        return OODRule(name, detector.threshold(name, share), share)

    def _reader(self, data: Any, on_error: OnError) -> RowReader:
        if data is None:
            rows = load_run_rows(self.trained, self._context, fingerprint=self.run.info().get("fingerprint"))
            split, found = held_out_rows(rows)
            return InputRows(Chunk(found, 0), f"the run's {split} split")
        preprocessor = self.trained.preprocessor
        schema = InputSchema.from_config(
            self.trained.recipe.data, self.columns, self.class_names, ranges=preprocessor.ranges
        )
        return read_input(data, schema, context=self._context, on_error=on_error)

    def _score(self, data: Any, *, on_error: OnError = "keep", **options: Any) -> Iterator[ScoredRows]:
        reader = self._reader(data, on_error)
        return score(
            self.trained,
            reader,
            context=self._context,
            on_error=on_error,
            device=self._device,
            **options,
        )


def load(
    run: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    offline: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> FlowGMM:
    """Load a finished run.

    Args:
        run: its directory, where `latest` stands for the newest of a folder; without it `$FLOWGMM_RUN`, else
            the newest finished run under `./runs`.
        device: `auto`, `cpu` or `cuda`.
        offline: never touch the network.
        note: told what the command line would say on stderr, such as `print`.

    Raises:
        RunError: there is no such run, or its files cannot be used.
        PluginError: a component that it needs is not installed.
    """
    from flowgmm_cli.data.cache import user_cache_dir

    found, _ = find_run(None if run is None else os.fspath(run))
    context = DataContext(offline=offline, cache_dir=str(user_cache_dir()), note=note)
    return FlowGMM(found, TrainedModel.load(found.path, context=context), context, device=device)
