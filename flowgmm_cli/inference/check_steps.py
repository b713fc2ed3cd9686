"""Checks of invertible maps step by step: inverse, log-determinant, numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import zero_log_det
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.inference.check_report import Finding, LayerCheck, Verdict, judge
from flowgmm_cli.inference.layers import Step, jacobian, to_float64

ROUND_TRIP = (1e-6, 1e-3)
"""Errors of the round trip in float64 above which a step gets a warning, and above which it fails."""
LOG_DET = (1e-6, 1e-4)
"""The same for errors of a log-determinant, divided by 1 + its size."""
LAYER_CHECKS = {
    "round trip": ("round_trip", ROUND_TRIP, "largest error of inverse after forward, in float64"),
    "round trip in float32": (  # large errors are lost digits
        "round_trip_32",
        (1e-3, 1e-1),
        "largest error of inverse after forward, in the model's own precision",
    ),
    "log-det": ("log_det", LOG_DET, "largest difference from autograd's Jacobian, by 1 + its size"),
}
"""Check -> attribute of `LayerCheck`, bounds, message."""
MAX_JACOBIAN_NUMBERS = 4_000_000
MAX_JACOBIAN_FEATURES = 4096
"""No Jacobian is computed for more features."""
EXTREME_LOG_DET = 10.0
"""Log-determinant per dimension of a single layer that is extreme: a stretch by the factor 22,000."""


@torch.no_grad()
def check_finite(features: Tensor, transforms: Sequence[Step], flow: Sequence[Step], ids: Array) -> Finding:
    """Find the first step at which numbers become NaN or infinite, with its rows, as the model computes.

    The feature matrix and the transforms are in float64, the steps of the flow in float32.
    """
    columns = "look at the input columns of these rows"
    flow_advice = "rows far from the training data cause this: {use: clip} in data.transforms limits them"
    clip = "add {use: standardise} or {use: clip} to data.transforms and train again"
    stages: list[tuple[str, Any, str]] = [
        ("the feature matrix", lambda x: (x, zero_log_det(x)), columns),
        *((step.name, step.module, columns) for step in transforms),
        ("the conversion to 32-bit numbers", lambda x: (x.float(), zero_log_det(x)), clip),
        *((step.name, step.module, flow_advice) for step in flow),
    ]
    x = features
    for place, forward, advice in stages:
        x, log_det = forward(x)
        bad = ~(_finite_rows(x) & log_det.isfinite())
        if bad.any():
            rows = bad.nonzero().flatten().tolist()
            names = ", ".join(str(ids[row]) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
            message = (
                f"numbers become NaN or infinite first in `{place}`, in {len(rows):,} of {len(bad):,} rows"
            )
            meaning = "these rows have no density, class or latent"
            return Finding("finite", "failed", message, meaning, advice, (f"rows {names}",))
    return Finding("finite", "ok", f"every step gives finite numbers for all {len(features):,} rows")


@torch.no_grad()
def check_steps(
    steps: Sequence[Step], x: Tensor, *, at_most: int, float32: bool
) -> tuple[list[LayerCheck], Tensor | None, int]:
    """Measure the errors of each step at rows that pass through all of them.

    Jacobians are computed in float64 at the first rows: `at_most`, but no more than fit into 4 million
    numbers (64 rows of 250 features, 6 of 784, one of 2000 or more), and none beyond 4096 features. With
    `float32`, round trips are measured in that precision, too, in which the model uses the steps.

    Returns:
        The results for each step, the Jacobians of all steps together `(rows, d_out, d_in)` unless a row does
        not stay finite, and the number of rows with Jacobians.
    """
    x, width = x.double(), max(x.shape[1], 1)
    count = min(at_most, len(x), max(1, MAX_JACOBIAN_NUMBERS // width**2))
    count = 0 if width > MAX_JACOBIAN_FEATURES else count
    layers: list[LayerCheck] = []
    product: Tensor | None = None
    complete = count > 0
    for step in steps:
        exact, lossy, values = to_float64(step.module), bool(step.inexact), dict[str, float]()
        z, log_det = exact(x) if len(x) else (x, x.new_zeros(0))
        finite = _finite_rows(z) & log_det.isfinite()
        rows = finite[:count].nonzero().flatten()
        if finite.any():
            by_dimension = log_det[finite] / max(z.shape[1], 1)
            values = {"low": float(by_dimension.min()), "high": float(by_dimension.max())}
            values["round_trip"] = _round_trip_error(exact, x[finite], lossy=lossy)
            if float32:
                values["round_trip_32"] = _round_trip_error(step.module, x[finite].float(), lossy=lossy)
        complete = complete and len(rows) == count and bool(_finite_rows(z).all())
        if len(rows):
            jacobians = torch.stack([jacobian(exact, x[row]) for row in rows])
            values["log_det"] = _log_det_error(jacobians, log_det[rows].double(), lossy=lossy)
            if complete:
                product = jacobians if product is None else jacobians @ product
        layers.append(LayerCheck(step.name, inexact=step.inexact, **values))
        x = z[_finite_rows(z)].double()
        count = min(count, len(x))
    return layers, product if complete else None, count


def _round_trip_error(module: Any, x: Tensor, *, lossy: bool) -> float:
    """Return the largest error of inverse after forward, relative to the size of each column."""
    z, _ = module(x)
    back = module.inverse(z)
    if lossy:  # x is lost, but its latent must be the same
        x, back = z, module(back)[0]
    if not x.numel():
        return 0.0
    size = x.abs().amax(0)
    error = (back - x).abs() / size.clamp_min(1e-3 * float(size.max()) + 1e-30)
    return float(error.nan_to_num(nan=math.inf).max())


def _log_det_error(jacobians: Tensor, log_det: Tensor, *, lossy: bool) -> float:
    """Return the largest difference of log-determinants `(n,)` from those of Jacobians, by 1 + their size.

    The volume of a map to fewer dimensions is that of its rows, sqrt(det J J^T).
    """
    if jacobians.shape[1] == jacobians.shape[2]:
        expected = torch.linalg.slogdet(jacobians).logabsdet
    else:
        expected = torch.linalg.slogdet(jacobians @ jacobians.mT).logabsdet / 2
    error = (log_det - expected).abs() / (1 + expected.abs())
    error = error.masked_fill(~expected.isfinite(), 0.0 if lossy else math.inf)
    return float(error.nan_to_num(nan=math.inf).max())


def _finite_rows(x: Tensor) -> Tensor:
    return x.isfinite().all(dim=1)


@torch.no_grad()
def check_composition(flow: nn.Module, steps: Sequence[Step], x: Tensor) -> Finding:
    """Compare the whole flow with its steps: the same latents, and the sum of their log-determinants."""
    exact: Any = to_float64(flow)
    z, log_det = exact(x.double())
    total, value = torch.zeros(len(x), dtype=torch.float64), x.double()
    for step in steps:
        value, step_log_det = to_float64(step.module)(value)
        total = total + step_log_det
    finite = z.isfinite().all(1) & value.isfinite().all(1)
    if not finite.any():
        return judge("composition", "skipped", "no row stays finite")
    latent_error = float((z - value)[finite].abs().max())
    difference = ((log_det - total).abs() / (1 + total.abs()))[finite]
    log_det_error = float(difference.nan_to_num(nan=math.inf).max())
    round_trip = float((exact.inverse(z[finite]) - x[finite]).abs().max())
    error = max(latent_error, log_det_error)
    verdict: Verdict = "warning"
    if error <= LOG_DET[0] and round_trip <= ROUND_TRIP[0] * 10:
        verdict = "ok"
    elif error > LOG_DET[1] or not round_trip <= ROUND_TRIP[1]:
        verdict = "failed"
    text = f"latents {latent_error:.2g}, log-det {log_det_error:.2g}, round trip {round_trip:.2g}"
    return judge("composition", verdict, f"whole flow against its {len(steps)} layers: {text}")


@torch.no_grad()
def check_independence(flow: nn.Module, x: Tensor) -> Finding:
    """Compare rows in a batch with single rows."""
    exact = to_float64(flow)
    rows = x[:8].double()
    batch = torch.cat([exact(rows)[0], exact(rows)[1][:, None]], dim=1)
    if not len(rows) or not batch[:, :-1].isfinite().all():
        return judge("independence", "skipped", "no row stays finite")
    single = torch.cat([torch.cat([z[0], log_det]) for z, log_det in (exact(row[None]) for row in rows)])
    error = float((single.view_as(batch) - batch).abs().max())
    equal = error <= 1e-6 * (1 + float(batch[:, :-1].abs().max()) + float(batch[:, -1].abs().max()))
    text = f"single rows and rows in a batch differ by {error:.2g} at most"
    return judge("independence", "ok" if equal else "failed", text)


def judge_layers(layers: Sequence[LayerCheck], checks: Sequence[str] = tuple(LAYER_CHECKS)) -> list[Finding]:
    """Judge the errors of layers by some of `LAYER_CHECKS`."""
    findings = []
    for check in checks:
        attribute, (low, high), message = LAYER_CHECKS[check]
        errors = {layer.name: vars(layer)[attribute] for layer in layers}
        measured = {name: error for name, error in errors.items() if error is not None}
        if not measured:
            findings.append(judge(check, "skipped" if errors else "ok", "nothing to measure"))
            continue
        worst = max(measured.values())
        text = f"{message}: {worst:.2g}" if math.isfinite(worst) else f"{message}: not finite"
        details = [f"`{name}`: {error:.3g}" for name, error in measured.items() if error > low]
        verdict: Verdict = "failed" if worst > high else "warning" if details else "ok"
        findings.append(judge(check, verdict, text, details))
    return findings


def judge_log_dets(layers: Sequence[LayerCheck]) -> Finding:
    """Judge the size of the log-determinants of layers."""
    ranges = [(layer.name, layer.low, layer.high) for layer in layers if layer.low is not None]
    if not ranges:
        return judge("determinants", "skipped", "nothing to measure")
    lowest, highest = min(low for _, low, _ in ranges), max(high or 0.0 for *_, high in ranges)
    text = f"log-determinants per dimension of single layers from {lowest:.3g} to {highest:.3g}"
    beyond = [row for row in ranges if max(-row[1], row[2] or 0.0) > EXTREME_LOG_DET]
    extreme = [f"`{name}`: {low:.3g} to {high:.3g}" for name, low, high in beyond]
    return judge("determinants", "warning" if extreme else "ok", text, extreme)
