"""The last step of a run: out-of-distribution scores are fitted, thresholds set, and a default is selected.

For the selection the scores are compared on pseudo-OOD rows (see `pseudo_ood.py`) and on classes that are
left out of their fit; the one with the largest mean AUROC is taken. No label and no foreign row is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import Component, DataContext, Rows, ScoreInputs
from flowgmm_cli.data.images.format import image_column
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_images, pseudo_ood_vectors, transforms_log_det
from flowgmm_cli.inference.workers import run_in_threads
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import Recipe, score_names
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import TrainedModel, score_inputs

MAX_TRAIN_ROWS = 5000
"""Training rows that the scores are fitted to."""
MAX_HELD_OUT_ROWS = 10_000
"""Held-out rows that thresholds come from."""
_HELD_OUT_SHARE = 0.2  # of the training rows, if no others are held out
_MAX_ROWS_OF_OTHERS = 2000  # training rows while a class is left out
_MAX_CLASSES = 5  # that are left out, one after the other
_MIN_CLASS_ROWS = 10
_LEFT_OUT = "left out"

Aurocs = dict[str, float]


@torch.no_grad()
def fit_ood(trained: TrainedModel, rows: SplitData, context: DataContext) -> tuple[Detector, dict[str, Any]]:
    """Fit the scores of the recipe's `ood` section to a calibrated model and the rows of its run.

    No label is used.

    Returns:
        The fitted scores, and facts for JSON: the default score with its threshold, the reason for it and
        `choice`, AUROC by score and kind of pseudo-OOD rows if it was selected by them; the numbers of rows,
        and `held_out`: `val` if thresholds come from validation rows, `train` if they come from training rows
        that the scores, though not the model, were not fitted to.

    Raises:
        RecipeError: no score suits the rows.
    """
    config = trained.recipe.ood
    generator = np.random.default_rng(derive_seed(trained.recipe.run.seed, "scores"))
    train, held_out = (
        trained.encode_rows(trained.preprocessor.apply(part, context, with_inputs=True))
        for part in _split(rows, generator)
    )
    train, held_out = (_without_unknown(part, trained.model) for part in (train, held_out))
    seed = int(generator.integers(2**63))
    detector = fit_detector(config.scores, train, held_out, trained.model, seed)
    default, reason = config.default, "named by the recipe"
    table: dict[str, Aurocs] = {}
    if default == "auto" and trained.model.unknown and "combined" in detector.names:
        default, reason = "combined", "it has the score of the unknown kinds among the unlabelled rows"
    elif default == "auto":
        of_pixels = isinstance(trained.model.parts[0].flow, FlatFlow)
        if of_pixels and train.images is not None and held_out.images is not None:
            outside = pseudo_ood_images(train.images, held_out.images, trained.encode_images, generator)
        else:
            outside = pseudo_ood_vectors(train, held_out, trained.model, generator)
        default, reason, table = select_score(
            detector, config.scores, train, held_out, trained.model, outside, generator
        )
    detector = detector.with_default(default)
    facts = {
        "default": default,
        "reason": reason,
        "threshold": detector.threshold(default, config.fpr),
        "fpr": config.fpr,
        "scores": list(detector.names),
        "held_out": "val" if rows.val is not None else "train",
        "rows": len(train),
        "held_out_rows": len(held_out),
        "choice": table,
    }
    return detector, facts


def describe_ood(facts: dict[str, Any]) -> str:
    """Describe the facts of `fit_ood` in one line for people."""
    where = "held-out" if facts["held_out"] == "val" else "training"
    return (
        f"rows are flagged by {facts['default']}, at a threshold that {100 * facts['fpr']:g} % of "
        f"{facts['held_out_rows']:,} {where} rows exceed; {facts['reason']}"
    )


def require_scores(recipe: Recipe, preprocessor: Preprocessor) -> None:
    """Check before training that the recipe's scores suit the rows.

    Raises:
        RecipeError: none of them does, or the default does not.
    """
    config, columns = recipe.ood, preprocessor.columns
    if image_column(columns) is not None:
        return
    names = score_names(config.scores)
    usable = [name for name, score in zip(names, config.scores, strict=True) if not reads_images(score)]
    if not usable or config.default not in ("auto", *usable):
        which = f"ood.default is {config.default}, which reads" if usable else "all scores in ood.scores read"
        raise RecipeError(
            f"{which} images, and this run has no image column",
            hint=f"ood.default=auto, or one of {', '.join(usable)}"
            if usable
            else "leave ood.scores out for all built-in scores",
        )


def _split(rows: SplitData, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Training rows for the scores, and rows that they are not fitted to."""
    if rows.val is not None:
        return _sample(rows.train, MAX_TRAIN_ROWS, generator), _sample(rows.val, MAX_HELD_OUT_ROWS, generator)
    order = generator.permutation(len(rows.train))
    held_out = min(max(1, round(_HELD_OUT_SHARE * len(order))), MAX_HELD_OUT_ROWS)
    train = order[held_out:][:MAX_TRAIN_ROWS] if len(order) > held_out else order
    return rows.train.take(np.sort(train)), rows.train.take(np.sort(order[:held_out]))


def _without_unknown(rows: ScoreInputs, model: Model) -> ScoreInputs:
    """Return the rows that belong to one of the classes rather than to an unknown kind."""
    index = np.flatnonzero((model.p_unknown(rows.latents) < 0.5).numpy())
    return take_rows(rows, index) if 0 < len(index) < len(rows) else rows


def _sample(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if len(rows) <= count:
        return rows
    return rows.take(np.sort(generator.choice(len(rows), count, replace=False)))


def select_score(
    detector: Detector,
    components: Sequence[Component],
    train: ScoreInputs,
    held_out: ScoreInputs,
    model: Model,
    pseudo_ood: Mapping[str, ScoreInputs],
    generator: np.random.Generator,
) -> tuple[str, str, dict[str, Aurocs]]:
    """Compare the scores of a detector, which was fitted to the rows `train`, except those that read images.

    Besides the pseudo-OOD rows (by kind) there are rows of a class that is left out of the mixture and of the
    scores' training rows (`left out`; with three classes or more). These are real rows and count twice.

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
    rows_of_class = np.minimum(*(np.bincount(index, minlength=classes) for index in (train_class, class_)))
    large = np.flatnonzero(rows_of_class >= _MIN_CLASS_ROWS).tolist()
    if classes < 3 or len(large) < 2:
        return None

    def compare(inputs: Sequence[ScoreInputs], seed: int) -> Aurocs:
        known, inside, outside = inputs
        fitted = fit_detector(components, known, inside, model, seed)
        return _aurocs(fitted(inside, names), fitted(outside, names))

    jobs = []
    for k in generator.permutation(large)[:_MAX_CLASSES]:
        index, own = np.flatnonzero(train_class != k), class_ == k
        if len(index) > _MAX_ROWS_OF_OTHERS:
            index = np.sort(generator.choice(index, _MAX_ROWS_OF_OTHERS, replace=False))
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
    return score_inputs(model, some.x, transforms_log_det(some), latents=latents)


def _aurocs(inside: Mapping[str, Any], outside: Mapping[str, Any]) -> Aurocs:
    return {name: auroc(inside[name], outside[name]) for name in inside}
