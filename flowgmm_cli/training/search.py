"""The search for settings before training: cross-validation of candidates on the labelled rows.

Each candidate is trained without one fold of the labelled rows at a time, for fewer epochs than the run. Its
log-likelihood of the held-out labels decides. Few labels make that a rough measure, so two measures without
labels support it: how often these trainings agree on unlabelled rows, and the density of held-out rows. The
best few candidates become members of an ensemble, but none that raises the log loss of the mean. Challengers
are candidates that must be significantly better.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.calibration import fit_temperature, temper_true_classes
from flowgmm_cli.evaluation.folds import Fold, LogJoint, OutOfFold, split_labelled
from flowgmm_cli.evaluation.intervals import compare_means
from flowgmm_cli.files import MALFORMED, read_json, read_tensors, write_json, write_tensors
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.calibration import collect_out_of_fold
from flowgmm_cli.training.fit_job import FitJob, TrainContext, fit_all
from flowgmm_cli.training.prepare import PreparedData

SCHEMA = "flowgmm/search/1"
_FIGURES, _TENSORS = "search.json", "search.safetensors"
_DENSITY_ROWS = 2000  # held-out rows that density is measured on
_AGREEMENT_WEIGHT = 0.2  # nats for full agreement; models that learn nothing agree, too
_DENSITY_WEIGHT = 0.02  # nats for a nat of density per dimension: breaks ties


@dataclass(frozen=True)
class CandidateResult:
    """Measures of a candidate.

    Attributes:
        changes: its settings.
        out_of_fold: predictions of its trainings for the rows that they have not seen.
        accuracy, nll: of these, the negative log-likelihood in nats at the best temperature.
        agreement: share of unlabelled rows that two trainings give the same class, on average.
        density: mean `log p(x) / D` of held-out rows, in nats.
        seconds: duration of all its trainings.
        challenger: it is kept only if it is significantly better, see `sort_candidates`.
    """

    name: str
    changes: dict[str, Any]
    out_of_fold: OutOfFold
    accuracy: float
    nll: float
    agreement: float
    density: float
    seconds: float
    challenger: bool = False

    @property
    def score(self) -> float:
        """Score by which candidates are ranked, higher is better, in nats."""
        return self._score(self.nll)

    def losses_without(self, fold: int | None) -> npt.NDArray[np.float64]:
        """Log losses of the held-out labels, without those of a fold."""
        others = self.out_of_fold.folds != (-1 if fold is None else fold)
        return _log_losses(self.out_of_fold, others) if others.any() else np.empty(0)

    def score_without(self, fold: int | None) -> float:
        """Score without the held-out labels of a fold."""
        losses = self.losses_without(fold)
        return self.score if fold is None or not len(losses) else self._score(float(losses.mean()))

    def _score(self, nll: float) -> float:
        return -nll + _AGREEMENT_WEIGHT * self.agreement + _DENSITY_WEIGHT * self.density

    def summary(self) -> dict[str, Any]:
        """Figures as plain values."""
        figures = {key: value for key, value in vars(self).items() if key != "out_of_fold"}
        return {**figures, "score": self.score}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Predictions by name, for safetensors."""
        values = vars(self.out_of_fold)
        return {f"{self.name}.{key}": torch.from_numpy(value) for key, value in values.items()}

    @classmethod
    def restore(cls, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> CandidateResult:
        """Build from `summary` and `tensors`. Raises `KeyError` or `TypeError` for anything else."""
        names = [field.name for field in fields(OutOfFold)]
        out_of_fold = OutOfFold(*(tensors[f"{values['name']}.{name}"].numpy() for name in names))
        figures = {field.name for field in fields(cls)} - {"out_of_fold"}
        return cls(**{name: values[name] for name in figures}, out_of_fold=out_of_fold)


@dataclass(frozen=True)
class SearchResult:
    """All candidates, best first, those that become members, and the reason for these, for people.

    `keep` is the largest number of members.
    """

    results: tuple[CandidateResult, ...]
    kept: tuple[CandidateResult, ...]
    reason: str
    keep: int = 1

    def mean_out_of_fold(self) -> OutOfFold | None:
        """Mean predictions of the kept candidates; None without folds."""
        parts = [candidate.out_of_fold for candidate in self.kept]
        if not parts or not len(parts[0].labels):
            return None
        log_joint, unlabelled = _mean([part.log_joint for part in parts]), [part.unlabelled for part in parts]
        p_unknown = _mean([part.p_unknown for part in parts])
        return replace(parts[0], log_joint=log_joint, unlabelled=_mean(unlabelled), p_unknown=p_unknown)

    def cross_fitted(self) -> OutOfFold | None:
        """Mean predictions of the candidates that are kept without the labels of each row's fold.

        The choice of candidates fits the labels it is made by, so the predictions of the final choice would
        be too good for these. None without folds.
        """
        mean = self.mean_out_of_fold()
        if mean is None:
            return None
        log_joint, p_unknown = np.empty_like(mean.log_joint), np.empty_like(mean.p_unknown)
        for fold in np.unique(mean.folds):
            own = mean.folds == fold
            kept = keep_candidates(sort_candidates(self.results, without=fold), self.keep, without=fold)
            parts = [candidate.out_of_fold for candidate in kept]
            log_joint[own] = _mean([part.log_joint[own] for part in parts])
            p_unknown[own] = _mean([part.p_unknown[own] for part in parts])
        return replace(mean, log_joint=log_joint, p_unknown=p_unknown)

    def describe_gain(self) -> str:
        """Compare the kept candidates with the recipe as it is, by log loss on labels not seen.

        Empty without folds, or if no candidate leaves the recipe as it is.
        """
        kept, plain = self.cross_fitted(), next((item for item in self.results if not item.changes), None)
        if kept is None or plain is None:
            return ""
        if [item.name for item in self.kept] == [plain.name]:
            return "the recipe is kept as it is"
        losses = [_log_losses(part) for part in (plain.out_of_fold, kept)]
        before, after = (float(loss.mean()) for loss in losses)
        significant = len(kept.labels) > 1 and compare_means(*losses).significant
        chance = "" if significant else ": no difference can be seen"
        return (
            f"log loss {after:.3f} on labels not seen with the candidates that the other folds choose, "
            f"{before:.3f} with the recipe as it is (--no-auto){chance}"
        )

    def summary(self) -> dict[str, Any]:
        """Figures as plain values."""
        kept = [candidate.name for candidate in self.kept]
        candidates = [candidate.summary() for candidate in self.results]
        return {"kept": kept, "reason": self.reason, "gain": self.describe_gain(), "candidates": candidates}

    def save(self, folder: Path) -> None:
        """Write the predictions to `search.safetensors`, then the figures to `search.json`."""
        items = [item for candidate in self.results for item in candidate.tensors().items()]
        write_tensors(folder / _TENSORS, dict(items))
        write_json(folder / _FIGURES, {"schema": SCHEMA, **self.summary()})


def search(context: TrainContext, labels: npt.NDArray[np.int64], *, run: Run | None = None) -> SearchResult:
    """Cross-validate the candidates of a recipe's search and keep the best.

    `labels` are visible labels of the training rows `(N,)`, -1 if unlabelled. The run keeps each result, so
    that an interrupted search can be resumed.
    """
    config = context.recipe.search
    if config is None:
        raise ValueError("this recipe has no search")
    results = _load(run.path) if run else {}
    known, seed = context.find_known_labels(), context.recipe.run.seed
    folds = split_labelled(labels, config.folds, seed=seed, known=known)
    candidates = config.all_candidates if len(folds) > 1 else {}
    for number, (name, changes) in enumerate(candidates.items(), 1):
        if name in results:
            context.plan.start(len(folds))  # an earlier session has finished them
        else:
            start = time.monotonic()
            jobs = [FitJob(fold.visible, changes, share=config.epochs) for fold in folds]
            title = f"search, {name} ({number} of {len(candidates)})"
            models = [fit.model for fit in fit_all(context, jobs, title=title, unit="fold")]
            measures = _measure(context.data, models, folds, labels)
            seconds = round(time.monotonic() - start, 3)
            challenger = name in config.challengers
            results[name] = CandidateResult(name, changes, **measures, seconds=seconds, challenger=challenger)
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
    except MALFORMED as error:
        message = f"{folder / _FIGURES} is damaged"
        raise RunError(message, details=[str(error)], hint="start a new run") from error


def _measure(
    data: PreparedData, models: Sequence[Model], folds: Sequence[Fold], labels: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """Predictions and measures of a candidate, given its models of the folds."""
    x = data.train.x
    out_of_fold = collect_out_of_fold(
        models, folds, labels, lambda model, index: encode(model, x[torch.from_numpy(index)])
    )
    unseen = (x if data.val is None else data.val.x)[:_DENSITY_ROWS]
    densities = [float(encode(model, unseen).log_prob().double().mean()) / x.shape[1] for model in models]
    return {
        "out_of_fold": out_of_fold,
        "accuracy": float((out_of_fold.log_joint.argmax(1) == out_of_fold.labels).mean()),
        "nll": float(_log_losses(out_of_fold).mean()) + 0.0,  # no -0
        "agreement": _agreement(out_of_fold.unlabelled.argmax(2)),
        "density": float(np.mean(densities)),
    }


def sort_candidates(
    results: Sequence[CandidateResult], *, without: int | None = None
) -> tuple[CandidateResult, ...]:
    """Sort candidates, the best first, without the labels of a fold if its number is given.

    A challenger comes after all others unless its log losses are significantly lower than those of the best
    other candidate: settings that learn fast look better in the short trainings of a search.
    """
    scores = {item.name: item.score_without(without) for item in results}
    first = max((item for item in results if not item.challenger), key=lambda item: scores[item.name])

    def is_unsure(item: CandidateResult) -> bool:
        before, after = (each.losses_without(without) for each in (first, item))
        return item.challenger and not (len(after) > 1 and compare_means(before, after).high < 0)

    return tuple(sorted(results, key=lambda item: (is_unsure(item), -scores[item.name])))


def keep_candidates(
    ranked: Sequence[CandidateResult], most: int, *, without: int | None = None
) -> tuple[CandidateResult, ...]:
    """Return the best of sorted candidates, and each of the next that does not raise the mean's log loss."""
    kept = [ranked[0]]
    for item in ranked[1:most]:
        if _mean_loss([*kept, item], without) <= _mean_loss(kept, without):
            kept.append(item)
    return tuple(kept)


def _mean_loss(members: Sequence[CandidateResult], without: int | None) -> float:
    """Log loss of the mean predictions of held-out labels, without those of a fold."""
    log_joint = _mean([item.out_of_fold.log_joint for item in members])
    mean = replace(members[0], out_of_fold=replace(members[0].out_of_fold, log_joint=log_joint))
    return float(mean.losses_without(without).mean())


def _mean(tables: Sequence[LogJoint]) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean(tables, axis=0, dtype=np.float64))


def _log_losses(out_of_fold: OutOfFold, mask: Any = slice(None)) -> npt.NDArray[np.float64]:
    """Log losses of rows `(n,)` at the best temperature."""
    scores, labels = out_of_fold.log_joint[mask], out_of_fold.labels[mask]
    return -temper_true_classes(scores, labels, fit_temperature(scores, labels), 0.0)


def _agreement(classes: npt.NDArray[np.intp]) -> float:
    """Share of rows that two models give the same class, over all pairs of `(models, rows)`."""
    if not classes.size:
        return 1.0
    return float(np.mean([(first == second).mean() for first, second in combinations(classes, 2)]))


def rank(results: list[CandidateResult], recipe: Recipe, *, keep: int, classes: int) -> SearchResult:
    """Rank the candidates and keep the best `keep`; without results keep the first ones.

    There are no results if every class has a single label, which cannot be held out.
    """
    if not results:
        none = np.empty(0, dtype=np.int64)
        empty = OutOfFold(
            np.empty((0, classes)), none, none, none, np.empty((0, 0, classes)), np.empty((0, 0))
        )
        candidates = recipe.search.candidates if recipe.search else {}
        pairs = list(candidates.items())[:keep]
        first = tuple(CandidateResult(*pair, empty, 0.0, 0.0, 0.0, 0.0, 0.0) for pair in pairs)
        return SearchResult(first, first, "too few labels to hold any out: the first candidates were taken")
    ranked = sort_candidates(results)
    best, kept = ranked[0], keep_candidates(ranked, keep)
    spoilers = [item.name for item in ranked[:keep] if item not in kept]
    others = f"; {', '.join(candidate.name for candidate in kept[1:])} next" if len(kept) > 1 else ""
    unsure = [item.name for item in ranked if item.score > best.score]
    chance = f"; the gain of {' and '.join(unsure)} is not significant" if unsure else ""
    chance += f"; the mean is better without {' and '.join(spoilers)}" if spoilers else ""
    reason = (
        f"{best.name} has the best score: {best.nll:.3f} nats and {best.accuracy:.1%} on labels not seen, "
        f"{best.agreement:.1%} agreement{others}{chance}"
    )
    return SearchResult(ranked, kept, reason, keep)
