"""The examination of invertible maps, step by step: inverse, log-determinant, numbers that are not finite."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from flowgmm_cli.inference.check_report import Finding, LayerCheck, Verdict, worst
from flowgmm_cli.inference.layers import Step, jacobian, to_float64

ROUND_TRIP = (1e-6, 1e-3)
"""Errors of the round trip in float64 above which a step is suspicious, and above which it is wrong."""
ROUND_TRIP_32 = (1e-3, 1e-1)
"""The same in float32: here large errors are digits that are lost."""
LOG_DET = (1e-6, 1e-4)
"""Errors of a log-determinant by 1 + its size, likewise."""
JACOBIAN_NUMBERS = 4_000_000
MOST_FEATURES = 4096
"""Beyond so many features no Jacobian is taken."""


@dataclass(frozen=True)
class StepChecks:
    """Steps that were examined, and the whole that they make.

    Attributes:
        layers: what was found of each step.
        jacobians: of all steps together, `(rows, d_out, d_in)` where it was taken; else None.
        jacobian_rows: at how many rows.
    """

    layers: tuple[LayerCheck, ...]
    jacobians: Tensor | None
    jacobian_rows: int


def check_weights(modules: Sequence[tuple[str, nn.Module]]) -> Finding:
    """Look for parameters and buffers that are not finite, by module name."""
    details, total = [], 0
    for place, module in modules:
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                total += value.numel()
                if bad := int((~value.isfinite()).sum()):
                    details.append(f"{place}.{name}: {bad:,} of {value.numel():,} numbers")
    if not details:
        return Finding("weights", "ok", f"all {total:,} numbers of the model are finite")
    return Finding(
        "weights",
        "failed",
        f"{len(details)} tensors of the model hold NaN or infinities",
        "every row that passes through them is lost",
        "train again with a lower train.lr or train.clip_norm, or go back to an earlier checkpoint",
        tuple(details),
    )


def check_finite(
    features: Tensor, transforms: Sequence[Step], flow: Sequence[Step], ids: npt.NDArray[Any]
) -> Finding:
    """Find the first step and row at which a number becomes NaN or infinite, as the model computes.

    Args:
        features: the feature matrix, float64.
        transforms: in float64.
        flow: in float32.
        ids: names of the rows.
    """
    check = "finite"

    def failed(where: str, bad: Tensor, advice: str) -> Finding:
        rows = bad.nonzero().flatten().tolist()
        names = ", ".join(str(ids[row]) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
        return Finding(
            check,
            "failed",
            f"numbers become NaN or infinite first in `{where}`, in {len(rows):,} of {len(bad):,} rows",
            "these rows have no density, class or latent",
            advice,
            (f"rows {names}",),
        )

    x = features
    if (bad := ~_rows_finite(x)).any():
        return failed("the feature matrix", bad, "look at the input columns of these rows")
    for step in transforms:
        with torch.no_grad():
            x, log_det = step.forward(x)
        if (bad := ~(_rows_finite(x) & log_det.isfinite())).any():
            return failed(step.name, bad, "look at the input columns of these rows")
    x = x.float()
    if (bad := ~_rows_finite(x)).any():
        advice = "add {use: standardise} or {use: clip} to data.transforms and train again"
        return failed("the conversion to 32-bit numbers", bad, advice)
    for step in flow:
        with torch.no_grad():
            x, log_det = step.forward(x)
        if (bad := ~(_rows_finite(x) & log_det.isfinite())).any():
            fine = all(one.isfinite().all() for one in step.module.state_dict().values())
            advice = (
                "rows far from the training data do this: {use: clip} in data.transforms keeps them in reach"
                if fine
                else "its weights are not finite, see the check `weights`"
            )
            return failed(step.name, bad, advice)
    return Finding(check, "ok", f"all numbers of {len(features):,} rows stay finite on the way to the latent")


def check_steps(steps: Sequence[Step], x: Tensor, *, at_most: int, native: torch.dtype) -> StepChecks:
    """Examine steps one after the other, each on what the ones before it make of the rows.

    Jacobians are taken in float64 at the first rows: `at_most`, but no more than fit into 4 million numbers
    (64 rows of 250 features, 6 of 784, one of 2000 or more), and none beyond 4096 features.

    Args:
        steps: as the model has them.
        x: rows `(N, d)`, finite.
        at_most: rows at which to take Jacobians.
        native: the dtype in which the model uses these steps.
    """
    x = x.double()
    widest = max(x.shape[1], 1)
    count = 0 if widest > MOST_FEATURES else min(at_most, len(x), max(1, JACOBIAN_NUMBERS // widest**2))
    found = []
    whole: Tensor | None = None
    complete = count > 0
    for step in steps:
        exact64 = Step(step.name, to_float64(step.module), step.inexact)
        layer, z, jacobians = _examine_one(step, exact64, x, count, native)
        found.append(layer)
        if jacobians is None:
            complete = False
        elif complete:
            whole = jacobians if whole is None else jacobians @ whole
        if not _rows_finite(z).all():
            complete = False
            kept = _rows_finite(z)
            count = min(count, int(kept.sum()))
            z = z[kept]
        x = z
        if not len(x):
            found += [LayerCheck(one.name, inexact=one.inexact) for one in steps[len(found) :]]
            break
    return StepChecks(tuple(found), whole if complete else None, count)


@torch.no_grad()
def _examine_one(
    step: Step, exact64: Step, x: Tensor, count: int, native: torch.dtype
) -> tuple[LayerCheck, Tensor, Tensor | None]:
    z, log_det = exact64.forward(x)
    kept = _rows_finite(z) & log_det.isfinite()
    z = z.double()
    if not kept.any():
        return LayerCheck(step.name, inexact=step.inexact), z, None
    low, high = _extremes(log_det[kept] / max(z.shape[1], 1))
    narrow = x[kept].to(native)
    jacobians, error = None, None
    if count:
        rows = kept[:count].nonzero().flatten()
        if len(rows):
            jacobians = torch.stack([jacobian(exact64.module, x[row]) for row in rows])
            error = _log_det_error(jacobians, log_det[rows].double(), lossy=bool(step.inexact))
    layer = LayerCheck(
        step.name,
        round_trip=_round_trip(exact64, x[kept]),
        round_trip_32=_round_trip(step, narrow) if native == torch.float32 else None,
        log_det=error,
        low=low,
        high=high,
        inexact=step.inexact,
    )
    return layer, z, jacobians if jacobians is not None and len(jacobians) == count else None


def _round_trip(step: Step, x: Tensor) -> float:
    """Largest error of inverse after forward, by the size of each column."""
    z, _ = step.forward(x)
    back = step.inverse(z)
    if step.inexact:  # nothing brings x back, but its latent must come out the same
        x, back = z, step.forward(back)[0]
    size = x.abs().amax(0)
    size = size.clamp_min(1e-3 * float(size.max()) + 1e-30) if size.numel() else size
    error = ((back - x).abs() / size).double()
    return float(error.nan_to_num(nan=math.inf).max()) if error.numel() else 0.0


def _log_det_error(jacobians: Tensor, log_det: Tensor, *, lossy: bool) -> float:
    """Largest difference between log-determinants `(n,)` and those of the Jacobians, by 1 + their size.

    A map to fewer dimensions has the volume of its rows, sqrt(det J J^T).
    """
    if jacobians.shape[1] == jacobians.shape[2]:
        expected = torch.linalg.slogdet(jacobians).logabsdet
    else:
        expected = torch.linalg.slogdet(jacobians @ jacobians.mT).logabsdet / 2
    error = (log_det - expected).abs() / (1 + expected.abs())
    error = torch.where(expected.isfinite(), error, torch.full_like(error, 0.0 if lossy else math.inf))
    return float(error.nan_to_num(nan=math.inf).max())


def _rows_finite(x: Tensor) -> Tensor:
    return x.isfinite().all(dim=1)


def _extremes(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())


EXTREME = 10.0
"""Log-determinant per dimension of a single layer that is extreme: a stretch by the factor 22,000."""


def judge_transforms(chain: StepChecks) -> list[Finding]:
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
        found.append(_judge_extremes(layers))
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


def _judge_extremes(layers: Sequence[LayerCheck]) -> Finding:
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
