"""The last step of a run: out-of-distribution scores are fitted and their thresholds are set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Rows, ScoreInputs
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.splits import SplitRows
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.ood_selection import select_score
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_images, pseudo_ood_vectors
from flowgmm_cli.recipe.schema import Recipe, score_names
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import TrainedModel

MAX_TRAIN_ROWS = 5000
"""Training rows that the scores are fitted to."""
MAX_HELD_OUT_ROWS = 10_000
"""Held-out rows that thresholds come from."""
_HELD_OUT_SHARE = 0.2  # of the training rows, if no others are held out


@torch.no_grad()
def fit_ood(trained: TrainedModel, rows: SplitRows, context: DataContext) -> tuple[Detector, dict[str, Any]]:
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
    train, held_out = (_encode(trained, part, context) for part in _split(rows, generator))
    seed = int(generator.integers(2**63))
    detector = fit_detector(config.scores, train, held_out, trained.model, seed)
    default, reason = config.default, "named by the recipe"
    table: dict[str, dict[str, float]] = {}
    if default == "auto":
        outside = _pseudo_ood(trained, train, held_out, generator)
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
    if len(columns) == 1 and len(columns[0].shape) in (2, 3):
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


def _split(rows: SplitRows, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Training rows for the scores, and rows that they are not fitted to."""
    if rows.val is not None:
        return _sample(rows.train, MAX_TRAIN_ROWS, generator), _sample(rows.val, MAX_HELD_OUT_ROWS, generator)
    order = generator.permutation(len(rows.train))
    held_out = min(max(1, round(_HELD_OUT_SHARE * len(order))), MAX_HELD_OUT_ROWS)
    train = order[held_out:][:MAX_TRAIN_ROWS] if len(order) > held_out else order
    return rows.train.take(np.sort(train)), rows.train.take(np.sort(order[:held_out]))


def _sample(rows: Rows, count: int, generator: np.random.Generator) -> Rows:
    if len(rows) <= count:
        return rows
    return rows.take(np.sort(generator.choice(len(rows), count, replace=False)))


def _pseudo_ood(
    trained: TrainedModel, train: ScoreInputs, held_out: ScoreInputs, generator: np.random.Generator
) -> dict[str, ScoreInputs]:
    of_pixels = isinstance(trained.model.parts[0].flow, FlatFlow)
    if not of_pixels or train.images is None or held_out.images is None:
        return pseudo_ood_vectors(train, held_out, trained.model, generator)
    return pseudo_ood_images(train.images, held_out.images, trained.encode_images, generator)


def _encode(trained: TrainedModel, rows: Rows, context: DataContext) -> ScoreInputs:
    return trained.encode_rows(trained.preprocessor.apply(rows, context, with_inputs=True))
