"""Rows that are moved in the latent space: along a path between two of them, or into another class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Rows
from flowgmm_cli.inference.sampling import GeneratedRows, concatenate_generated, describe_rows
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained import TrainedModel, encode

if TYPE_CHECKING:
    import numpy.typing as npt

InterpolationPath = Literal["linear", "spherical"]


@torch.no_grad()
def interpolate(
    trained: TrainedModel, ends: Tensor, *, steps: int = 8, path: InterpolationPath = "linear"
) -> GeneratedRows:
    r"""Rows on the way from one row to another.

    `linear` is the paper's, :math:`x(t) = f^{-1}((1 - t) f(x_a) + t f(x_b))` (Izmailov et al., 2020): the
    density along it tells whether the classes are apart, with a valley at their border. In many dimensions
    its middle is nearer to the means than rows are, since residuals of two rows are all but orthogonal.

    `spherical` keeps to the distance at which rows lie: the residuals from the components' means are turned
    into each other, with their length going evenly, while the mean goes straight from one to the other. (A
    great circle round the origin, as for one standard normal, would have no meaning in a mixture.)

    Both begin and end with the given rows as the flow gives them back; of an ensemble the first member makes
    the path.

    Args:
        trained: the model.
        ends: the flow's inputs of two rows, `(2, D)`.
        steps: number of rows, both ends included, at least 2.
        path: see above.

    Returns:
        The rows in order, with the predicted classes, and the place on the path as column `t`.
    """
    part = trained.model.parts[0]
    z = _latents(part, ends)
    t = torch.linspace(0, 1, steps, dtype=z.dtype, device=z.device)
    if path == "linear":
        way = torch.lerp(z[:1], z[1:], t[:, None])
    else:
        means, _ = part.mixture.moments()
        centres = means[responsible_components(part, z, predict_classes(part, z))]
        turned = _slerp(z[0] - centres[0], z[1] - centres[1], t)
        way = torch.lerp(centres[:1], centres[1:], t[:, None]) + turned
    way[0], way[-1] = z[0], z[1]  # to the last bit
    x = part.flow.inverse(way)  # type: ignore[operator]
    return describe_rows(trained, x, further={"t": t.double().cpu().numpy()})


@torch.no_grad()
def transfer(
    trained: TrainedModel, x: Tensor, target: int, *, ids: npt.NDArray[Any] | None = None
) -> GeneratedRows:
    r"""Rows with the class's mean exchanged and the residual kept.

    .. math:: x' = f^{-1}\big(f(x) - \mu_{k(x)} + \mu_{target}\big)

    with the predicted class k(x). Of classes with several components the mean is that of the component which
    is most responsible for the row: among those of its own class, and among those of the target. A row that
    is predicted to be of the target already is given back as it is. Of an ensemble the first member does it.

    Args:
        trained: the model.
        x: the flow's inputs `(N, D)`.
        target: class index.
        ids: names of the rows.

    Returns:
        One row for each; the column `from` holds the predicted classes they come from.
    """
    part = trained.model.parts[0]
    z = _latents(part, x)
    means, _ = part.mixture.moments()
    source = predict_classes(part, z)
    goal = torch.full_like(source, target)
    shift = means[responsible_components(part, z, goal)] - means[responsible_components(part, z, source)]
    moved = part.flow.inverse(z + shift)  # type: ignore[operator]
    stays = (source == target)[:, None].cpu()
    names = np.array(trained.class_names, dtype=object)
    return describe_rows(
        trained,
        torch.where(stays, x, moved.cpu()),
        classes=goal.cpu().numpy(),
        ids=ids,
        further={"from": names[source.cpu().numpy()]},
    )


def transfer_all(trained: TrainedModel, x: Tensor, *, ids: npt.NDArray[Any] | None = None) -> GeneratedRows:
    """Rows carried into every class by `transfer`: for each row one of each class, in their order.

    Args:
        trained: the model.
        x: the flow's inputs `(N, D)`.
        ids: names of the rows.
    """
    classes = range(len(trained.class_names))
    made = concatenate_generated([transfer(trained, x, target, ids=ids) for target in classes], count=False)
    return made.take(np.arange(len(made)).reshape(len(classes), len(x)).T.ravel())


def predict_classes(part: FlowMixture, z: Tensor) -> Tensor:
    """The class with the largest density at latents `(N, D)`, int64 `(N,)`."""
    return part.mixture.class_log_prob(z).argmax(1)


def responsible_components(part: FlowMixture, z: Tensor, classes: Tensor) -> Tensor:
    """Index of the component of the given classes that is most responsible for each latent, int64 `(N,)`."""
    mixture = part.mixture
    log_prob = mixture.component_log_prob(z).reshape(len(z), mixture.classes, mixture.components)
    within = (log_prob + mixture.log_component_weights)[torch.arange(len(z), device=z.device), classes]
    return classes * mixture.components + within.argmax(1)


def round_trip_error(trained: TrainedModel, x: Tensor) -> float:
    """The largest difference between flow inputs `(N, D)` and what the flow and its inverse make of them."""
    part = trained.model.parts[0]
    with torch.no_grad():
        back = part.flow.inverse(_latents(part, x))  # type: ignore[operator]
    return float((back.cpu() - x).abs().max()) if len(x) else 0.0


def column_errors(trained: TrainedModel, rows: Rows, x: Tensor) -> dict[str, float]:
    """How far the input columns of rows are from what their flow inputs `x` stand for, by column.

    Of numbers the largest difference, as a share of the column's range in these rows and the training rows
    where that is known; of categories the share of rows that differ. Columns of texts are left out, and so
    are missing cells.
    """
    found = {}
    back = trained.preprocessor.invert(x)
    ranges = trained.preprocessor.ranges
    for column in trained.preprocessor.columns:
        cells, again = rows.columns[column.name], back[column.name]
        if again is None or not len(cells):
            continue
        if column.kind == "category":
            found[column.name] = float(np.mean([str(a) != str(b) for a, b in zip(cells, again, strict=True)]))
            continue
        values = cells.astype(np.float64)
        known = np.isfinite(values)
        if known.any():
            low, high = ranges.get(column.name, (np.inf, -np.inf))
            width = max(high, float(values[known].max())) - min(low, float(values[known].min()))
            found[column.name] = float(np.abs(values - again)[known].max()) / (width or 1.0)
    return found


def _latents(part: FlowMixture, x: Tensor) -> Tensor:
    z = encode(part, x).z
    return z.to(part.mixture.means.device)


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Turn the vector `a` `(D,)` into `b` and let its length go evenly: `(steps, D)`."""
    lengths = torch.stack([a.norm(), b.norm()])
    tiny = torch.finfo(a.dtype).tiny
    u, v = a / lengths[0].clamp_min(tiny), b / lengths[1].clamp_min(tiny)
    angle = torch.acos((u @ v).clamp(-1, 1))
    sine = angle.sin()
    if float(lengths.min()) == 0 or float(sine) < 1e-4:  # no plane to turn in
        return torch.lerp(a[None], b[None], t[:, None])
    t = t[:, None]
    turned = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine
    return torch.lerp(lengths[:1], lengths[1:], t) * turned
