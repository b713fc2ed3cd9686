"""The race of settings before training, judged without a label beyond the labelled rows.

Each candidate is trained on all folds of the labelled rows but one, for each fold, a little shorter than in
full. What it says of the labels it has not seen decides; with few labels that is a rough measure, so it is
helped by two that need no label: how far these trainings agree with each other on unlabelled rows, and how
dense rows are that no training saw. The best few become members of an ensemble, for no single winner is sure.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
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
from flowgmm_cli.training.calibrate import HeldOut, unlabelled_sample
from flowgmm_cli.training.fitting import Fitting
from flowgmm_cli.training.folds import Fold, labelled_folds
from flowgmm_cli.training.trainings import Job, fit_all

SCHEMA = "flowgmm/search/1"
_FIGURES, _TENSORS = "search.json", "search.safetensors"
_ROWS = 2000  # held-out rows that density is measured on
_AGREEMENT = 0.2  # what full agreement counts in nats: models that learn nothing agree, too
_DENSITY = 0.02  # what a nat of density per dimension counts: it settles ties


@dataclass(frozen=True)
class CandidateResult:
    """How a candidate did.

    Attributes:
        name: in the recipe.
        changes: its settings.
        held_out: what its trainings said of the labelled rows they had not seen.
        accuracy: of that.
        nll: of that, at the temperature that suits it best, in nats.
        agreement: share of unlabelled rows that two trainings give the same class, on average.
        density: mean `log p(x) / D` of held-out rows, in nats.
        seconds: of all its trainings.
    """

    name: str
    changes: dict[str, Any]
    held_out: HeldOut
    accuracy: float
    nll: float
    agreement: float
    density: float
    seconds: float

    @property
    def score(self) -> float:
        """What decides, higher is better: the log-likelihood of labels not seen, and a little of the rest."""
        return -self.nll + _AGREEMENT * self.agreement + _DENSITY * self.density

    def summary(self) -> dict[str, Any]:
        """The figures, as plain values."""
        return {key: value for key, value in vars(self).items() if key != "held_out"} | {"score": self.score}

    def tensors(self) -> dict[str, torch.Tensor]:
        """What the trainings said, by name, for safetensors."""
        return {f"{self.name}.{key}": torch.from_numpy(value) for key, value in vars(self.held_out).items()}

    @classmethod
    def restore(cls, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> CandidateResult:
        """From what `summary` and `tensors` gave. Raises `KeyError` or `TypeError` for anything else."""
        parts = ("log_joint", "labels", "elsewhere")
        held_out = HeldOut(*(tensors[f"{values['name']}.{part}"].numpy() for part in parts))
        names = {one.name for one in dataclasses.fields(cls)} - {"held_out"}
        return cls(**{name: values[name] for name in names}, held_out=held_out)


@dataclass(frozen=True)
class Race:
    """A race that has been run.

    Attributes:
        results: of all candidates, best first.
        kept: those that become members.
        reason: why these, for people.
    """

    results: tuple[CandidateResult, ...]
    kept: tuple[CandidateResult, ...]
    reason: str

    def held_out(self) -> HeldOut | None:
        """What the kept candidates said together of labels they had not seen; None without folds."""
        said = [one.held_out for one in self.kept]
        if not said or not len(said[0].labels):
            return None
        log_joint = np.mean([one.log_joint for one in said], axis=0)
        return HeldOut(log_joint, said[0].labels, np.mean([one.elsewhere for one in said], axis=0))

    def summary(self) -> dict[str, Any]:
        """What it came to, as plain values."""
        return {
            "kept": [one.name for one in self.kept],
            "reason": self.reason,
            "candidates": [one.summary() for one in self.results],
        }

    def save(self, folder: Path) -> None:
        """Write what the trainings said to `search.safetensors`, then the figures to `search.json`."""
        write_tensors(folder / _TENSORS, {k: v for one in self.results for k, v in one.tensors().items()})
        write_json(folder / _FIGURES, {"schema": SCHEMA, **self.summary()})


def race(fitting: Fitting, labels: npt.NDArray[np.int64], *, run: Run | None = None) -> Race:
    """Let the candidates of a recipe's search compete.

    Args:
        fitting: recipe, rows and surroundings.
        labels: visible labels of the training rows `(N,)`, -1 where there is none.
        run: keeps each result as it comes, so that an interrupted race goes on from there.
    """
    config = fitting.recipe.search
    if config is None:
        raise ValueError("this recipe has no search")
    known = _load(run.path) if run else {}
    folds = labelled_folds(labels, config.folds, seed=fitting.recipe.run.seed)
    for place, (name, changes) in enumerate(config.candidates.items()):
        if name not in known and len(folds) > 1:
            what = f"search, {name} ({place + 1} of {len(config.candidates)})"
            known[name] = _try(fitting, name, changes, labels, folds, share=config.epochs, what=what)
            if run and fitting.processes.leads:
                Race(tuple(known.values()), (), "not finished").save(run.path)
    found = judge(list(known.values()), fitting.recipe, keep=config.keep, classes=fitting.data.classes)
    if run and fitting.processes.leads:
        found.save(run.path)
    return found


def _load(folder: Path) -> dict[str, CandidateResult]:
    """The candidates that have been tried already, by name."""
    if not (folder / _FIGURES).is_file():
        return {}
    figures = read_json(folder / _FIGURES, "search")
    tensors, _ = read_tensors(folder / _TENSORS, "search")
    try:
        return {one["name"]: CandidateResult.restore(one, tensors) for one in figures["candidates"]}
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{folder / _FIGURES} is damaged", details=[str(error)], hint="start a new run"
        ) from error


def _try(
    fitting: Fitting,
    name: str,
    changes: dict[str, Any],
    labels: npt.NDArray[np.int64],
    folds: list[Fold],
    *,
    share: float,
    what: str,
) -> CandidateResult:
    start = time.monotonic()
    data = fitting.data
    x = data.train.x
    sample = x[torch.from_numpy(unlabelled_sample(labels))]
    unseen = data.val.x[:_ROWS] if data.val is not None else x[:_ROWS]
    log_joint, elsewhere, densities = [], [], []
    jobs = [Job(fold.visible, changes, share=share) for fold in folds]
    trained = fit_all(fitting, jobs, what=what, each="fold")
    for fold, model in zip(folds, (found.model for found in trained), strict=True):
        log_joint.append(encode(model, x[torch.from_numpy(fold.held_out)]).class_log_prob.double().numpy())
        elsewhere.append(encode(model, sample).class_log_prob.double().numpy())
        densities.append(float(encode(model, unseen).log_prob().double().mean()) / x.shape[1])
    rows = np.concatenate([fold.held_out for fold in folds])
    held_out = HeldOut(np.concatenate(log_joint), labels[rows], np.stack(elsewhere))
    classes = held_out.elsewhere.argmax(2)
    temperature = fit_temperature(held_out.log_joint, held_out.labels)
    tempered = torch.log_softmax(torch.from_numpy(held_out.log_joint / temperature), dim=1).numpy()
    return CandidateResult(
        name=name,
        changes=changes,
        held_out=held_out,
        accuracy=float((tempered.argmax(1) == held_out.labels).mean()),
        nll=nll(tempered, held_out.labels),
        agreement=_agreement(classes),
        density=float(np.mean(densities)),
        seconds=round(time.monotonic() - start, 3),
    )


def _agreement(classes: npt.NDArray[np.intp]) -> float:
    """Share of rows that two trainings give the same class, over all pairs of `(models, rows)`."""
    if not classes.size:
        return 1.0
    return float(np.mean([(one == other).mean() for one, other in combinations(classes, 2)]))


def judge(results: list[CandidateResult], recipe: Recipe, *, keep: int, classes: int) -> Race:
    """Rank the candidates and keep the best; without results the first ones, unjudged.

    Args:
        results: of all candidates; none where every class has a single label, so that none can be held out.
        recipe: has the search.
        keep: how many.
        classes: K.
    """
    if not results:
        empty = HeldOut(np.empty((0, classes)), np.empty(0, dtype=np.int64), np.empty((0, 0, classes)))
        candidates = recipe.search.candidates if recipe.search else {}
        unjudged = tuple(
            CandidateResult(name, changes, empty, 0.0, 0.0, 0.0, 0.0, 0.0)
            for name, changes in list(candidates.items())[:keep]
        )
        return Race(unjudged, unjudged, "too few labels to hold any out: the first candidates were taken")
    ranked = tuple(sorted(results, key=lambda one: -one.score))
    kept = ranked[:keep]
    best = kept[0]
    others = f"; {', '.join(one.name for one in kept[1:])} next" if len(kept) > 1 else ""
    reason = (
        f"{best.name} has the best score: {best.nll:.3f} nats and {best.accuracy:.1%} on labels not seen, "
        f"{best.agreement:.1%} agreement{others}"
    )
    return Race(ranked, kept, reason)
