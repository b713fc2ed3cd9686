"""The last step of a run: scores of how far out a row is, fitted on rows the model knows and others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Rows, ScoreInputs
from flowgmm_cli.data.prepare import SplitRows
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.recipe.schema import Recipe, score_names
from flowgmm_cli.scores.detector import Detector, fit_detector, reads_images
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.choice import choose_default
from flowgmm_cli.training.stand_ins import image_stand_ins, vector_stand_ins

TRAIN_ROWS = 5000
"""Training rows that the scores see, at most."""
HELD_OUT_ROWS = 10_000
"""Held-out rows that thresholds come from, at most."""
_SET_ASIDE = 0.2  # of the training rows, where no others are held out


@dataclass(frozen=True)
class Detection:
    """A detector and where its numbers come from.

    Attributes:
        detector: the fitted scores.
        held_out: whether its thresholds come from `val` rows, or from `train` rows that were set aside from
            the scores though not from the model.
        rows: number of training rows the scores were fitted on.
        held_out_rows: number of rows the thresholds come from.
        fpr: share of these that the default's threshold may flag.
        reason: why the default score is the default, for people.
        table: AUROC by score and kind of stand-in, where it was chosen by them.
    """

    detector: Detector
    held_out: Literal["val", "train"]
    rows: int
    held_out_rows: int
    fpr: float
    reason: str
    table: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def describe(self) -> str:
        """One line for people."""
        where = "held-out" if self.held_out == "val" else "training"
        return (
            f"rows are flagged by {self.detector.default}, at a threshold that {100 * self.fpr:g} % of "
            f"{self.held_out_rows:,} {where} rows exceed; {self.reason}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        detector = self.detector
        return {
            "default": detector.default,
            "reason": self.reason,
            "threshold": detector.threshold(detector.default, self.fpr),
            "fpr": self.fpr,
            "scores": list(detector.names),
            "held_out": self.held_out,
            "rows": self.rows,
            "held_out_rows": self.held_out_rows,
            "choice": {name: dict(values) for name, values in self.table.items()},
        }


@torch.no_grad()
def fit_detection(trained: TrainedModel, rows: SplitRows, context: DataContext) -> Detection:
    """Fit the scores of the recipe's `ood` section to a trained model and the rows of its run.

    No label is looked at.

    Args:
        trained: the calibrated model.
        rows: its rows, divided as in training.
        context: surroundings.

    Raises:
        RecipeError: no score suits the rows.
    """
    config = trained.recipe.ood
    generator = np.random.default_rng(derive_seed(trained.recipe.run.seed, "scores"))
    known, unknown = _divide(rows, generator)
    train, held_out = (_see(trained, part, context) for part in (known, unknown))
    seed = int(generator.integers(2**63))
    detector = fit_detector(config.scores, train, held_out, trained.model, seed)
    chosen, reason = config.default, "named by the recipe"
    table: Mapping[str, Mapping[str, float]] = {}
    if chosen == "auto":
        stand_ins = _stand_ins(trained, train, held_out, generator)
        choice = choose_default(detector, config.scores, train, held_out, trained.model, stand_ins, generator)
        chosen, reason, table = choice.default, choice.reason, choice.table
    return Detection(
        detector=detector.with_default(chosen),
        held_out="val" if rows.val is not None else "train",
        rows=len(train),
        held_out_rows=len(held_out),
        fpr=config.fpr,
        reason=reason,
        table=table,
    )


def require_scores(recipe: Recipe, preprocessor: Preprocessor) -> None:
    """Check that the recipe's scores suit the rows; better said before training than after.

    Raises:
        RecipeError: none of them does, or the default does not.
    """
    config, columns = recipe.ood, preprocessor.columns
    if len(columns) == 1 and len(columns[0].shape) in (2, 3):
        return
    names = score_names(config.scores)
    usable = [name for name, one in zip(names, config.scores, strict=True) if not reads_images(one)]
    if not usable or config.default not in ("auto", *usable):
        which = f"ood.default is {config.default}, which reads" if usable else "all scores in ood.scores read"
        raise RecipeError(
            f"{which} images, and the rows of this recipe are none",
            hint=f"ood.default=auto, or one of {', '.join(usable)}"
            if usable
            else "leave ood.scores out for all built-in scores",
        )


def _divide(rows: SplitRows, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Training rows for the scores, and rows that they are not fitted on."""
    if rows.val is not None:
        return _some(rows.train, TRAIN_ROWS, generator), _some(rows.val, HELD_OUT_ROWS, generator)
    order = generator.permutation(len(rows.train))
    aside = min(max(1, round(_SET_ASIDE * len(order))), HELD_OUT_ROWS)
    known = order[aside:][:TRAIN_ROWS] if len(order) > aside else order
    return rows.train.take(np.sort(known)), rows.train.take(np.sort(order[:aside]))


def _some(rows: Rows, most: int, generator: np.random.Generator) -> Rows:
    if len(rows) <= most:
        return rows
    return rows.take(np.sort(generator.choice(len(rows), most, replace=False)))


def _stand_ins(
    trained: TrainedModel, train: ScoreInputs, held_out: ScoreInputs, generator: np.random.Generator
) -> dict[str, ScoreInputs]:
    of_pixels = isinstance(trained.model.parts[0].flow, FlatFlow)
    if not of_pixels or train.images is None or held_out.images is None:
        return vector_stand_ins(train, held_out, trained.model, generator)
    return image_stand_ins(train.images, held_out.images, trained.encode_images, generator)


def _see(trained: TrainedModel, rows: Rows, context: DataContext) -> ScoreInputs:
    return trained.encode_rows(trained.preprocessor.apply(rows, context, with_inputs=True))
