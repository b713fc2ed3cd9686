"""Rows made by a model: drawn from its classes, on a path between two rows, or moved into another class."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Rows, iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.trained_model import TrainedModel, chunk_rows, encode

InterpolationPath = Literal["linear", "spherical"]

TEMPERATURE = 0.7
"""Default factor on the standard deviations of samples.

In D dimensions nearly all of a Gaussian lies at the distance of about sqrt(D) from its mean, where a flow
trained on little data is least accurate; a factor below 1 draws closer to the class. The value is that of
Glow's samples (Kingma and Dhariwal, 2018, section 6). The figures of Izmailov et al. (2020) use 0.25, which
shows the class and little of its variety; 1 draws from the model's own density, as statistics of samples
need.
"""

_MAX_RECENTRE_ROWS = 20_000  # enough for a mean to a hundredth of a standard deviation


def draw_samples(
    trained: TrainedModel,
    n: int,
    *,
    classes: Sequence[int] | None = None,
    temperature: float = TEMPERATURE,
    generator: torch.Generator,
    source: Model | None = None,
) -> GeneratedRows:
    """Draw `n` rows of each of `classes`, or in all with classes drawn by the model's weights.

    Each member of an ensemble draws its share. `temperature` is a factor on the components' standard
    deviations, see `TEMPERATURE`; 0 gives the means. `source` is the model to draw from, by default the
    model's own `sampling_model` if it has one; densities and posteriors are the model's in any case.

    Raises:
        RunFailedError: the flow's inverse is not finite.
    """
    targets = None if classes is None else torch.tensor(classes, dtype=torch.int64).repeat_interleave(n)
    x, labels = (source or trained.sampling_model or trained.model).sample(
        n if targets is None else len(targets), generator, targets, temperature=temperature
    )
    return GeneratedRows.from_flow_inputs(trained, x, classes=labels.cpu().numpy())


@torch.no_grad()
def class_means(trained: TrainedModel, *, source: Model | None = None) -> GeneratedRows:
    """Map the means of all components back to rows; those of an ensemble's first member.

    `source` as in `draw_samples`. Rows are named after their classes, `name.1`, `name.2`, ... if a class has
    several components.
    """
    part = (source or trained.sampling_model or trained.model).parts[0]
    means, _ = part.mixture.moments()
    classes = part.mixture.component_classes[: len(means)].cpu().numpy()
    names = [trained.class_names[index] for index in classes]
    if (count := part.mixture.components) > 1:
        names = [f"{name}.{index % count + 1}" for index, name in enumerate(names)]
    x = part.flow.inverse(means)
    return GeneratedRows.from_flow_inputs(trained, x, classes=classes, ids=names)


@torch.no_grad()
def recentre_components(model: Model, x: Matrix) -> Model:
    r"""Return a copy of a model to sample from, with components moved to the mean latents of rows.

    The loss of the labelled rows moves means to where they tell classes apart best, which need not be where
    the rows are: it depends on differences of means, and the density has little weight against it. The
    classes stay right, but samples around a mean beside its rows look like none of them. So each mean becomes

    .. math:: \bar z_k = \frac{1}{n_k} \textstyle\sum_{i : k(x_i) = k} f(x_i)

    over the rows for which its component is the most responsible, and one factor fits all scales to the
    distances from the new means. This is a fit of the latent density after training (Ghosh et al., 2020,
    "From variational to deterministic autoencoders"); densities and posteriors need the original model.

    The copy shares the flows; an ensemble's members are treated one by one. `x` are the flow's inputs of
    training rows `(N, D)`. A component without rows keeps its mean.
    """
    sample = x[:: -(-len(x) // _MAX_RECENTRE_ROWS) or 1]  # of a file sorted by class, some rows of each class
    parts = [_recentre(part, sample) for part in model.parts]
    return parts[0] if len(parts) == 1 else Ensemble(parts)


def _recentre(part: FlowMixture, x: Tensor) -> FlowMixture:
    mixture = copy.deepcopy(part.mixture)
    device = mixture.means.device
    chunks = iterate_batches(len(x), chunk_rows(x.shape[1], part))
    latents = [part.flow(x[chunk].to(device))[0] for chunk in chunks]
    latents = [z[z.isfinite().all(1)] for z in latents] or [mixture.means.new_empty(0, mixture.features)]
    component = torch.cat([mixture.component_log_prob(z).argmax(1) for z in latents])
    z = torch.cat(latents)[:, : mixture.dims].to(mixture.means)
    counts = component.bincount(minlength=len(mixture.means))
    sums = torch.zeros_like(mixture.means).index_add_(0, component, z)
    centroids = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], mixture.means)
    scales = mixture.scales.expand_as(centroids)
    if len(z) > len(centroids):
        factor = ((z - centroids[component]) / scales[component]).square().mean().sqrt()
        mixture.raw_scales += factor.log().to(mixture.raw_scales)
    mixture.means.copy_(centroids)
    return FlowMixture(part.flow, mixture, part.head)


@torch.no_grad()
def interpolate(
    trained: TrainedModel, ends: Tensor, *, steps: int = 8, path: InterpolationPath = "linear"
) -> GeneratedRows:
    r"""Generate rows on a path from one row to another.

    `linear` is the path of the paper, :math:`x(t) = f^{-1}((1 - t) f(x_a) + t f(x_b))` (Izmailov et al.,
    2020): the density along it shows whether the classes are apart, with a valley at their border. In many
    dimensions its middle is nearer to the means than rows are, since residuals of two rows are nearly
    orthogonal.

    `spherical` stays at the distance of rows: the residuals from the components' means are turned into each
    other while their length changes evenly, and the mean moves straight from one to the other. (A great
    circle round the origin, as for a single standard normal, would have no meaning in a mixture.)

    Both begin and end with the given rows as the flow reconstructs them. The first member of an ensemble
    makes the path.

    `ends` are the flow's inputs of two rows, `(2, D)`, and `steps` is the number of rows, both ends included.
    The rows have the predicted classes and the position on the path as column `t`.
    """
    part = trained.model.parts[0]
    z = _encode(part, ends)
    t = torch.linspace(0, 1, steps, dtype=z.dtype, device=z.device)
    if path == "linear":
        points = torch.lerp(z[:1], z[1:], t[:, None])
    else:
        means, _ = part.mixture.moments()
        centres = means[responsible_components(part, z, predict_classes(part, z))]
        residuals = _slerp(z[0] - centres[0], z[1] - centres[1], t)
        points = torch.lerp(centres[:1], centres[1:], t[:, None]) + residuals
    points[0], points[-1] = z[0], z[1]  # exactly
    return GeneratedRows.from_flow_inputs(trained, part.flow.inverse(points), t=t.double().cpu().numpy())


@torch.no_grad()
def transfer(
    trained: TrainedModel, x: Tensor, target: int | None, *, ids: Array | None = None
) -> GeneratedRows:
    r"""Move rows into a class: replace the mean of their class, keep the residual.

    .. math:: x' = f^{-1}\big(f(x) - \mu_{k(x)} + \mu_{target}\big)

    with the predicted class k(x). For classes with several components the mean is that of the component which
    is most responsible for the row: among those of its own class, and among those of the target. A row that
    is predicted to be of the target already is returned unchanged. An ensemble uses its first member.

    `x` are the flow's inputs `(N, D)`. Without a target every row is moved into each of the K classes, in
    their order, which gives `N * K` rows. The column `from` holds the predicted class.
    """
    part = trained.model.parts[0]
    z, names = _encode(part, x), np.array(trained.class_names, dtype=object)
    targets = torch.arange(len(names), device=z.device) if target is None else z.new_full((1,), target).long()
    rows = torch.arange(len(x)).repeat_interleave(len(targets))
    x, z, targets = x[rows], z[rows.to(z.device)], targets.repeat(len(x))
    means, _ = part.mixture.moments()
    sources = predict_classes(part, z)
    shift = means[responsible_components(part, z, targets)] - means[responsible_components(part, z, sources)]
    moved = part.flow.inverse(z + shift).cpu()
    x = torch.where((sources == targets)[:, None].cpu(), x, moved)
    ids = np.arange(1, len(x) + 1) if ids is None else ids
    origin = {"from": names[sources.cpu().numpy()]}
    return GeneratedRows.from_flow_inputs(
        trained, x, classes=targets.cpu().numpy(), ids=ids[rows.numpy()], **origin
    )


def predict_classes(part: FlowMixture, z: Tensor) -> Tensor:
    """Return the class of the largest density at latents `(N, D)`, int64 `(N,)`."""
    return part.mixture.class_log_prob(z).argmax(1)


def responsible_components(part: FlowMixture, z: Tensor, classes: Tensor) -> Tensor:
    """Return the component of the given classes that is most responsible for each latent, int64 `(N,)`."""
    mixture = part.mixture
    log_prob = mixture.component_log_prob(z).reshape(len(z), mixture.classes, mixture.components)
    within = (log_prob + mixture.log_component_weights)[torch.arange(len(z), device=z.device), classes]
    return classes * mixture.components + within.argmax(1)


def round_trip_error(trained: TrainedModel, x: Tensor) -> float:
    """Return the largest error of the flow's inverse after its forward pass at flow inputs `(N, D)`."""
    part = trained.model.parts[0]
    with torch.no_grad():
        back = part.flow.inverse(_encode(part, x))
    return float((back.cpu() - x).abs().max()) if len(x) else 0.0


