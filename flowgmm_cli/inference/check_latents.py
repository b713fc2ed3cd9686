"""The examination of latents: do the rows fill the mixture's Gaussians, and does every dimension live?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy import stats
from torch import Tensor

from flowgmm_cli.inference.check_report import ClassCheck, Finding
from flowgmm_cli.mixture.gaussian import GaussianMixture

VARIANCE = (0.5, 2.0)
"""Mean squared residuals between which a class's Gaussian is taken to fit."""
_FEW = 8  # rows of a class below which its figures say nothing
_DEAD_SPREAD = 1e-3
_DEAD_SLOPE = 1e-6
_CONDITION = 1e6


@torch.no_grad()
def check_classes(
    z: Tensor, mixture: GaussianMixture, class_names: Sequence[str]
) -> tuple[list[ClassCheck], Finding]:
    """Compare latents `(N, D)`, finite, with the mixture, class by class; see `ClassCheck`."""
    z = z.to(mixture.means.device)
    means, scales = (one.double() for one in mixture.moments())
    component = mixture.component_log_prob(z).argmax(1)
    residuals = (z.double() - means[component]) / scales[component]
    classes = mixture.component_classes[component]
    dims = z.shape[1]
    found = []
    for index, name in enumerate(class_names):
        own = residuals[classes == index]
        if not len(own):
            continue
        radius = own.square().sum(1)
        found.append(
            ClassCheck(
                name,
                rows=len(own),
                offset=float(own.mean(0).square().mean().sqrt()),
                variance=float(own.square().mean()),
                radius=float((radius / dims).sqrt().mean()),
                ks=float(stats.kstest(radius.cpu().numpy(), "chi2", args=(dims,)).statistic),
            )
        )
    return found, _judge(found, residuals, class_names)


def _judge(found: Sequence[ClassCheck], residuals: Tensor, class_names: Sequence[str]) -> Finding:
    check = "latents"
    enough = [one for one in found if one.rows >= _FEW]
    if not enough:
        return Finding(check, "skipped", f"too few rows to say anything; {_FEW} of a class are the least")
    variance = float(residuals.square().mean())
    message = f"variance within the classes {variance:.2f} (1 where the mixture fits)"
    low, high = VARIANCE
    odd = [
        f"{one.name}: variance {one.variance:.2f}, mean off by {one.offset:.2f} standard deviations"
        for one in enough
        if not low < one.variance < high or one.offset > 0.5 + 2 / one.rows**0.5
    ]
    missing = set(class_names) - {one.name for one in found}
    if missing and sum(one.rows for one in found) >= 20 * len(class_names):
        odd.append(f"no row falls to {', '.join(sorted(missing))}")
    if not odd:
        return Finding(check, "ok", message)
    return Finding(
        check,
        "warning",
        message,
        "the Gaussians of these classes do not describe these rows: densities, out-of-distribution scores "
        "and samples are off, even where the classes are right",
        "if these rows are like the training rows, give the density more weight (objective.density, "
        "objective.rows=weak) or train longer; if not, that is how far they are from them",
        tuple(odd),
    )


def check_dimensions(
    x: Tensor, z: Tensor, mixture: GaussianMixture, jacobians: Tensor | None, names: Sequence[str]
) -> Finding:
    """Look for latent dimensions that do not vary, and for inputs that nothing depends on.

    Args:
        x: the flow's inputs `(N, D)`, finite.
        z: their latents.
        mixture: whose scales say what is little.
        jacobians: of the flow at some rows, `(n, D, D)`.
        names: of the flow's inputs.
    """
    check = "dimensions"
    details: list[str] = []
    _, scales = mixture.moments()
    if len(z) >= 2:
        typical = scales.detach().double().cpu().median(0).values
        still = z.double().cpu().std(0) < _DEAD_SPREAD * typical
        constant = x.double().std(0) == 0
        if still.any():
            details.append(f"latent dimensions that do not vary over these rows: {_list(still)}")
        if constant.any():
            inputs = ", ".join(names[index] for index in constant.nonzero().flatten().tolist()[:10])
            details.append(f"flow inputs that are constant in these rows: {inputs}")
    broken = []
    if jacobians is not None and len(jacobians):
        for axis, what in ((2, "latent dimensions that no input moves"), (1, "inputs that move no latent")):
            norms = jacobians.norm(dim=axis).amax(0)
            silent = norms < _DEAD_SLOPE * float(norms.max())
            if silent.any():
                shown = (
                    _list(silent)
                    if axis == 2
                    else ", ".join(names[index] for index in silent.nonzero().flatten().tolist()[:10])
                )
                broken.append(f"{what}: {shown}")
    if broken:
        return Finding(
            check,
            "failed",
            "the flow has dead dimensions",
            "it cannot be inverted there, and the log-density is dominated by them",
            "a layer's scale has collapsed: see the layers with the smallest log-determinant, and train "
            "again with a smaller flow.scale_limit or train.lr",
            (*broken, *details),
        )
    if details:
        return Finding(
            check,
            "warning",
            "some dimensions do not vary over these rows",
            "a constant dimension says nothing of a row, and any other value in it looks far out",
            "leave constant columns out (data.drop), or check rows that are less alike",
            tuple(details),
        )
    return Finding(check, "ok", f"all {z.shape[1]} latent dimensions vary and depend on the input")


def check_conditioning(jacobians: Tensor | None, ids: Sequence[str]) -> Finding:
    """Look at the singular values of the flow's Jacobians `(n, D, D)`: how much it stretches and squeezes."""
    check = "conditioning"
    if jacobians is None or not len(jacobians):
        return Finding(check, "skipped", "no Jacobian of the whole flow was taken")
    values = torch.linalg.svdvals(jacobians)
    smallest = values[:, -1].clamp_min(torch.finfo(values.dtype).tiny)
    condition = values[:, 0] / smallest
    row = int(condition.argmax())
    found = float(condition[row])
    message = (
        f"condition number of the Jacobian at most {found:.3g} (row {ids[row]}), singular values "
        f"{float(smallest.min()):.3g} to {float(values[:, 0].max()):.3g}"
    )
    if found < _CONDITION:
        return Finding(check, "ok", message)
    digits = len(str(int(min(found, 1e15)))) - 1
    return Finding(
        check,
        "warning",
        message,
        f"about {digits} of the 7 digits of 32-bit numbers are lost in a round trip",
        "train again with a smaller flow.scale_limit or fewer flow.couplings",
    )


def _list(flags: Tensor) -> str:
    places = flags.nonzero().flatten().tolist()
    return ", ".join(map(str, places[:20])) + (", ..." if len(places) > 20 else "")
