"""Check of a trained model on rows: inverse, log-determinant, latents, and the origin of NaN.

A flow's density is right only if every layer's log-determinant is, and its samples only if every inverse is.
Both depend on the code and the weights, so they are measured on the given model and rows, in float64, step by
step, with autograd's Jacobian as the independent reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.errors import DataError
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.check_latents import check_classes, check_conditioning, check_dimensions
from flowgmm_cli.inference.check_report import CheckReport, ClassCheck, Finding, LayerCheck, Verdict, judge
from flowgmm_cli.inference.check_steps import (
    LOG_DET,
    ROUND_TRIP,
    check_finite,
    check_steps,
    judge_layers,
    judge_log_dets,
)
from flowgmm_cli.inference.layers import Step, list_steps, to_float64
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained_model import TrainedModel

MAX_LATENT_ROWS = 5000
"""Most rows for the statistics of the latents."""
MAX_IMAGE_NUMBERS = 1024
"""Most numbers of one or several images at which Jacobians of a flow are computed: each costs a batch."""


def check(trained: TrainedModel, rows: Rows, *, context: DataContext, at_most: int = 64) -> CheckReport:
    """Check a model on rows like the training rows, with or without labels; an ensemble member by member.

    Round trips and Jacobians are computed at `at_most` rows, see `check_steps`; the statistics of the latents
    use up to 5,000.

    Raises:
        DataError: there are no rows, or they lack a column.
    """
    if not len(rows):
        raise DataError("there are no rows to check the model on")
    rows = rows.take(_evenly(len(rows), MAX_LATENT_ROWS))
    transforms = trained.preprocessor.transforms
    features = torch.from_numpy(trained.preprocessor.feature_encoder.transform(rows, context)).double()
    some = torch.from_numpy(_evenly(len(rows), at_most))
    steps = list_steps(transforms, features[some], "transforms")
    layers, _, jacobian_rows = check_steps(steps, features[some], at_most=at_most, float32=False)
    findings, classes = _judge_transforms(layers), list[ClassCheck]()
    with torch.no_grad():
        x = transforms(features)[0].float()
    parts = trained.model.cpu().parts
    for index, part in enumerate(parts):
        prefix = f"member {index + 1}: " if len(parts) > 1 else ""
        results = _check_part(trained, part, (features, x), steps, rows.ids, some)
        for finding in results[0]:
            findings.append(replace(finding, check=prefix + finding.check))
        layers += [replace(layer, name=prefix + layer.name) for layer in results[1]]
        classes += [replace(row, name=prefix + row.name) for row in results[2]]
        jacobian_rows = min(jacobian_rows, results[3])
    notes = []
    if not jacobian_rows and isinstance(parts[0].flow, FlatFlow):
        notes.append(
            f"No Jacobians are computed for images of more than {MAX_IMAGE_NUMBERS:,} numbers: the "
            "log-determinants of the layers are compared with that of the whole flow only"
        )
    elif jacobian_rows < len(some):
        count_text = "1 row" if jacobian_rows == 1 else f"{jacobian_rows} rows"
        notes.append(f"Jacobians of {features.shape[1]:,} features are computed at {count_text} only")
    return CheckReport(
        len(rows), jacobian_rows, x.shape[1], tuple(findings), tuple(layers), tuple(classes), tuple(notes)
    )


def _judge_transforms(layers: Sequence[LayerCheck]) -> list[Finding]:
    """Judge the errors of the data transforms, and report the steps without an exact inverse."""
    lossy = tuple(f"`{layer.name}`: {layer.inexact}" for layer in layers if layer.inexact)
    round_trip, log_det = (
        replace(finding, check=f"transforms: {finding.check}")
        for finding in judge_layers(layers, ("round trip", "log-det"))
    )
    return [replace(round_trip, details=(*round_trip.details, *lossy)), log_det]


def _check_part(
    trained: TrainedModel,
    part: FlowMixture,
    inputs: tuple[Tensor, Tensor],
    transforms: Sequence[Step],
    ids: npt.NDArray[Any],
    some: Tensor,
) -> tuple[list[Finding], list[LayerCheck], list[ClassCheck], int]:
    """Check one flow with its mixture; `inputs` are the feature matrix and the flow's input of all rows."""
    features, x = inputs
    finite = x.isfinite().all(dim=1)
    some = some[finite[some]]
    flow = part.flow
    steps = list_steps(flow, x[some], "flow")
    at_most = min(len(some), MAX_IMAGE_NUMBERS // x.shape[1]) if isinstance(flow, FlatFlow) else len(some)
    layers, jacobians, count = check_steps(steps, x[some], at_most=at_most, float32=True)
    findings = [
        check_finite(features, transforms, steps, ids),
        *judge_layers(layers),
        judge_log_dets(layers),
        _check_composition(flow, steps, x[some]),
        _check_independence(flow, x[some]),
        check_conditioning(jacobians, [str(name) for name in ids[some.numpy()]]),
    ]
    x = x[finite]
    with torch.no_grad():
        z = flow(x)[0]
    finite = z.isfinite().all(dim=1)
    classes: list[ClassCheck] = []
    if finite.any() and all(bool(value.isfinite().all()) for value in part.mixture.state_dict().values()):
        names = _input_names(trained, x.shape[1])
        findings.append(check_dimensions(x[finite], z[finite], part.mixture, jacobians, names))
        classes, latents = check_classes(z[finite], part.mixture, trained.class_names)
        findings.append(latents)
    return findings, layers, classes, count


@torch.no_grad()
def _check_composition(flow: nn.Module, steps: Sequence[Step], x: Tensor) -> Finding:
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
def _check_independence(flow: nn.Module, x: Tensor) -> Finding:
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


def _input_names(trained: TrainedModel, count: int) -> list[str]:
    """Return names of the flow's inputs: those of the features, unless a transform mixes or drops some."""
    names = trained.preprocessor.feature_names
    mixed = any(step.mixes for step in trained.preprocessor.transforms.layers)
    return names if len(names) == count and not mixed else [str(index) for index in range(count)]


def _evenly(total: int, count: int) -> npt.NDArray[Any]:
    """Return at most `count` positions, evenly spaced over `range(total)`."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64))
