"""Which rows of many are worth looking at: typical, odd and doubtful ones of a class, and rows by score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from flowgmm_cli.api import Rows
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.data.readers.base import RowReader
from flowgmm_cli.inference.inputs import concatenate_rows
from flowgmm_cli.inference.scoring import ScoredRows
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Places = npt.NDArray[np.int64]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where in the order of scores rows are shown."""


@dataclass(frozen=True)
class RowStatistics:
    """What a model says of some rows.

    Attributes:
        classes: the class of each row, int64 `(N,)`: its label, or the predicted class where it has none.
        predicted: int64 `(N,)`.
        log_density: `log p(x | k)` of that class in nats, the transforms' log-determinant included, `(N,)`.
        entropy: of the calibrated posterior in nats, `(N,)`: 0 where the model has no doubt.
    """

    classes: Places
    predicted: Places
    log_density: Floats
    entropy: Floats


@dataclass(frozen=True)
class Extremes:
    """Positions of rows of one class.

    Attributes:
        typical: the densest under the class, the densest first.
        odd: the least dense, the least dense first; none of them is typical, too.
    """

    typical: Places
    odd: Places


def compute_row_statistics(trained: TrainedModel, split: Tensors) -> RowStatistics:
    """Say of preprocessed rows what a gallery needs."""
    seen = trained.encode_rows(split)
    log_posterior = seen.log_posterior.numpy()
    predicted = log_posterior.argmax(1)
    labels = split.labels.numpy()
    classes = np.where(labels >= 0, labels, predicted)
    logs = [part.mixture.log_weights.detach().double().cpu() for part in trained.model.parts]
    weights = torch.stack(logs).mean(0).numpy()
    joint = seen.latents.class_log_prob.double() + (seen.latents.log_det.double() + split.log_det)[:, None]
    density = joint.numpy()[np.arange(len(split)), classes] - weights[classes]
    with np.errstate(invalid="ignore"):
        summands = np.where(log_posterior > -np.inf, np.exp(log_posterior) * log_posterior, 0.0)
    return RowStatistics(classes, predicted, density, -summands.sum(1))


def select_extremes(told: RowStatistics, index: int, most: int) -> Extremes:
    """The typical and the odd rows of the class `index`, at most `most` of each."""
    rows = np.flatnonzero((told.classes == index) & np.isfinite(told.log_density))
    order = rows[np.argsort(-told.log_density[rows], kind="stable")]
    typical = order[: min(most, -(-len(order) // 2))]
    return Extremes(typical, order[len(typical) :][::-1][:most])


def select_uncertain(told: RowStatistics, most: int) -> Places:
    """The rows with the largest entropy, that first."""
    return np.argsort(-told.entropy, kind="stable")[:most]


def positions_by_quantile(values: Floats, each: int) -> list[Places]:
    """Positions of values around each of `QUANTILES`, rising: five lots, none with a row of another.

    >>> [lot.tolist() for lot in by_quantile(np.array([5.0, 1, 4, 2, 3, 0]), 1)]
    [[5], [1], [3], [2], [0]]
    """
    order = np.argsort(values, kind="stable")
    each = min(each, len(order) // len(QUANTILES))
    starts = [round(share * (len(order) - each)) for share in QUANTILES]
    return [order[start : start + each] for start in starts] if each else [order]


@dataclass
class ScoreRecord:
    """Scores of rows that pass by, with the places of the rows in the input.

    Attributes:
        score: which score.
    """

    score: str
    _places: list[Places] = field(default_factory=list)
    _values: list[Floats] = field(default_factory=list)

    def note(self, scored: ScoredRows) -> None:
        """Take down a stretch of rows."""
        good = np.flatnonzero(scored.good)
        self._places.append(good + scored.start)
        self._values.append(scored.ood[self.score][good])

    @property
    def places(self) -> Places:
        """Places of the rows that could be scored, from 0."""
        return np.concatenate([*self._places, np.zeros(0, dtype=np.int64)])

    @property
    def values(self) -> Floats:
        """Their scores."""
        return np.concatenate([*self._values, np.zeros(0)])


def read_rows_at(reader: RowReader, places: Places) -> Rows:
    """Rows of an input by their place in it, from 0, in the order of `places`; the input is read again."""
    wanted = np.unique(places)
    found = []
    for chunk in reader:
        inside = wanted[(wanted >= chunk.start) & (wanted < chunk.start + len(chunk))] - chunk.start
        if len(inside):
            found.append(chunk.rows.take(inside))
        if not len(wanted) or chunk.start + len(chunk) > wanted[-1]:
            break
    return concatenate_rows(found).take(np.searchsorted(wanted, places))
