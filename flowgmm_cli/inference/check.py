"""The examination of a trained model on rows: inverse, log-determinant, latents, and where a NaN comes from.

A flow's density is right only if every layer's log-determinant is, and its samples only if every inverse is.
Both are properties of the code and the weights together, so they are measured on the model and rows at hand,
in float64, step by step, with autograd's Jacobian as the independent truth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.errors import DataError
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.inference.check_latents import check_classes, check_conditioning, check_dimensions
from flowgmm_cli.inference.check_report import CheckReport, ClassCheck, Finding, LayerCheck, Verdict
from flowgmm_cli.inference.check_steps import (
    LOG_DET,
    ROUND_TRIP,
    check_finite,
    check_steps,
    check_weights,
    judge_steps,
    judge_transforms,
)
from flowgmm_cli.inference.layers import Step, list_steps, to_float64
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained import TrainedModel

MAX_LATENT_ROWS = 5000
"""Most rows that the statistics of the latents use."""
IMAGE_NUMBERS = 1024
"""Most numbers of an image, or of several, at which Jacobians of a flow of images are taken: each number
costs a batch of one image through every layer and back."""


def check(trained: TrainedModel, rows: Rows, *, context: DataContext, at_most: int = 64) -> CheckReport:
    """Examine a model on some rows.

    Args:
        trained: the model; an ensemble is examined member by member.
        rows: rows as the model was trained on, with or without labels.
        context: surroundings of the encoder.
        at_most: rows at which round trips and Jacobians are taken, see `check_layers.examine`; the
            statistics of the latents use up to 5,000.

    Raises:
        DataError: there are no rows, or they lack a column.
    """
    if not len(rows):
        raise DataError("there are no rows to check the model on")
    rows = rows.take(_evenly(len(rows), MAX_LATENT_ROWS))
    features = torch.from_numpy(trained.preprocessor.feature_encoder.transform(rows, context)).double()
    some = torch.from_numpy(_evenly(len(rows), at_most))
    transforms = trained.preprocessor.transforms
    steps = list_steps(transforms, features[some], "transforms")
    chain = check_steps(steps, features[some], at_most=at_most, native=torch.float64)
    findings, layers, classes, taken, notes = [], list(chain.layers), [], [], []
    with torch.no_grad():
        x = transforms(features)[0].float()
    parts = trained.model.cpu().parts
    for index, part in enumerate(parts):
        prefix = f"member {index + 1}: " if len(parts) > 1 else ""
        own, found, statistics, count = _check_part(trained, part, prefix, (features, x), rows.ids, some)
        layers += own
        classes += [dataclasses.replace(one, name=prefix + one.name) for one in statistics]
        taken.append(count)
        modules = [(f"{prefix}model", part), *([("transforms", transforms)] if index == 0 else [])]
        weights, finite, *rest = [check_weights(modules), *found]
        findings += [dataclasses.replace(one, check=prefix + one.check) for one in (weights, finite, *rest)]
    findings = [*judge_transforms(chain), *findings]
    fewest = min([chain.jacobian_rows, *taken])
    if not fewest and isinstance(parts[0].flow, FlatFlow):
        notes.append(
            f"No Jacobians are taken of images of more than {IMAGE_NUMBERS:,} numbers: the log-determinants "
            "of the layers are compared with that of the whole flow only"
        )
    elif fewest < len(some):
        taken_at = "1 row" if fewest == 1 else f"{fewest} rows"
        notes.append(f"Jacobians of {features.shape[1]:,} features are taken at {taken_at} only")
    return CheckReport(
        tuple(findings),
        tuple(layers),
        tuple(classes),
        rows=len(rows),
        jacobian_rows=fewest,
        features=x.shape[1],
        notes=tuple(notes),
    )


def _check_part(
    trained: TrainedModel,
    part: FlowMixture,
    prefix: str,
    seen: tuple[Tensor, Tensor],
    ids: npt.NDArray[Any],
    some: Tensor,
) -> tuple[list[LayerCheck], list[Finding], list[ClassCheck], int]:
    """One flow with its mixture; `seen` is the feature matrix and the flow's input of all rows."""
    features, x = seen
    fit = x.isfinite().all(dim=1)
    kept = some[fit[some]]
    flow = part.flow
    transforms = list_steps(trained.preprocessor.transforms, features[some], "transforms")
    steps = list_steps(flow, x[kept], "flow")
    findings = [check_finite(features, transforms, steps, ids)]
    at_most = min(len(kept), IMAGE_NUMBERS // x.shape[1]) if isinstance(flow, FlatFlow) else len(kept)
    chain = check_steps(steps, x[kept], at_most=at_most, native=torch.float32)
    layers = [dataclasses.replace(one, name=prefix + one.name) for one in chain.layers]
    findings += judge_steps(chain.layers, "flow")
    findings.append(_whole(flow, steps, x[kept]))
    findings.append(_alone(flow, x[kept]))
    findings.append(check_conditioning(chain.jacobians, [str(one) for one in ids[kept.numpy()]]))
    with torch.no_grad():
        z = flow(x[fit])[0]
    good = z.isfinite().all(dim=1)
    statistics: list[ClassCheck] = []
    finite = all(bool(value.isfinite().all()) for value in part.mixture.state_dict().values())
    if good.any() and finite:
        names = _input_names(trained, x.shape[1])
        findings.append(check_dimensions(x[fit][good], z[good], part.mixture, chain.jacobians, names))
        statistics, latents = check_classes(z[good], part.mixture, trained.class_names)
        findings.append(latents)
    return layers, findings, statistics, chain.jacobian_rows


@torch.no_grad()
def _whole(flow: nn.Module, steps: Sequence[Step], x: Tensor) -> Finding:
    """The flow as a whole against its steps: the same latents, and the sum of their log-determinants."""
    wide = to_float64(flow)
    z, log_det = wide(x.double())
    total, way = torch.zeros(len(x), dtype=torch.float64), x.double()
    for step in steps:
        way, part = to_float64(step.module)(way)
        total = total + part
    kept = z.isfinite().all(1) & way.isfinite().all(1)
    if not kept.any():
        return Finding("composition", "skipped", "no row stays finite")
    apart = float((z - way)[kept].abs().max())
    error = float(((log_det - total).abs() / (1 + total.abs()))[kept].nan_to_num(nan=math.inf).max())
    back = float((wide.inverse(z[kept]) - x[kept]).abs().max())  # type: ignore[operator]
    text = f"whole flow against its {len(steps)} layers: latents {apart:.2g}, log-det {error:.2g}"
    text += f", round trip {back:.2g}"
    if max(apart, error) <= LOG_DET[0] and back <= ROUND_TRIP[0] * 10:
        return Finding("composition", "ok", text)
    verdict: Verdict = "failed" if max(apart, error) > LOG_DET[1] or not back <= ROUND_TRIP[1] else "warning"
    return Finding(
        "composition",
        verdict,
        text,
        "the flow is not the composition of its layers, or their errors add up",
        "the flow's own forward or inverse leaves something out, such as a layer's log-determinant",
    )


@torch.no_grad()
def _alone(flow: nn.Module, x: Tensor) -> Finding:
    """A row must come out the same whatever rows stand beside it."""
    wide = to_float64(flow)
    few = x[:8].double()
    together, log_det = wide(few)
    apart = [wide(row[None]) for row in few]
    if not len(few) or not together.isfinite().all():
        return Finding("independence", "skipped", "no row stays finite")
    error = max(
        float((torch.cat([z for z, _ in apart]) - together).abs().max()),
        float((torch.cat([one for _, one in apart]) - log_det).abs().max()),
    )
    text = f"rows alone and in a batch differ by {error:.2g} at most"
    if error <= 1e-6 * (1 + float(together.abs().max()) + float(log_det.abs().max())):
        return Finding("independence", "ok", text)
    return Finding(
        "independence",
        "failed",
        text,
        "the density of a row depends on the rows beside it",
        "a layer uses statistics of the batch; it must use fixed ones once it is trained",
    )


def _input_names(trained: TrainedModel, count: int) -> list[str]:
    """Names of the flow's inputs: those of the features, unless a transform mixes or drops some."""
    names = trained.preprocessor.feature_names
    mixed = any(getattr(step, "mixes", False) for step in trained.preprocessor.transforms.layers)
    return names if len(names) == count and not mixed else [str(index) for index in range(count)]


def _evenly(total: int, count: int) -> npt.NDArray[Any]:
    """At most `count` positions, evenly spaced over `range(total)`."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64))
