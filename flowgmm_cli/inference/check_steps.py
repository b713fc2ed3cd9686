"""Checks of invertible maps step by step: inverse, log-determinant, numbers that are not finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from flowgmm_cli.inference.check_report import Finding, LayerCheck, worst
from flowgmm_cli.inference.layers import Step, jacobian, to_float64

ROUND_TRIP = (1e-6, 1e-3)
"""Errors of the round trip in float64 above which a step gets a warning, and above which it fails."""
ROUND_TRIP_32 = (1e-3, 1e-1)
"""The same in float32, where large errors are lost digits."""
LOG_DET = (1e-6, 1e-4)
"""The same for errors of a log-determinant, divided by 1 + its size."""
MAX_JACOBIAN_NUMBERS = 4_000_000
MAX_JACOBIAN_FEATURES = 4096
"""No Jacobian is computed for more features."""
EXTREME_LOG_DET = 10.0
"""Log-determinant per dimension of a single layer that is extreme: a stretch by the factor 22,000."""


@dataclass(frozen=True)
class StepChecks:
    """Results for the steps of a map.

    Attributes:
        layers: results for each step.
        jacobians: Jacobians of all steps together, `(rows, d_out, d_in)`; None if not computed.
        jacobian_rows: number of rows with Jacobians.
    """

    layers: tuple[LayerCheck, ...]
    jacobians: Tensor | None
    jacobian_rows: int


def check_weights(modules: Sequence[tuple[str, nn.Module]]) -> Finding:
    """Find parameters and buffers that are not finite; `modules` are names and modules."""
    details, total = [], 0
    for prefix, module in modules:
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                total += value.numel()
                if bad := int((~value.isfinite()).sum()):
                    details.append(f"{prefix}.{name}: {bad:,} of {value.numel():,} numbers")
    if not details:
        return Finding("weights", "ok", f"all {total:,} numbers of the model are finite")
    return Finding(
        "weights",
        "failed",
        f"{len(details)} tensors of the model hold NaN or infinities",
        "all rows that pass through them become NaN or infinite",
        "train again with a lower train.lr or train.clip_norm, or go back to an earlier checkpoint",
        tuple(details),
    )


@torch.no_grad()
def check_finite(
    features: Tensor, transforms: Sequence[Step], flow: Sequence[Step], ids: npt.NDArray[Any]
) -> Finding:
    """Find the first step at which numbers become NaN or infinite, with its rows, as the model computes.

    Args:
        features: the feature matrix, float64.
        transforms: steps in float64.
        flow: steps in float32.
        ids: names of the rows.
    """

    def fail(place: str, bad: Tensor, advice: str) -> Finding:
        rows = bad.nonzero().flatten().tolist()
        names = ", ".join(str(ids[row]) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        return Finding(
            "finite",
            "failed",
            f"numbers become NaN or infinite first in `{place}`, in {len(rows):,} of {len(bad):,} rows",
            "these rows have no density, class or latent",
            advice,
            (f"rows {names}",),
        )

    x = features
    if (bad := ~_finite_rows(x)).any():
        return fail("the feature matrix", bad, "look at the input columns of these rows")
    for step in transforms:
        x, log_det = step.forward(x)
        if (bad := ~(_finite_rows(x) & log_det.isfinite())).any():
            return fail(step.name, bad, "look at the input columns of these rows")
    x = x.float()
    if (bad := ~_finite_rows(x)).any():
        advice = "add {use: standardise} or {use: clip} to data.transforms and train again"
        return fail("the conversion to 32-bit numbers", bad, advice)
    for step in flow:
        x, log_det = step.forward(x)
        if (bad := ~(_finite_rows(x) & log_det.isfinite())).any():
            advice = (
                "rows far from the training data cause this: {use: clip} in data.transforms limits them"
                if all(value.isfinite().all() for value in step.module.state_dict().values())
                else "its weights are not finite, see the check `weights`"
            )
            return fail(step.name, bad, advice)
    return Finding("finite", "ok", f"every step gives finite numbers for all {len(features):,} rows")


def check_steps(steps: Sequence[Step], x: Tensor, *, at_most: int, native: torch.dtype) -> StepChecks:
    """Measure the errors of each step at rows that pass through all of them.

    Jacobians are computed in float64 at the first rows: `at_most`, but no more than fit into 4 million
    numbers (64 rows of 250 features, 6 of 784, one of 2000 or more), and none beyond 4096 features.

    Args:
        steps: steps as the model has them.
        x: rows `(N, d)`, finite.
        at_most: number of rows at which to compute Jacobians.
        native: dtype in which the model uses these steps.
    """
    x = x.double()
    width = max(x.shape[1], 1)
    count = min(at_most, len(x), max(1, MAX_JACOBIAN_NUMBERS // width**2))
    count = 0 if width > MAX_JACOBIAN_FEATURES else count
    layers: list[LayerCheck] = []
    product: Tensor | None = None
    complete = count > 0
    for step in steps:
        if not len(x):
            layers.append(LayerCheck(step.name, inexact=step.inexact))
            continue
        layer, x, jacobians = _check_step(step, x, count, native)
        layers.append(layer)
        finite = _finite_rows(x)
        complete = complete and jacobians is not None and bool(finite.all())
        if complete and jacobians is not None:
            product = jacobians if product is None else jacobians @ product
        x = x[finite]
        count = min(count, len(x))
    return StepChecks(tuple(layers), product if complete else None, count)


@torch.no_grad()
def _check_step(
    step: Step, x: Tensor, count: int, native: torch.dtype
) -> tuple[LayerCheck, Tensor, Tensor | None]:
    """Return a step's errors and result, and its Jacobians at `count` rows if all of these are finite."""
    exact = Step(step.name, to_float64(step.module), step.inexact)
    z, log_det = exact.forward(x)
    finite = _finite_rows(z) & log_det.isfinite()
    z = z.double()
    if not finite.any():
        return LayerCheck(step.name, inexact=step.inexact), z, None
    per_dimension = log_det[finite] / max(z.shape[1], 1)
    jacobians, error = None, None
    rows = finite[:count].nonzero().flatten()
    if len(rows):
        jacobians = torch.stack([jacobian(exact.module, x[row]) for row in rows])
        error = _log_det_error(jacobians, log_det[rows].double(), lossy=bool(step.inexact))
    layer = LayerCheck(
        step.name,
        round_trip=_round_trip_error(exact, x[finite]),
        round_trip_32=_round_trip_error(step, x[finite].float()) if native == torch.float32 else None,
        log_det=error,
        low=float(per_dimension.min()),
        high=float(per_dimension.max()),
        inexact=step.inexact,
    )
    return layer, z, jacobians if len(rows) == count else None


