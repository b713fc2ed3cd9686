"""Where the rows of each component really lie, for drawing samples that look like rows."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from flowgmm_cli.data.lazy import RowStore
from flowgmm_cli.model import Ensemble, FlowMixture, Model
from flowgmm_cli.trained import see

_ROWS = 20_000  # enough for a mean to a hundredth of a standard deviation


@torch.no_grad()
def centred_on_rows(model: Model, x: RowStore) -> Model:
    r"""A copy of a model whose components stand where rows lie in the latent space, to draw samples from.

    The loss of the labelled rows moves means to where they tell classes apart best, which need not be where
    the rows are: differences of means count for it, and the density has little weight against it. The
    classes stay right, but what is drawn around a mean that lies beside its rows looks like none of them.
    So each mean becomes

    .. math:: \bar z_k = \frac{1}{n_k} \textstyle\sum_{i : k(x_i) = k} f(x_i)

    over the rows for which its component is the most responsible, and one factor fits all scales to the
    distances from the new means. This is a fit of the latent density after training (Ghosh et al., 2020,
    "From variational to deterministic autoencoders"); densities and posteriors need the model itself.

    Args:
        model: as trained; an ensemble's members are treated one by one.
        x: the flow's inputs of training rows, `(N, D)`; labels are not needed.

    Returns:
        The copy; it shares the flows. A component that no row falls to stays where it is.
    """
    some = x[:: -(-len(x) // _ROWS) or 1]  # of a file sorted by class, some of each class
    parts = [_centred(part, some) for part in model.parts]
    return parts[0] if len(parts) == 1 else Ensemble(parts)


def _centred(part: FlowMixture, x: Tensor) -> FlowMixture:
    mixture = copy.deepcopy(part.mixture)
    z = see(part, x).z.to(mixture.means.device)
    z = z[z.isfinite().all(1)]
    component = mixture.component_log_prob(z).argmax(1)
    near = z[:, : mixture.dims]
    counts = component.bincount(minlength=len(mixture.means))
    sums = torch.zeros_like(mixture.means).index_add_(0, component, near)
    centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], mixture.means)
    scales = mixture.scales.expand_as(centres)
    if len(near) > len(centres):
        spread = ((near - centres[component]) / scales[component]).square().mean().sqrt()
        mixture.raw_scales += spread.log().to(mixture.raw_scales)
    mixture.means.copy_(centres)
    return FlowMixture(part.flow, mixture)
