"""Checks of latents: fit of the mixture's Gaussians to rows, dead dimensions, conditioning."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor

from flowgmm_cli.inference.check_report import ClassCheck, Finding, judge
from flowgmm_cli.mixture.gaussian import GaussianMixture

VARIANCE = (0.5, 2.0)
"""Mean squared residuals between which a class's Gaussian fits its rows."""
MIN_CLASS_ROWS = 8
"""Rows of a class that are needed for a verdict."""
_MAX_LISTED = 20
_MIN_RELATIVE_DEVIATION = 1e-3
_MIN_RELATIVE_GRADIENT = 1e-6
_MAX_CONDITION = 1e6


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