def _round_trip_error(step: Step, x: Tensor) -> float:
    """Return the largest error of inverse after forward, relative to the size of each column."""
    z, _ = step.forward(x)
    back = step.inverse(z)
    if step.inexact:  # x is lost, but its latent must be the same
        x, back = z, step.forward(back)[0]
    size = x.abs().amax(0)
    size = size.clamp_min(1e-3 * float(size.max()) + 1e-30) if size.numel() else size
    error = ((back - x).abs() / size).double()
    return float(error.nan_to_num(nan=math.inf).max()) if error.numel() else 0.0


def _log_det_error(jacobians: Tensor, log_det: Tensor, *, lossy: bool) -> float:
    """Return the largest difference of log-determinants `(n,)` from those of Jacobians, by 1 + their size.

    The volume of a map to fewer dimensions is that of its rows, sqrt(det J J^T).
    """
    if jacobians.shape[1] == jacobians.shape[2]:
        expected = torch.linalg.slogdet(jacobians).logabsdet
    else:
        expected = torch.linalg.slogdet(jacobians @ jacobians.mT).logabsdet / 2
    error = (log_det - expected).abs() / (1 + expected.abs())
    error = torch.where(expected.isfinite(), error, torch.full_like(error, 0.0 if lossy else math.inf))
    return float(error.nan_to_num(nan=math.inf).max())


