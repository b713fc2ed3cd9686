"""Score `combined`: several scores as one, through their tail probabilities on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import Score, ScoreInputs
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.data.transforms.quantile import find_segments
from flowgmm_cli.files import select_prefix
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.scores.base import FAR, State, TensorScore, score_tensor, to_finite
from flowgmm_cli.scores.posterior import UnknownKind
from flowgmm_cli.scores.specs import CombinedConfig

_MAX_KNOTS = 1000  # values stored
_TAIL_SHARE = 0.1  # share of the rows whose excesses the tail is fitted to
_MAX_SHAPE = 0.9  # a tail of shape 1 has no mean


class Combined(TensorScore):
    r""":math:`\sum_i -\log P(S_i \ge s_i(x))`, or the largest term; higher = rarer = further out.

    :math:`P(S_i \ge s)` is the share of held-out rows whose score i is at least s, see `Tail`. Fisher (1932)
    combined independent tests in this way; scores are not independent, so the sum is not a probability, but
    it puts the scores on one scale independent of their units. The maximum is Tippett's (1931): one score
    that finds a row strange is enough. Under a model that knows of unknown kinds the score `unknown`
    counts as much as all others together.
    """

    def __init__(self, config: CombinedConfig) -> None:
        super().__init__(config)
        self.scores: list[Score] = [build(component) for component in config.of]
        self.tails: list[Tail] = []

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit the scores, and their tails on held-out rows."""
        self.scores = self.scores[: len(self.config.of)]  # a second fit starts anew
        if train.latents.unknown_log_odds is not None:
            self.scores.append(UnknownKind())
        for score in self.scores:
            score.fit(train, held_out, model, generator)
        self.tails = [Tail.fit(score(held_out)) for score in self.scores]

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        pairs = zip(self.scores, self.tails, strict=True)
        rarities = torch.stack([tail.compute(score_tensor(score, rows)) for score, tail in pairs])
        if self.config.how == "max":
            return rarities.amax(0)
        given = len(self.config.of)
        return rarities[:given].sum(0) + given * rarities[given:].sum(0)

    def state(self) -> State:
        """See `flowgmm_cli.api.Score`."""
        values: list[dict[str, Any]] = []
        arrays: dict[str, Array] = {}
        for index, (score, tail) in enumerate(zip(self.scores, self.tails, strict=True)):
            score_values, score_arrays = score.state()
            values.append(score_values)
            arrays |= {f"{index}.score.{name}": array for name, array in score_arrays.items()}
            arrays |= {f"{index}.tail.{name}": array for name, array in tail.state().items()}
        return {"scores": values}, arrays

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See `flowgmm_cli.api.Score`."""
        if len(values["scores"]) > len(self.scores):
            self.scores.append(UnknownKind())
        for index, (score, score_values) in enumerate(zip(self.scores, values["scores"], strict=True)):
            score.load_state(score_values, select_prefix(f"{index}.score.", arrays))
        count = len(self.scores)
        self.tails = [Tail.from_state(select_prefix(f"{index}.tail.", arrays)) for index in range(count)]


@dataclass(frozen=True)
class Tail:
    r"""The negative logarithm of the share of held-out rows that score at least t, smooth and rising in t.

    Between held-out values it is interpolated. Beyond the largest, v, the excesses are assumed to follow a
    generalised Pareto distribution (Pickands, 1975), :math:`g(t) = g(v) + \frac{1}{\xi} \log(1 + \xi (t - v)
    / \beta)`: a row twice as far out stays further out, where an empirical share would be 0 for both. Below
    the smallest value it falls towards 0.
    """

    values: Floats  # rising held-out values `(n,)`, float64
    rarity: Floats  # g at these, `(n,)`, rising and above 0
    scale: float  # beta at the largest value
    shape: float  # xi, from 0 (exponential) to 0.9

    @classmethod
    def fit(cls, scores: Floats) -> Tail:
        """Fit to the scores of held-out rows `(n,)`."""
        ordered = np.sort(_flush(torch.from_numpy(to_finite(scores))).numpy())
        values, first, counts = np.unique(ordered, return_index=True, return_counts=True)
        # equal values have the rank of the middle one; a share of 1/(n + 1) is left for unseen values
        above = len(ordered) - first - (counts - 1) / 2
        rarity = -np.log(above / (len(ordered) + 1))
        scale, shape = _fit_pareto(ordered)
        if len(values) > _MAX_KNOTS:
            # even in rarity as well as in rank, so that the sparse upper end keeps every row
            ranks = np.linspace(0, len(values) - 1, _MAX_KNOTS // 2).round().astype(int)
            rare = np.searchsorted(rarity, np.linspace(rarity[0], rarity[-1], _MAX_KNOTS // 2))
            knots = np.unique(np.concatenate([ranks, rare.clip(max=len(values) - 1)]))
            values, rarity = values[knots], rarity[knots]
        return cls(values, rarity, scale, shape)

    def __call__(self, scores: Floats) -> Floats:
        """Return the rarity of scores `(N,)`: 0 is nothing special, 3 is one row in twenty."""
        rarity: Floats = self.compute(torch.from_numpy(to_finite(scores))).numpy()
        return rarity

    def compute(self, scores: Tensor) -> Tensor:
        """Compute the same of finite scores, by tensor operations."""
        scores, knots, rarity = _flush(scores), torch.from_numpy(self.values), torch.from_numpy(self.rarity)
        low, high, first, last = (float(a[end]) for a in (self.values, self.rarity) for end in (0, -1))
        within = torch.full_like(scores, first)
        if len(knots) > 1:
            inside = scores.clamp(low, high)
            segment = find_segments(knots[None], inside[None])[0]
            slope = (rarity.diff() / knots.diff())[segment]
            within = rarity[segment] + (inside - knots[segment]) * slope
        excess = ((scores - high).clamp(min=0) / self.scale).clamp(max=FAR)
        growth = excess if self.shape == 0 else torch.log1p(self.shape * excess) / self.shape
        decay = ((scores - low).clamp(max=0) / self.scale).exp()
        return torch.where(scores > high, last + growth, torch.where(scores < low, first * decay, within))

    def state(self) -> dict[str, Array]:
        """Return arrays for `from_state`."""
        return {"values": self.values, "rarity": self.rarity, "excess": np.array([self.scale, self.shape])}

    @classmethod
    def from_state(cls, arrays: Mapping[str, Array]) -> Tail:
        """Restore the result of `state`."""
        scale, shape = arrays["excess"].tolist()
        return cls(arrays["values"], arrays["rarity"], scale, shape)


def _flush(scores: Tensor) -> Tensor:
    """Replace the smallest numbers by 0: between two of them the slope of an interpolation overflows."""
    return torch.where(scores.abs() < torch.finfo(torch.float32).tiny, 0.0, scores)


def _fit_pareto(ordered: Floats) -> tuple[float, float]:
    r"""Fit a generalised Pareto tail by probability-weighted moments; return scale at the maximum, and shape.

    Hosking and Wallis (1987): with the mean :math:`a_0` of the m excesses y over a high value and
    :math:`a_1 = \frac{1}{m} \sum_i (1 - p_i) y_{(i)}` is :math:`\xi = 2 - a_0 / (a_0 - 2 a_1)`. A negative
    shape, a tail with an end, is replaced by 0: rows may lie beyond every end.
    """
    count = min(len(ordered) - 1, max(10, round(_TAIL_SHARE * len(ordered))))
    largest = float(ordered[-1])
    deviation = float(ordered.std())
    fallback = (deviation if np.isfinite(deviation) else abs(largest)) or abs(largest) * 1e-6 or 1.0
    if count < 1:
        return fallback, 0.0
    start = ordered[-count - 1]
    excess = ordered[-count:] - start
    mean = float(excess.mean())
    if not 0 < mean < FAR / 1e6:
        return fallback, 0.0
    probabilities = (np.arange(1, count + 1) - 0.35) / count
    weighted = float(((1 - probabilities) * excess).mean())
    shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
    shape = min(max(shape, 0.0), _MAX_SHAPE)
    return mean * (1 - shape) + shape * (largest - float(start)), shape
