"""Pseudo-unknown kinds: a class of the run is left out of its labels, to see which scores still detect it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import Component, ScoreInputs
from flowgmm_cli.data.array_types import Positions
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.inference.pseudo_ood import transforms_log_det
from flowgmm_cli.inference.workers import run_in_threads
from flowgmm_cli.model import Model
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.detector import fit_detector
from flowgmm_cli.scores.labelled import angles_to_means
from flowgmm_cli.trained_model import score_inputs

LEFT_OUT = "left out"
"""Kind of rows: a class without labels and without rows in the fit of the scores."""
IN_PILE = "unlabelled"
"""Kind of rows: a class without labels whose unlabelled rows stay in the fit of the scores."""
_MAX_ROWS_OF_OTHERS = 2000  # training rows while a class is left out
_MAX_CLASSES = 5  # that are left out, one after the other
_MIN_CLASS_ROWS = 5
_MIN_LABELS = 20
_SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # of labelled rows, beyond which unlabelled rows are counted
_DOUBT = 0.05
_MAX_PILE_ROWS = 3000

Aurocs = dict[str, float]


def holds_unknown(train: ScoreInputs, unlabelled: torch.Tensor, generator: np.random.Generator) -> bool:
    """Return True if unlabelled rows look unlike the labelled rows, with at most 5 % false alarms.

    Compared are the angles of unlabelled inputs `(U, D)`, and of labelled rows held out, to class means of
    the labelled rows. Of the rows of the classes, the share beyond the k-th largest of L angles has the
    distribution Beta(k, L + 1 - k).
    """
    from scipy.stats import beta

    if train.labelled is None or len(train.labelled[1]) < _MIN_LABELS or not len(unlabelled):
        return False
    index = torch.from_numpy(generator.permutation(len(unlabelled))[:_MAX_PILE_ROWS])
    own, others = angles_to_means(train, unlabelled[index], generator)
    rank = np.array([max(1, round(share * len(own))) for share in _SHARES])
    beyond = (others[:, None] >= np.sort(own)[-rank]).mean(0)
    return bool((beyond > beta.ppf(1 - _DOUBT / len(rank), rank, len(own) + 1 - rank)).any())


def leave_classes_out(
    components: Sequence[Component],
    names: Sequence[str],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    generator: np.random.Generator,
    *,
    in_pile: bool = False,
) -> dict[str, Aurocs]:
    """Mean AUROC of scores, called `names`, against rows of a class that has no label; {} with few classes.

    The kind `left out` has no such rows in the fit of the scores either; with `in_pile` there is the kind
    `unlabelled`, too. The flow has seen these rows, and `latent_radius` takes the mixture as it is; a
    training without each class would cost more than the run itself.
    """
    classes = held_out.log_posterior.shape[1]
    train_class, class_ = (rows.log_posterior.argmax(1).numpy() for rows in (train, held_out))
    rows_of_class = np.minimum(*(np.bincount(index, minlength=classes) for index in (train_class, class_)))
    large = np.flatnonzero(rows_of_class >= _MIN_CLASS_ROWS).tolist()
    if classes < 3 or len(large) < 2:
        return {}

    def compare(inputs: Sequence[ScoreInputs], seed: int) -> Aurocs:
        fitted = fit_detector(components, inputs[0], inputs[1], model, seed)
        inside, outside = (fitted(rows) for rows in inputs[1:])
        own = [score.name for score in fitted.scores]
        return {name: auroc(inside[k], outside[k]) for name, k in zip(names, own, strict=True)}

    kinds = [LEFT_OUT, IN_PILE] if in_pile else [LEFT_OUT]
    jobs = []
    for k in generator.permutation(large)[: _MAX_CLASSES // len(kinds) + len(kinds) - 1]:
        for kind in kinds:
            index = np.flatnonzero((train_class != k) | (kind == IN_PILE))
            if len(index) > _MAX_ROWS_OF_OTHERS:
                index = np.sort(generator.choice(index, _MAX_ROWS_OF_OTHERS, replace=False))
            own = class_ == k
            parts = ((train, index), (held_out, np.flatnonzero(~own)), (held_out, np.flatnonzero(own)))
            inputs = [_without_class(rows, k, some, model) for rows, some in parts]
            jobs.append(partial(compare, inputs, int(generator.integers(2**63))))
    results = run_side_by_side(jobs)
    return {
        kind: {name: float(np.mean([aurocs[name] for aurocs in results[i :: len(kinds)]])) for name in names}
        for i, kind in enumerate(kinds)
    }


def run_side_by_side(jobs: Iterable[Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
    """Results of jobs in threads: a matrix product of a few rows does not fill a processor."""
    without_grad = (torch.no_grad()(job) for job in jobs)
    return list(run_in_threads(without_grad, workers=torch.get_num_threads()))


def _without_class(rows: ScoreInputs, left_out: int, index: Positions, model: Model) -> ScoreInputs:
    """Some of the rows under a mixture without one of the classes, and labels without it."""
    some = take_rows(rows, index)
    others = [k for k in range(rows.log_posterior.shape[1]) if k != left_out]
    latents = replace(some.latents, class_log_prob=some.latents.class_log_prob[:, others])
    result = score_inputs(model, some.x, transforms_log_det(some), latents=latents)
    if rows.labelled is None:
        return result
    x, labels = rows.labelled
    return replace(result, labelled=(x[labels != left_out], labels[labels != left_out]))