def column_errors(trained: TrainedModel, rows: Rows, x: Tensor) -> dict[str, float]:
    """Return the reconstruction error of the input columns of rows from their flow inputs `x`, by column.

    For numbers it is the largest difference, as a share of the column's range in these rows and, where known,
    the training rows; for categories the share of rows that differ. Columns of texts and missing cells are
    left out.
    """
    errors = {}
    reconstruction = trained.preprocessor.invert(x)
    for column in trained.preprocessor.columns:
        cells, back = rows.columns[column.name], reconstruction[column.name]
        if back is None or not len(cells):
            continue
        if column.kind == "category":
            errors[column.name] = float(np.mean([str(a) != str(b) for a, b in zip(cells, back, strict=True)]))
            continue
        values = cells.astype(np.float64)
        known = np.isfinite(values) & np.isfinite(back)
        if known.any():
            low, high = trained.preprocessor.ranges.get(column.name, (np.inf, -np.inf))
            width = max(high, float(values[known].max())) - min(low, float(values[known].min()))
            errors[column.name] = float(np.abs(values - back)[known].max()) / (width or 1.0)
    return errors


def _encode(part: FlowMixture, x: Tensor) -> Tensor:
    return encode(part, x).z.to(part.mixture.means.device)


def _slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Turn the vector `a` `(D,)` into `b` while its length changes evenly: `(steps, D)`."""
    lengths = torch.stack([a.norm(), b.norm()])
    tiny = torch.finfo(a.dtype).tiny
    u, v = a / lengths[0].clamp_min(tiny), b / lengths[1].clamp_min(tiny)
    angle, t = torch.acos((u @ v).clamp(-1, 1)), t[:, None]
    sine = angle.sin()
    if float(lengths.min()) == 0 or float(sine) < 1e-4:  # the vectors span no plane
        return torch.lerp(a[None], b[None], t)
    directions = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine
    return torch.lerp(lengths[:1], lengths[1:], t) * directions