def _finite_rows(x: Tensor) -> Tensor:
    return x.isfinite().all(dim=1)


def judge_transforms(checks: StepChecks) -> list[Finding]:
    """Judge the errors of the data transforms, and report the steps without an exact inverse."""
    round_trip, log_det = (
        dataclasses.replace(finding, check=f"transforms: {finding.check}")
        for finding in (_judge_round_trip(checks.layers), _judge_log_det(checks.layers))
    )
    lossy = [f"`{layer.name}`: {layer.inexact}" for layer in checks.layers if layer.inexact]
    return [dataclasses.replace(round_trip, details=(*round_trip.details, *lossy)), log_det]


def judge_flow(layers: Sequence[LayerCheck]) -> list[Finding]:
    """Judge the errors, precision and log-determinants of the layers of a flow."""
    precision = _judge(
        "round trip in float32",
        [(layer.name, layer.round_trip_32) for layer in layers],
        ROUND_TRIP_32,
        "largest error of inverse after forward, in the model's own precision",
        "samples, interpolations and transfers lose digits",
        "the layer stretches some directions far more than others: a smaller flow.scale_limit helps",
    )
    return [_judge_round_trip(layers), precision, _judge_log_det(layers), _judge_extremes(layers)]


def _judge_round_trip(layers: Sequence[LayerCheck]) -> Finding:
    return _judge(
        "round trip",
        [(layer.name, layer.round_trip) for layer in layers],
        ROUND_TRIP,
        "largest error of inverse after forward, in float64",
        "samples, interpolations and transfers of rows are wrong",
        "the inverse of this layer does not belong to its forward, or it cannot be inverted with these "
        "weights; see `flowgmm plugins test` for a plugin's flow",
    )


def _judge_log_det(layers: Sequence[LayerCheck]) -> Finding:
    return _judge(
        "log-det",
        [(layer.name, layer.log_det) for layer in layers],
        LOG_DET,
        "largest difference from autograd's Jacobian, by 1 + its size",
        "log-densities, and all scores and posteriors that compare them between rows, are wrong",
        "the layer's log-determinant is not that of its map, or the map is singular at a row; see "
        "`flowgmm plugins test` for a plugin's flow",
    )


def _judge(
    check: str,
    errors: Sequence[tuple[str, float | None]],
    bounds: tuple[float, float],
    message: str,
    meaning: str,
    advice: str,
) -> Finding:
    measured = [(name, error) for name, error in errors if error is not None]
    if not measured:
        return Finding(check, "skipped" if errors else "ok", "nothing to measure")
    largest = max(error for _, error in measured)
    bad = [(name, error) for name, error in measured if error > bounds[0]]
    text = f"{message}: {largest:.2g}" if math.isfinite(largest) else f"{message}: not finite"
    if not bad:
        return Finding(check, "ok", text)
    verdict = worst(["failed" if error > bounds[1] else "warning" for _, error in bad])
    details = tuple(f"`{name}`: {error:.3g}" for name, error in bad)
    return Finding(check, verdict, text, meaning, advice, details)


def _judge_extremes(layers: Sequence[LayerCheck]) -> Finding:
    measured = [
        (layer.name, layer.low, layer.high)
        for layer in layers
        if layer.low is not None and layer.high is not None
    ]
    if not measured:
        return Finding("determinants", "skipped", "nothing to measure")
    lowest, highest = min(low for _, low, _ in measured), max(high for *_, high in measured)
    text = f"log-determinants per dimension of single layers from {lowest:.3g} to {highest:.3g}"
    extreme = tuple(
        f"`{name}`: {low:.3g} to {high:.3g}"
        for name, low, high in measured
        if max(-low, high) > EXTREME_LOG_DET
    )
    if not extreme:
        return Finding("determinants", "ok", text)
    return Finding(
        "determinants",
        "warning",
        text,
        "the density of single rows depends on a layer that stretches or squeezes by a factor beyond 20,000",
        "train again with a smaller flow.scale_limit or train.lr, or clip far rows",
        extreme,
    )
