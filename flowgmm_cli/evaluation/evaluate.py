"""Evaluation of a model's predictions for a split against its true labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.baselines import BaselineResult
from flowgmm_cli.evaluation.metrics import ClassificationMetrics, classification_metrics

SCHEMA = "flowgmm/eval/1"


@dataclass(frozen=True)
class Evaluation:
    """Results of a model on a split."""

    split: str
    classification: ClassificationMetrics  # metrics of the calibrated probabilities
    density_nll: float  # mean `-log p(x)` in nats per row
    # results of simple methods on the same rows, by name
    baselines: Mapping[str, BaselineResult] = field(default_factory=dict)
    bits_per_dim: float | None = None  # the same in bits per pixel; None if rows are not discrete pixels

    def metrics(self) -> dict[str, float | None]:
        """Return the scalars, by name."""
        result = self.classification
        return {
            "accuracy": result.accuracy,
            "balanced_accuracy": result.balanced_accuracy,
            "macro_f1": result.macro_f1,
            "nll": result.nll,
            "brier": result.brier,
            "bits_per_dim": self.bits_per_dim,
            "density_nll": self.density_nll,
            "ece": result.ece,
            "adaptive_ece": result.adaptive_ece,
        }

    def to_dict(self, run: str) -> dict[str, Any]:
        """Return the JSON object of `flowgmm eval --json`."""
        details = self.classification.to_dict()
        return {
            "schema": SCHEMA,
            "run": run,
            "split": self.split,
            "n": self.classification.n,
            "metrics": self.metrics(),
            "intervals": details["intervals"],
            "per_class": details["per_class"],
            "confusion": details["confusion"],
            "reliability": details["reliability"],
            "baselines": {name: result.to_dict() for name, result in self.baselines.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Evaluation:
        """Restore the result of `to_dict`. Raises `KeyError`, `TypeError` or `ValueError` otherwise."""
        metrics = value["metrics"]
        return cls(
            split=value["split"],
            classification=ClassificationMetrics.from_dict({**value, **metrics}),
            density_nll=float(metrics["density_nll"]),
            baselines={name: BaselineResult(**result) for name, result in value["baselines"].items()},
            bits_per_dim=None if metrics.get("bits_per_dim") is None else float(metrics["bits_per_dim"]),
        )


def evaluate(
    split: str,
    log_probabilities: npt.NDArray[np.float64],
    log_density: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    baselines: Mapping[str, BaselineResult] | None = None,
    pixels: int | None = None,
) -> Evaluation:
    """Compare predictions with labels; rows without a label are left out.

    Args:
        split: name of the split.
        log_probabilities: `log p(k | x)`, `(N, K)`.
        log_density: `log p(x)`, `(N,)`.
        labels: true classes `(N,)`, -1 where unknown.
        class_names: index -> name.
        baselines: results on the same rows.
        pixels: number of discrete pixels in a row; None where `log_density` is the density of real numbers.
    """
    known = labels >= 0
    density_nll = float(-log_density[known].mean())
    return Evaluation(
        split,
        classification_metrics(log_probabilities[known], labels[known], class_names=class_names),
        density_nll,
        baselines or {},
        None if pixels is None else bits_per_dim(density_nll, pixels),
    )


def bits_per_dim(nll: float, pixels: int) -> float:
    r"""Convert nats for a row of D discrete pixels to bits per pixel, :math:`-\log P(v) / (D \log 2)`.

    >>> bits_per_dim(math.log(256) * 784, 784)
    8.0
    """
    return nll / (pixels * math.log(2))
