"""Sampling of rows by class, class means, and a fit of the components to sample from."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.trained_model import TrainedModel, encode

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
    """Draw rows from the model; each member of an ensemble draws its share.

    Args:
        trained: the model.
        n: number of rows of each class, or, without `classes`, of all.
        classes: draw `n` rows of each of these; None draws classes by the model's class weights.
        temperature: factor on the components' standard deviations, see `TEMPERATURE`; 0 gives the means.
        generator: random numbers, on the CPU.
        source: model to draw from; None for the model's own `sampling_model` if it has one. Densities and
            posteriors are the model's in any case.

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
    classes = part.mixture.component_classes.cpu().numpy()
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

    Args:
        model: trained model; an ensemble's members are treated one by one.
        x: the flow's inputs of training rows, `(N, D)`; labels are not needed.

    Returns:
        The copy; it shares the flows. A component without rows keeps its mean.
    """
    sample = x[:: -(-len(x) // _MAX_RECENTRE_ROWS) or 1]  # of a file sorted by class, some rows of each class
    parts = [_recentre(part, sample) for part in model.parts]
    return parts[0] if len(parts) == 1 else Ensemble(parts)


def _recentre(part: FlowMixture, x: Tensor) -> FlowMixture:
    mixture = copy.deepcopy(part.mixture)
    z = encode(part, x).z.to(mixture.means.device)
    z = z[z.isfinite().all(1)]
    component = mixture.component_log_prob(z).argmax(1)
    z = z[:, : mixture.dims]
    counts = component.bincount(minlength=len(mixture.means))
    sums = torch.zeros_like(mixture.means).index_add_(0, component, z)
    centroids = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], mixture.means)
    scales = mixture.scales.expand_as(centroids)
    if len(z) > len(centroids):
        factor = ((z - centroids[component]) / scales[component]).square().mean().sqrt()
        mixture.raw_scales += factor.log().to(mixture.raw_scales)
    mixture.means.copy_(centroids)
    return FlowMixture(part.flow, mixture)
