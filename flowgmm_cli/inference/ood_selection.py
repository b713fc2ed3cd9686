"""Selection of the default out-of-distribution score, on the run's own rows.

The scores are compared on pseudo-OOD rows (see `pseudo_ood.py`) and on classes that are left out of their
fit; the one with the largest mean AUROC is taken. No label and no foreign row is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Component, ScoreInputs
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.inference.pseudo_ood import score_inputs, transforms_log_det
from flowgmm_cli.inference.workers import run_in_threads
from flowgmm_cli.model import Model
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images

_MAX_TRAIN_ROWS = 2000  # while a class is left out
_MAX_CLASSES = 5  # that are left out, one after the other
_MIN_CLASS_ROWS = 10
_LEFT_OUT = "left out"

Aurocs = dict[str, float]


def select_score(
    detector: Detector,
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    pseudo_ood: Mapping[str, ScoreInputs],
    generator: np.random.Generator,
) -> tuple[str, str, dict[str, Aurocs]]:
    """Compare the scores of a detector, except those that read images.

    Besides the pseudo-OOD rows there are rows of a class that is left out of the mixture and of the scores'
    training rows (`left out`; with three classes or more). These are real rows and count twice.

    Args:
        detector: the fitted scores.
        components: the recipe's `ood.scores`.
        train: rows the scores were fitted on.
        held_out: rows they were not fitted on.
        model: the trained model.
        pseudo_ood: by kind, see `flowgmm_cli.inference.pseudo_ood`.
        generator: source of randomness.

    Returns:
        Name of the best score, the reason for people, and AUROC by score and kind of pseudo-OOD rows.
    """
    train, held_out = (replace(rows, images=None) for rows in (train, held_out))
    names = [score.name for score in detector.scores if not reads_images(components[score.component])]
    kinds: dict[str, Aurocs] = {}
    if names:
        inputs = [held_out, *pseudo_ood.values()]
        inside, *outside = _run_side_by_side(partial(detector, rows, names) for rows in inputs)
        kinds = {kind: _aurocs(inside, scores) for kind, scores in zip(pseudo_ood, outside, strict=True)}
        left_out = _leave_classes_out(components, train, held_out, model, names, generator)
        kinds |= {} if left_out is None else {_LEFT_OUT: left_out}
    table = {name: {kind: values[name] for kind, values in kinds.items()} for name in names}
    table = table or {detector.default: {}}
    best = max(table, key=lambda name: round(mean_auroc(table[name]), 3))
    listed = ", ".join(f"{kind} {value:.2f}" for kind, value in table[best].items())
    mean = mean_auroc(table[best])
    return best, f"AUROC {mean:.3f} on average against rows made of the run's own ({listed})", table


def mean_auroc(aurocs: Mapping[str, float]) -> float:
    """Mean AUROC over the kinds of pseudo-OOD rows; classes left out count twice."""
    if not aurocs:
        return float("nan")
    weights = [2.0 if kind == _LEFT_OUT else 1.0 for kind in aurocs]
    return float(np.average(list(aurocs.values()), weights=weights))


def _leave_classes_out(
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    names: Sequence[str],
    generator: np.random.Generator,
) -> Aurocs | None:
    """Mean AUROC against rows of a class that the scores were not fitted to.

    The flow has seen these rows, and `latent_radius` takes the mixture as it is; a training without each
    class would cost more than the run itself.
    """
    classes = held_out.log_posterior.shape[1]
    train_class, class_ = (rows.log_posterior.argmax(1).numpy() for rows in (train, held_out))
    rows_of_class = [min((train_class == k).sum(), (class_ == k).sum()) for k in range(classes)]
    large = [k for k in range(classes) if rows_of_class[k] >= _MIN_CLASS_ROWS]
    if classes < 3 or len(large) < 2:
        return None

    def compare(inputs: Sequence[ScoreInputs], seed: int) -> Aurocs:
        known, inside, outside = inputs
        fitted = fit_detector(components, known, inside, model, seed)
        return _aurocs(fitted(inside, names), fitted(outside, names))

    jobs = []
    for k in generator.permutation(large)[:_MAX_CLASSES]:
        index, own = np.flatnonzero(train_class != k), class_ == k
        if len(index) > _MAX_TRAIN_ROWS:
            index = np.sort(generator.choice(index, _MAX_TRAIN_ROWS, replace=False))
        parts = ((train, index), (held_out, np.flatnonzero(~own)), (held_out, np.flatnonzero(own)))
        inputs = [_without_class(rows, k, some, model) for rows, some in parts]
        jobs.append(partial(compare, inputs, int(generator.integers(2**63))))
    results = _run_side_by_side(jobs)
    return {name: float(np.mean([aurocs[name] for aurocs in results])) for name in names}


def _run_side_by_side(jobs: Iterable[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Results of jobs in threads: a matrix product of a few rows does not fill a processor."""
    without_grad = (torch.no_grad()(job) for job in jobs)
    return list(run_in_threads(without_grad, workers=torch.get_num_threads()))


def _without_class(
    rows: ScoreInputs, left_out: int, index: npt.NDArray[np.intp], model: Model
) -> ScoreInputs:
    """Some of the rows under a mixture without one of the classes."""
    some = take_rows(rows, index)
    others = [k for k in range(rows.log_posterior.shape[1]) if k != left_out]
    latents = replace(some.latents, class_log_prob=some.latents.class_log_prob[:, others])
    return score_inputs(some.x, latents, transforms_log_det(some), model)


def _aurocs(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> Aurocs:
    return {name: auroc(inside[name], outside[name]) for name in inside}
