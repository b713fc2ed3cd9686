"""Labels that look wrong: confident learning with predictions of models that have not seen the label."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flowgmm_cli.data.array_types import Array, Floats, Ints
from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.calibration import temper_log_joint
from flowgmm_cli.evaluation.evaluation_file import CROSS_FITTED, CrossFittedPredictions, load_predictions
from flowgmm_cli.evaluation.temperature import fit_calibration
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.runs import Run

MAX_SHARE = 0.45
"""Largest share of wrong labels that is believed."""
_ROUNDING = 1e-9  # rows of which a model is sure have the same probability


@dataclass(frozen=True)
class LabelErrors:
    """Labelled training rows whose label looks wrong, the least likely label first.

    Attributes:
        predictions: predictions of all labelled rows that a fold has held out.
        probabilities: probabilities of their right classes, `(N, K)`.
        places: positions of the doubtful rows among them, `(n,)`.
        suggested: the classes that they rather belong to, `(n,)`.
    """

    predictions: CrossFittedPredictions
    probabilities: Floats
    places: Ints
    suggested: Ints

    def __len__(self) -> int:
        return len(self.places)

    @property
    def share(self) -> float:
        """Share of the labels that look wrong."""
        return len(self) / max(len(self.predictions), 1)

    def first(self, number: int | None) -> LabelErrors:
        """Return the least likely labels; all of them for None."""
        return replace(self, places=self.places[:number], suggested=self.suggested[:number])

    def table(self) -> dict[str, Array]:
        """Return the columns `id`, `label`, `suggested`, `p_label` and `p_suggested`."""
        stored, names = self.predictions, np.array(self.predictions.class_names, dtype=object)
        labels, p = stored.labels[self.places], self.probabilities[self.places]
        return {
            "id": np.array(stored.ids, dtype=object)[self.places],
            "label": names[labels],
            "suggested": names[self.suggested],
            "p_label": np.take_along_axis(p, labels[:, None], 1)[:, 0],
            "p_suggested": np.take_along_axis(p, self.suggested[:, None], 1)[:, 0],
        }

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows of the table as plain values."""
        columns = {name: values.tolist() for name, values in self.table().items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def load_label_errors(run: Run) -> LabelErrors:
    """Find the labels of a run that look wrong.

    Raises:
        RunError: the training has held out no labels.
    """
    predictions = load_predictions(run, CROSS_FITTED)
    if isinstance(predictions, CrossFittedPredictions):
        return find_label_errors(predictions)
    raise RunError(
        f"{run.path} has no predictions for labels that a training has not seen",
        details=[
            "they come from the folds of the calibration or the search, which need ten labels or more, and "
            "two of a class"
        ],
        hint="train again with calibration.on=cross_fit calibration.method=temperature",
    )


def find_label_errors(predictions: CrossFittedPredictions) -> LabelErrors:
    """Find the labels that look wrong by `suggest_classes`, the least likely first.

    Wrong labels have made the probabilities less certain. So they are calibrated again, to the right classes,
    with the share of the labels that look wrong at first sight.
    """
    scores, labels = predictions.log_probabilities, predictions.labels
    share = min(float((suggest_classes(np.exp(scores), labels) >= 0).mean()), MAX_SHARE)
    config = CalibrationConfig()
    fitted = fit_calibration(config, scores, labels, "cross_fit", 1.0, False, label_noise=share)
    p = np.exp(temper_log_joint(scores, fitted.temperature, fitted.noise))
    suggested = suggest_classes(p, labels)
    places = np.flatnonzero(suggested >= 0)
    places = places[np.argsort(p[places, labels[places]], kind="stable")]
    return LabelErrors(predictions, p, places, suggested[places])


def suggest_classes(p: Floats, labels: Ints) -> Ints:
    """Return another class for each label that looks wrong, -1 for the others, by confident learning.

    The threshold of a class is the mean probability that the rows with its label have for it. A label looks
    wrong if, among the classes whose probability reaches their threshold, another class is the likeliest
    (Northcutt, Jiang and Chuang, 2021).

    Args:
        p: probabilities `(N, K)` of models that have not seen the labels.
        labels: classes `(N,)`.
    """
    confident = p >= class_thresholds(p, labels) - _ROUNDING
    likeliest = np.where(confident, p, -1.0).argmax(1)
    return np.where(confident.any(1) & (likeliest != labels), likeliest, -1)


def class_thresholds(p: Floats, labels: Ints) -> Floats:
    """Return the mean probability of each class in the rows with its label, `(K,)`; 1 without such rows."""
    counts = np.bincount(labels, minlength=p.shape[1])
    sums = np.bincount(labels, p[np.arange(len(p)), labels], minlength=p.shape[1])
    return np.where(counts, sums / np.maximum(counts, 1), 1.0)
