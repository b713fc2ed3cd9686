"""The search for settings before training: cross-validation of candidates on the labelled rows.

Each candidate is trained without one fold of the labelled rows at a time, for fewer epochs than the run. Its
log-likelihood of the held-out labels decides. Few labels make that a rough measure, so two measures without
labels support it: how often these trainings agree on unlabelled rows, and the density of held-out rows. The
best few candidates become members of an ensemble.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.calibration import fit_temperature
from flowgmm_cli.evaluation.metrics import nll
from flowgmm_cli.files import read_json, read_tensors, write_json, write_tensors
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.calibration import Fold, OutOfFold, collect_out_of_fold, split_labelled
from flowgmm_cli.training.fit_job import FitJob, TrainContext
from flowgmm_cli.training.parallel_fits import fit_all

SCHEMA = "flowgmm/search/1"
_FIGURES, _TENSORS = "search.json", "search.safetensors"
_DENSITY_ROWS = 2000  # held-out rows that density is measured on
_AGREEMENT_WEIGHT = 0.2  # nats for full agreement; models that learn nothing agree, too
_DENSITY_WEIGHT = 0.02  # nats for a nat of density per dimension: breaks ties


@dataclass(frozen=True)
class CandidateResult:
    """Measures of a candidate.

    Attributes:
        name: name in the recipe.
        changes: its settings.
        out_of_fold: predictions of its trainings for the rows that they have not seen.
        accuracy: accuracy of these.
        nll: their negative log-likelihood at the best temperature, in nats.
        agreement: share of unlabelled rows that two trainings give the same class, on average.
        density: mean `log p(x) / D` of held-out rows, in nats.
        seconds: duration of all its trainings.
    """

    name: str
    changes: dict[str, Any]
    out_of_fold: OutOfFold
    accuracy: float
    nll: float
    agreement: float
    density: float
    seconds: float

    @property
    def score(self) -> float:
        """Score by which candidates are ranked, higher is better, in nats."""
        return -self.nll + _AGREEMENT_WEIGHT * self.agreement + _DENSITY_WEIGHT * self.density

    def summary(self) -> dict[str, Any]:
        """Figures as plain values."""
        figures = {key: value for key, value in vars(self).items() if key != "out_of_fold"}
        return {**figures, "score": self.score}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Predictions by name, for safetensors."""
        return {
            f"{self.name}.{key}": torch.from_numpy(value) for key, value in vars(self.out_of_fold).items()
        }

    @classmethod
    def restore(cls, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> CandidateResult:
        """Build from `summary` and `tensors`. Raises `KeyError` or `TypeError` for anything else."""
        names = [field.name for field in fields(OutOfFold)]
        out_of_fold = OutOfFold(*(tensors[f"{values['name']}.{name}"].numpy() for name in names))
        figures = {field.name for field in fields(cls)} - {"out_of_fold"}
        return cls(**{name: values[name] for name in figures}, out_of_fold=out_of_fold)


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        results: all candidates, best first.
        kept: candidates that become members.
        reason: reason for these, for people.
    """

    results: tuple[CandidateResult, ...]
    kept: tuple[CandidateResult, ...]
    reason: str

    def mean_out_of_fold(self) -> OutOfFold | None:
        """Mean predictions of the kept candidates; None without folds."""
        parts = [candidate.out_of_fold for candidate in self.kept]
        if not parts or not len(parts[0].labels):
            return None
        log_joint = np.mean([part.log_joint for part in parts], axis=0)
        return OutOfFold(log_joint, parts[0].labels, np.mean([part.unlabelled for part in parts], axis=0))

    def summary(self) -> dict[str, Any]:
        """Figures as plain values."""
        return {
            "kept": [candidate.name for candidate in self.kept],
            "reason": self.reason,
            "candidates": [candidate.summary() for candidate in self.results],
        }

    def save(self, folder: Path) -> None:
        """Write the predictions to `search.safetensors`, then the figures to `search.json`."""
        tensors: dict[str, torch.Tensor] = {}
        for candidate in self.results:
            tensors |= candidate.tensors()
        write_tensors(folder / _TENSORS, tensors)
        write_json(folder / _FIGURES, {"schema": SCHEMA, **self.summary()})


def search(context: TrainContext, labels: npt.NDArray[np.int64], *, run: Run | None = None) -> SearchResult:
    """Cross-validate the candidates of a recipe's search and keep the best.

    Args:
        context: recipe, rows, callbacks.
        labels: visible labels of the training rows `(N,)`, -1 if unlabelled.
        run: keeps each result, so that an interrupted search can be resumed.
    """
    config = context.recipe.search
    if config is None:
        raise ValueError("this recipe has no search")
    results = _load(run.path) if run else {}
    folds = split_labelled(labels, config.folds, seed=context.recipe.run.seed)
    for number, (name, changes) in enumerate(config.candidates.items(), 1):
        if name not in results and len(folds) > 1:
            title = f"search, {name} ({number} of {len(config.candidates)})"
            jobs = [FitJob(fold.visible, changes, share=config.epochs) for fold in folds]
            results[name] = _evaluate_candidate(context, name, changes, jobs, folds, labels, title)
            if run and context.group.is_main_process:
                SearchResult(tuple(results.values()), (), "not finished").save(run.path)
    result = rank(list(results.values()), context.recipe, keep=config.keep, classes=context.data.classes)
    if run and context.group.is_main_process:
        result.save(run.path)
    return result


def _load(folder: Path) -> dict[str, CandidateResult]:
    """Results of the candidates that an interrupted search has finished, by name."""
    if not (folder / _FIGURES).is_file():
        return {}
    figures = read_json(folder / _FIGURES, "search")
    tensors, _ = read_tensors(folder / _TENSORS, "search")
    try:
        return {values["name"]: CandidateResult.restore(values, tensors) for values in figures["candidates"]}
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{folder / _FIGURES} is damaged", details=[str(error)], hint="start a new run"
        ) from error


def _evaluate_candidate(
    context: TrainContext,
    name: str,
    changes: dict[str, Any],
    jobs: list[FitJob],
    folds: list[Fold],
    labels: npt.NDArray[np.int64],
    title: str,
) -> CandidateResult:
    start, data = time.monotonic(), context.data
    x = data.train.x
    models = [result.model for result in fit_all(context, jobs, title=title, unit="fold")]
    out_of_fold = collect_out_of_fold(
        models, folds, labels, lambda model, index: encode(model, x[torch.from_numpy(index)])
    )
    unseen = data.val.x[:_DENSITY_ROWS] if data.val is not None else x[:_DENSITY_ROWS]
    densities = [float(encode(model, unseen).log_prob().double().mean()) / x.shape[1] for model in models]
    temperature = fit_temperature(out_of_fold.log_joint, out_of_fold.labels)
    tempered = torch.log_softmax(torch.from_numpy(out_of_fold.log_joint / temperature), dim=1).numpy()
    return CandidateResult(
        name=name,
        changes=changes,
        out_of_fold=out_of_fold,
        accuracy=float((tempered.argmax(1) == out_of_fold.labels).mean()),
        nll=nll(tempered, out_of_fold.labels),
        agreement=_agreement(out_of_fold.unlabelled.argmax(2)),
        density=float(np.mean(densities)),
        seconds=round(time.monotonic() - start, 3),
    )


def _agreement(classes: npt.NDArray[np.intp]) -> float:
    """Share of rows that two models give the same class, over all pairs of `(models, rows)`."""
    if not classes.size:
        return 1.0
    return float(np.mean([(first == second).mean() for first, second in combinations(classes, 2)]))


def rank(results: list[CandidateResult], recipe: Recipe, *, keep: int, classes: int) -> SearchResult:
    """Rank the candidates and keep the best; without results keep the first ones.

    Args:
        results: results of all candidates; none if every class has a single label, which cannot be held out.
        recipe: has the search.
        keep: number of candidates to keep.
        classes: K.
    """
    if not results:
        empty = OutOfFold(np.empty((0, classes)), np.empty(0, dtype=np.int64), np.empty((0, 0, classes)))
        candidates = recipe.search.candidates if recipe.search else {}
        first = tuple(
            CandidateResult(name, changes, empty, 0.0, 0.0, 0.0, 0.0, 0.0)
            for name, changes in list(candidates.items())[:keep]
        )
        return SearchResult(first, first, "too few labels to hold any out: the first candidates were taken")
    ranked = tuple(sorted(results, key=lambda candidate: -candidate.score))
    best, kept = ranked[0], ranked[:keep]
    others = f"; {', '.join(candidate.name for candidate in kept[1:])} next" if len(kept) > 1 else ""
    reason = (
        f"{best.name} has the best score: {best.nll:.3f} nats and {best.accuracy:.1%} on labels not seen, "
        f"{best.agreement:.1%} agreement{others}"
    )
    return SearchResult(ranked, kept, reason)
