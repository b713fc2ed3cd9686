"""Verdicts on the steps of a map: which of the measured errors matter, what they mean, and what helps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from flowgmm_cli.inference.check_layers import LOG_DET, ROUND_TRIP, ROUND_TRIP_32, Chain
from flowgmm_cli.inference.findings import Finding, LayerCheck, Verdict, worst

EXTREME = 10.0
"""Log-determinant per dimension of a single layer that is extreme: a stretch by the factor 22,000."""


def judge_transforms(chain: Chain) -> list[Finding]:
    """Round trip and log-determinant of the data transforms, with what they lose by their own account."""
    found = [dataclasses.replace(one, check=f"transforms: {one.check}") for one in judge_steps(chain.layers)]
    lossy = [f"`{one.name}`: {one.inexact}" for one in chain.layers if one.inexact]
    if lossy:
        found[0] = dataclasses.replace(found[0], details=(*found[0].details, *lossy))
    return found


def judge_steps(layers: Sequence[LayerCheck], what: str = "transforms") -> list[Finding]:
    """Round trip and log-determinant of steps; of a flow's, precision and extremes too."""
    found = [
        _judge(
            "round trip",
            layers,
            lambda one: one.round_trip,
            ROUND_TRIP,
            "largest error of inverse after forward, in float64",
            "samples, interpolations and transfers of rows are wrong",
            "the inverse of this layer does not belong to its forward, or it cannot be inverted with these "
            "weights; see `flowgmm plugins test` for a plugin's flow",
        ),
        _judge(
            "log-det",
            layers,
            lambda one: one.log_det,
            LOG_DET,
            "largest difference from autograd's Jacobian, by 1 + its size",
            "log-densities, and every score and posterior that compares them between rows, are wrong",
            "the layer's log-determinant is not that of its map, or the map is singular at a row; see "
            "`flowgmm plugins test` for a plugin's flow",
        ),
    ]
    if what == "flow":
        found.insert(
            1,
            _judge(
                "round trip in float32",
                layers,
                lambda one: one.round_trip_32,
                ROUND_TRIP_32,
                "largest error of inverse after forward, as the model computes",
                "samples, interpolations and transfers lose digits",
                "the layer stretches some directions far more than others: a smaller flow.scale_limit helps",
            ),
        )
        found.append(_extremes(layers))
    return found


def _judge(
    check: str,
    layers: Sequence[LayerCheck],
    value: Callable[[LayerCheck], float | None],
    bounds: tuple[float, float],
    message: str,
    meaning: str,
    advice: str,
) -> Finding:
    measured = [(one, error) for one in layers if (error := value(one)) is not None]
    if not measured:
        return Finding(check, "ok" if not layers else "skipped", "nothing to measure")
    largest = max(error for _, error in measured)
    bad = [(one, error) for one, error in measured if error > bounds[0]]
    verdict: Verdict = worst(["failed" if error > bounds[1] else "warning" for _, error in bad])
    text = f"{message}: {largest:.2g}" if math.isfinite(largest) else f"{message}: not finite"
    if not bad:
        return Finding(check, "ok", text)
    return Finding(check, verdict, text, meaning, advice, tuple(f"`{one.name}`: {e:.3g}" for one, e in bad))


def _extremes(layers: Sequence[LayerCheck]) -> Finding:
    measured = [one for one in layers if one.low is not None and one.high is not None]
    if not measured:
        return Finding("determinants", "skipped", "nothing to measure")
    low = min(one.low for one in measured if one.low is not None)
    high = max(one.high for one in measured if one.high is not None)
    text = f"log-determinants per dimension of single layers from {low:.3g} to {high:.3g}"
    odd = [
        f"`{one.name}`: {one.low:.3g} to {one.high:.3g}"
        for one in measured
        if one.low is not None and one.high is not None and max(-one.low, one.high) > EXTREME
    ]
    if not odd:
        return Finding("determinants", "ok", text)
    return Finding(
        "determinants",
        "warning",
        text,
        "the density of single rows hangs on a layer that stretches or squeezes by a factor beyond 20,000",
        "train again with a smaller flow.scale_limit or train.lr, or clip far rows",
        tuple(odd),
    )
