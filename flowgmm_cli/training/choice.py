"""Which score flags rows: chosen on the run's own rows, since nobody knows the rows that will be out.

Stand-ins are made of the run's rows (see `stand_ins.py`), and whole classes are left out of what the scores
know. The score that tells most of them from held-out rows is taken. No label is used, no foreign row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Component, Latents, ScoreInputs
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.inference.workers import run_in_threads
from flowgmm_cli.model import Model
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images
from flowgmm_cli.training.stand_ins import from_latents, transforms_log_det

_KNOWN = 2000  # training rows that the scores know while a class is left out
_TURNS = 5  # classes that are left out in turn, at most
_LEFT_OUT = "left out"
_FEW = 10  # rows of a class below which leaving it out says nothing


@dataclass(frozen=True)
class Choice:
    """The default score and what it was chosen by.

    Attributes:
        default: its name.
        table: AUROC by score and kind of stand-in.
    """

    default: str
    table: Mapping[str, Mapping[str, float]]

    @property
    def reason(self) -> str:
        """Why it was chosen, for people."""
        found = self.table[self.default]
        of = ", ".join(f"{kind} {value:.2f}" for kind, value in found.items())
        return f"AUROC {mean(found):.3f} on average against stand-ins made of the run's own rows ({of})"


def choose_default(
    detector: Detector,
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    stand_ins: Mapping[str, ScoreInputs],
    generator: np.random.Generator,
) -> Choice:
    """Compare the scores of a detector, except those that read images.

    Besides the stand-ins there are rows of a class that the mixture and the scores' training rows then lack
    (`left out`; with three classes or more). These are real rows and count twice.

    Args:
        detector: the fitted scores.
        components: the recipe's `ood.scores`.
        train: rows the scores were fitted on.
        held_out: rows they were not fitted on.
        model: the trained model.
        stand_ins: by kind, see `flowgmm_cli.training.stand_ins`.
        generator: source of randomness.
    """
    plain_train, plain_held_out = (replace(rows, images=None) for rows in (train, held_out))
    names = [one.name for one in detector.scores if not reads_images(components[one.component])]
    if not names:
        return Choice(detector.default, {detector.default: {}})
    seen = [plain_held_out, *stand_ins.values()]
    known, *others = _each(partial(detector, rows, names) for rows in seen)
    kinds = {kind: _aurocs(known, found) for kind, found in zip(stand_ins, others, strict=True)}
    if (left_out := _left_out(components, plain_train, plain_held_out, model, names, generator)) is not None:
        kinds[_LEFT_OUT] = left_out
    table = {name: {kind: values[name] for kind, values in kinds.items()} for name in names}
    return Choice(max(names, key=lambda name: round(mean(table[name]), 3)), table)


def mean(found: Mapping[str, float]) -> float:
    """Mean AUROC over the kinds of stand-ins; a class left out counts twice."""
    if not found:
        return float("nan")
    weights = [2.0 if kind == _LEFT_OUT else 1.0 for kind in found]
    return float(np.average(list(found.values()), weights=weights))


# --- classes left out ---------------------------------------------------------------------------------------


def _left_out(
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    names: Sequence[str],
    generator: np.random.Generator,
) -> dict[str, float] | None:
    """Mean AUROC against the rows of a class that the scores have never heard of.

    The flow has seen them, and `latent_radius` takes the mixture as it is; training without each class would
    cost more than the run itself.
    """
    classes = held_out.log_posterior.shape[1]
    ours, theirs = (rows.log_posterior.argmax(1).numpy() for rows in (train, held_out))
    large = [one for one in range(classes) if min((ours == one).sum(), (theirs == one).sum()) >= _FEW]
    if classes < 3 or len(large) < 2:
        return None
    turns = []
    for one in generator.permutation(large)[:_TURNS]:
        rest = np.flatnonzero(ours != one)
        if len(rest) > _KNOWN:
            rest = np.sort(generator.choice(rest, _KNOWN, replace=False))
        known = _without(train, one, rest, model)
        inside = _without(held_out, one, np.flatnonzero(theirs != one), model)
        outside = _without(held_out, one, np.flatnonzero(theirs == one), model)
        seed = int(generator.integers(2**63))
        turns.append(partial(_turn, components, known, inside, outside, model, seed, names))
    found = _each(turns)
    return {name: float(np.mean([one[name] for one in found])) for name in names}


def _turn(
    components: Sequence[Component],
    known: ScoreInputs,
    inside: ScoreInputs,
    outside: ScoreInputs,
    model: Model,
    seed: int,
    names: Sequence[str],
) -> dict[str, float]:
    """AUROC of scores that are fitted to known rows, by their name."""
    detector = fit_detector(components, known, inside, model, seed)
    return _aurocs(detector(inside, names), detector(outside, names))


def _each(work: Iterable[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Results of work that is done side by side: matrix products of a few rows do not fill a processor."""
    jobs = (torch.no_grad()(one) for one in work)
    return list(run_in_threads(jobs, workers=torch.get_num_threads()))


def _without(rows: ScoreInputs, left_out: int, index: npt.NDArray[np.intp], model: Model) -> ScoreInputs:
    """Some of the rows, as a mixture without one of the classes sees them."""
    others = [one for one in range(rows.log_posterior.shape[1]) if one != left_out]
    latents = Latents(
        rows.latents.z[index], rows.latents.log_det[index], rows.latents.class_log_prob[index][:, others]
    )
    return from_latents(rows.x[index], latents, transforms_log_det(rows)[index], model)


def _aurocs(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> dict[str, float]:
    return {name: auroc(inside[name], outside[name]) for name in inside}
