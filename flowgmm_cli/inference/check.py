"""Check of a trained model on rows: inverse, log-determinant, latents, and the origin of NaN.

A flow's density is right only if every layer's log-determinant is, and its samples only if every inverse is.
Both depend on the code and the weights, so they are measured on the given model and rows, in float64, step by
step, with autograd's Jacobian as the independent reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.errors import DataError
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.inference.check_report import CheckReport, ClassCheck, Finding, LayerCheck, judge
from flowgmm_cli.inference.check_steps import (
    check_composition,
    check_finite,
    check_independence,
    check_steps,
    judge_layers,
    judge_log_dets,
)
from flowgmm_cli.inference.layers import Step, list_steps
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained_model import TrainedModel

MAX_LATENT_ROWS = 5000
"""Most rows for the statistics of the latents."""
MAX_IMAGE_NUMBERS = 1024
"""Most numbers of one or several images at which Jacobians of a flow are computed: each costs a batch."""
VARIANCE = (0.5, 2.0)
"""Mean squared residuals between which a class's Gaussian fits its rows."""
MIN_CLASS_ROWS = 8
"""Rows of a class that are needed for a verdict."""
_MAX_LISTED = 20
_MIN_RELATIVE_DEVIATION = 1e-3
_MIN_RELATIVE_GRADIENT = 1e-6
_MAX_CONDITION = 1e6


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
    ids: Array,
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
        check_composition(flow, steps, x[some]),
        check_independence(flow, x[some]),
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


def _input_names(trained: TrainedModel, count: int) -> list[str]:
    """Return names of the flow's inputs: those of the features, unless a transform mixes or drops some."""
    names = trained.preprocessor.feature_names
    mixed = any(step.mixes for step in trained.preprocessor.transforms.layers)
    return names if len(names) == count and not mixed else [str(index) for index in range(count)]


def _evenly(total: int, count: int) -> Array:
    """Return at most `count` positions, evenly spaced over `range(total)`."""
    return np.unique(np.linspace(0, total - 1, min(total, count)).round().astype(np.int64))


@torch.no_grad()
def check_classes(
    z: Tensor, mixture: GaussianMixture, class_names: Sequence[str]
) -> tuple[list[ClassCheck], Finding]:
    """Compare finite latents `(N, D)` with the mixture, class by class; see `ClassCheck`."""
    z = z.to(mixture.means.device)
    means, scales = (moment.double() for moment in mixture.moments())
    component = mixture.component_log_prob(z).argmax(1)
    residuals = (z.double() - means[component]) / scales[component]
    classes, dims = mixture.component_classes[component], z.shape[1]
    checks = []
    for index in sorted(set(classes.tolist())):
        members = residuals[classes == index]
        radius = members.square().sum(1)
        checks.append(
            ClassCheck(
                class_names[index],
                rows=len(members),
                offset=float(members.mean(0).square().mean().sqrt()),
                variance=float(members.square().mean()),
                radius=float((radius / dims).sqrt().mean()),
                ks=float(stats.kstest(radius.cpu().numpy(), "chi2", args=(dims,)).statistic),
                ks_by_chance=float(stats.kstwo.ppf(0.95, len(members))),
            )
        )
    return checks, _judge_classes(checks, float(residuals.square().mean()), class_names)


def _judge_classes(checks: Sequence[ClassCheck], variance: float, class_names: Sequence[str]) -> Finding:
    large = [check for check in checks if check.rows >= MIN_CLASS_ROWS]
    if not large:
        return judge("latents", "skipped", f"too few rows: a class needs at least {MIN_CLASS_ROWS}")
    details = [
        f"{check.name}: variance {check.variance:.2f}, mean off by {check.offset:.2f} standard deviations"
        for check in large
        if not VARIANCE[0] < check.variance < VARIANCE[1] or check.offset > check.tolerable_offset
    ]
    missing = set(class_names) - {check.name for check in checks}
    if missing and sum(check.rows for check in checks) >= 20 * len(class_names):
        details.append(f"no row is predicted as {', '.join(sorted(missing))}")
    message = f"variance within the classes {variance:.2f} (1 for a mixture that fits)"
    if beyond := sum(check.ks > check.ks_by_chance for check in large):
        message += (
            f"; the KS distance of {beyond:,} of {len(large):,} classes is beyond chance, so densities are "
            "approximate"
        )
    return judge("latents", "warning" if details else "ok", message, details)


@torch.no_grad()
def check_dimensions(
    x: Tensor, z: Tensor, mixture: GaussianMixture, jacobians: Tensor | None, names: Sequence[str]
) -> Finding:
    """Find latent dimensions that do not vary, and inputs without influence.

    `x` are the flow's finite inputs `(N, D)` with their `names`, `z` their latents, and `jacobians` those of
    the flow at some rows, `(n, D, D)`. The scales of the mixture define a small deviation.
    """
    latent_names = [str(index) for index in range(z.shape[1])]
    constant, dead = [], []
    if len(z) >= 2:
        typical = mixture.moments()[1].double().cpu().median(0).values
        still = z.double().cpu().std(0) < _MIN_RELATIVE_DEVIATION * typical
        constant += _describe("latent dimensions that do not vary over these rows", still, latent_names)
        constant += _describe("flow inputs that are constant in these rows", x.double().std(0) == 0, names)
    if jacobians is not None:
        for axis, text, axis_names in (
            (2, "latent dimensions that no input moves", latent_names),
            (1, "inputs that move no latent", names),
        ):
            norms = jacobians.norm(dim=axis).amax(0)
            dead += _describe(text, norms < _MIN_RELATIVE_GRADIENT * float(norms.max()), axis_names)
    details = [*dead, *constant]
    if dead:
        message = "the flow has dead dimensions"
        return judge("dimensions", "failed", message, details, cause="dead dimensions")
    if constant:
        return judge("dimensions", "warning", "some dimensions do not vary over these rows", details)
    return judge("dimensions", "ok", f"all {z.shape[1]} latent dimensions vary and depend on the input")


def _describe(text: str, flags: Tensor, names: Sequence[str]) -> list[str]:
    places = flags.nonzero().flatten().tolist()
    listed = ", ".join(names[place] for place in places[:_MAX_LISTED])
    return [f"{text}: {listed}{', ...' if len(places) > _MAX_LISTED else ''}"] if places else []


def check_conditioning(jacobians: Tensor | None, ids: Sequence[str]) -> Finding:
    """Check the condition numbers of the flow's Jacobians `(n, D, D)`; `ids` are the names of their rows."""
    if jacobians is None:
        return judge("conditioning", "skipped", "no Jacobian of the whole flow was computed")
    values = torch.linalg.svdvals(jacobians)
    smallest = values[:, -1].clamp_min(torch.finfo(values.dtype).tiny)
    conditions = values[:, 0] / smallest
    row = int(conditions.argmax())
    condition = float(conditions[row])
    message = (
        f"condition number of the Jacobian at most {condition:.3g} (row {ids[row]}), singular values "
        f"{float(smallest.min()):.3g} to {float(values[:, 0].max()):.3g}"
    )
    if condition < _MAX_CONDITION:
        return judge("conditioning", "ok", message)
    digits = len(str(int(min(condition, 1e15)))) - 1
    return Finding(
        "conditioning",
        "warning",
        message,
        f"about {digits} of the 7 digits of 32-bit numbers are lost in a round trip",
        "train again with a smaller flow.scale_limit or fewer flow.couplings",
    )
