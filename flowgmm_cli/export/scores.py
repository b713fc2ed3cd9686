"""Out-of-distribution scores as tensor operations, which the graph of an exported model can hold.

An operation computes the values of the class of `flowgmm_cli.scores` that it is made from, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.transforms.quantile import find_segments
from flowgmm_cli.scores.base import FAR
from flowgmm_cli.scores.blend import BLEND, RARE, RARE_WEIGHT, Blend
from flowgmm_cli.scores.combination import Combined, Tail
from flowgmm_cli.scores.density import LatentRadius, Nll, Typicality
from flowgmm_cli.scores.detector import Detector
from flowgmm_cli.scores.labelled import LabelDistance, LabelPosterior
from flowgmm_cli.scores.mahalanobis import ClassMahalanobis, Gaussian, Mahalanobis
from flowgmm_cli.scores.neighbours import MAX_COORDINATE, LatentKnn, NearestRows
from flowgmm_cli.scores.posterior import Entropy, MaxPosterior, UnknownKind

Operation = Callable[[ScoreInputs], Tensor]
"""Computes the score `(N,)` of rows."""


class NoOperationError(Exception):
    """A score cannot be expressed; the text is its name."""


def detector_operation(detector: Detector, name: str) -> Operation:
    """Return the operation of a score of a detector. Raises `NoOperationError` for one without operation."""
    if detector.blend is not None and name == BLEND:
        blend = detector.blend
        return _blend(blend, {part: detector_operation(detector, part) for part in blend.names})
    score = next(fitted.score for fitted in detector.scores if fitted.name == name)
    return _finite(score, name)


def _finite(score: object, name: str) -> Operation:
    try:
        if not type(score).__module__.startswith("flowgmm_cli."):  # it may override a built-in score
            raise NoOperationError(name)
        values = score_operation(score)
    except NoOperationError:
        raise NoOperationError(name) from None
    return lambda rows: values(rows).nan_to_num(FAR, FAR, -FAR).clamp(-FAR, FAR)


@singledispatch
def score_operation(score: Any) -> Operation:
    """Return the operation of a fitted score. Raises `NoOperationError` for a score of another class."""
    raise NoOperationError(type(score).__name__)


@score_operation.register
def _nll(score: Nll) -> Operation:
    return lambda rows: -rows.log_density


@score_operation.register
def _typicality(score: Typicality) -> Operation:
    centre = float(score.fitted["centre"])
    return lambda rows: (-rows.log_density - centre).abs()


@score_operation.register
def _latent_radius(score: LatentRadius) -> Operation:
    means, precisions = (_constant(score.fitted[name]) for name in ("means", "precisions"))
    size = means.shape[1]
    weighted, lengths = precisions * means, (precisions * means.square()).sum(1)

    def values(rows: ScoreInputs) -> Tensor:
        z = rows.latents.z.double()
        squares = z.square() @ precisions.T - 2 * z @ weighted.T + lengths
        return (squares.amin(1) - size).abs() / math.sqrt(2 * size)

    return values


@score_operation.register
def _entropy(score: Entropy) -> Operation:
    temperature = float(score.fitted["temperature"])

    def values(rows: ScoreInputs) -> Tensor:
        others = _gaps(rows.latents.class_log_prob.double() / temperature)
        total = _log1p(others.neg().exp().sum(1, keepdim=True))
        terms = (-others - total).exp() * (others + total)
        return ((-total).exp() * total).squeeze(1) + terms.sum(1)

    return values


@score_operation.register
def _max_posterior(score: MaxPosterior) -> Operation:
    temperature = float(score.fitted["temperature"])
    return lambda rows: _log_odds(rows.latents.class_log_prob.double() / temperature)


@score_operation.register
def _label_posterior(score: LabelPosterior) -> Operation:
    weights, bias = (_constant(score.fitted[name]) for name in ("weights", "bias"))
    return lambda rows: _log_odds(rows.x.double() @ weights.T + bias)


@score_operation.register
def _unknown_kind(score: UnknownKind) -> Operation:
    temperature = float(score.fitted["temperature"])

    def values(rows: ScoreInputs) -> Tensor:
        named, nameless = rows.latents.class_log_prob, rows.latents.unknown_log_prob
        if nameless is None:
            return torch.zeros_like(rows.log_density)
        return ((nameless / temperature).logsumexp(1) - (named / temperature).logsumexp(1)).double()

    return values


@score_operation.register
def _label_distance(score: LabelDistance) -> Operation:
    means, unit = _constant(score.fitted["means"]), score.config.scale == "unit"

    def values(rows: ScoreInputs) -> Tensor:
        x = rows.x.double()
        return _nearest(_to_unit_length(x) if unit else x, means)

    return values


@score_operation.register
def _nearest_rows(score: NearestRows) -> Operation:
    references, centre, scale = (torch.from_numpy(score.fitted[name]) for name in ("rows", "centre", "scale"))
    half_norms, count = references.square().sum(1) / 2, min(score.config.k, len(references))
    unit, mean = score.config.scale == "unit", score.config.distance == "mean"
    latent = isinstance(score, LatentKnn)

    def values(rows: ScoreInputs) -> Tensor:
        vectors = (rows.latents.z if latent else rows.x).double()
        vectors = _to_unit_length(vectors) if unit else (vectors - centre.double()) / scale.double()
        clipped = vectors.clamp(-MAX_COORDINATE, MAX_COORDINATE).float()
        nearest = (half_norms - clipped @ references.T).topk(count, dim=1, largest=False).indices
        distance = (vectors[:, None] - references[nearest].double()).square().sum(2).sqrt()
        return distance.mean(1) if mean else distance.amax(1)

    return values


@score_operation.register
def _mahalanobis(score: Mahalanobis) -> Operation:
    mean, gaussian = _constant(score.fitted["mean"]), Gaussian.from_state(score.fitted)
    distance = _gaussian(gaussian)
    return lambda rows: distance(rows.x.double() - mean).sqrt()


@score_operation.register
def _class_mahalanobis(score: ClassMahalanobis) -> Operation:
    means, gaussian = score.fitted["means"], Gaussian.from_state(score.fitted)
    if gaussian.full_rank:  # one product for all classes
        directions, deviations = _constant(gaussian.directions), _constant(gaussian.variances).sqrt()
        whitened = _constant(gaussian.whiten(means))
        return lambda rows: _nearest(rows.latents.z.double() @ directions / deviations, whitened)
    distance, centres = _gaussian(gaussian), list(_constant(means))

    def values(rows: ScoreInputs) -> Tensor:
        z = rows.latents.z.double()
        return torch.stack([distance(z - centre) for centre in centres]).amin(0).sqrt()

    return values


@score_operation.register
def _combination(score: Combined) -> Operation:
    parts = [_finite(part, "combined") for part in score.scores]
    tails = [_tail(tail) for tail in score.tails]
    given, largest = len(score.config.of), score.config.how == "max"

    def values(rows: ScoreInputs) -> Tensor:
        rarities = torch.stack([tail(part(rows)) for part, tail in zip(parts, tails, strict=True)])
        if largest:
            return rarities.amax(0)
        return rarities[:given].sum(0) + given * rarities[given:].sum(0)

    return values


def _blend(blend: Blend, parts: dict[str, Operation]) -> Operation:
    tails = {name: _tail(tail) for name, tail in blend.tails.items()}

    def values(rows: ScoreInputs) -> Tensor:
        total = torch.zeros_like(rows.log_density)
        for family in blend.families:
            rarity = torch.stack([tails[name](parts[name](rows)) for name in family.scores]).mean(0)
            rare = RARE_WEIGHT * (rarity - RARE).clamp(min=0)
            total = total + (family.weight * rarity if family.weight else rare)
        return total.clamp(-FAR, FAR)

    return values


def _tail(tail: Tail) -> Callable[[Tensor], Tensor]:
    """Return the operation of `Tail.__call__`."""
    knots, rarity = _constant(tail.values), _constant(tail.rarity)
    low, high, first, last = (float(a[end]) for a in (tail.values, tail.rarity) for end in (0, -1))

    def values(scores: Tensor) -> Tensor:
        inside = scores.clamp(low, high)
        if len(knots) > 1:
            segment = find_segments(knots[None], inside[None])[0]
            gradients = rarity.diff() / knots.diff()
            within = rarity[segment] + (inside - knots[segment]) * gradients[segment]
        else:
            within = torch.full_like(scores, first)
        excess = ((scores - high).clamp(min=0) / tail.scale).clamp(max=FAR)
        growth = excess if tail.shape == 0 else torch.log1p(tail.shape * excess) / tail.shape
        decay = ((scores - low).clamp(max=0) / tail.scale).exp()
        return torch.where(scores > high, last + growth, torch.where(scores < low, first * decay, within))

    return values


def _gaussian(gaussian: Gaussian) -> Callable[[Tensor], Tensor]:
    """Return the operation of `Gaussian.mahalanobis`."""
    directions, variances = _constant(gaussian.directions), _constant(gaussian.variances)

    def squares(rows: Tensor) -> Tensor:
        along = rows @ directions
        within = (along.square() / variances).sum(1)
        if gaussian.full_rank:
            return within
        beyond = (rows.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return within + beyond / gaussian.residual

    return squares


def _nearest(rows: Tensor, points: Tensor) -> Tensor:
    """Compute the distance of rows `(N, D)` to the nearest of the points `(K, D)`, `(N,)`."""
    squares = rows.square().sum(1)[:, None] - 2 * rows @ points.T + points.square().sum(1)
    return squares.amin(1).clamp(min=0).sqrt()


def _gaps(log_joint: Tensor) -> Tensor:
    """Compute the gaps of the other classes to the most probable one, rising, `(N, K - 1)`."""
    falling = log_joint.sort(dim=1, descending=True).values
    return (falling[:, :1] - falling[:, 1:]).clamp(max=1e30)


def _log_odds(log_joint: Tensor) -> Tensor:
    """Compute the values of `MaxPosterior.score`."""
    if log_joint.shape[1] == 1:
        return torch.zeros_like(log_joint[:, 0])
    others = _gaps(log_joint)
    return (others[:, :1] - others).exp().sum(1).log() - others[:, 0]


def _log1p(x: Tensor) -> Tensor:
    """Compute log(1 + x), also for tiny numbers, for which runtimes may have no own operation."""
    return torch.where(x < 1e-5, x - x.square() / 2, torch.log(1 + x))


def _to_unit_length(rows: Tensor) -> Tensor:
    lengths = rows.square().sum(1, keepdim=True).sqrt()
    return rows / torch.where(lengths > 0, lengths, 1.0)


def _constant(values: Array) -> Tensor:
    return torch.from_numpy(values).double()
