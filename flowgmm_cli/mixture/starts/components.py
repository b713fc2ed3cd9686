"""From class shares of rows to means: one per class, or several by k-means within the class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.mixture.starts.alone import one_thread_no_warnings
from flowgmm_cli.mixture.starts.start import Start, random_state, subsample

_OPERATIONS = 5e8  # rows * features * clusters of one k-means pass: some 20 ms
_LEAST_ROWS = 2000
_RESTARTS = 4


def component_shares(x: Tensor, shares: Tensor, components: int, generator: torch.Generator) -> Tensor:
    """Hand each row's share of its likeliest class to the nearest of that class's k-means clusters.

    With several components the shares of other classes are dropped: clusters of rows that are mostly another
    class's would lie among these.

    Args:
        x: rows `(N, d)`.
        shares: of each class, `(N, K)`, at least 0.
        components: clusters of each class, C.
        generator: on the CPU.

    Returns:
        float64 `(N, K C)`; a class with fewer rows than clusters leaves the last of its clusters empty.
    """
    shares = shares.double().cpu()
    if components == 1:
        return shares
    split = torch.zeros(*shares.shape, components, dtype=torch.float64)
    likeliest = shares.argmax(1)
    points = x.detach().float().cpu().numpy()
    for k in range(shares.shape[1]):
        own = shares[:, k]
        members = ((likeliest == k) | (own == own.max())).nonzero().flatten()
        rows = points[members.numpy()]
        model = k_means(rows, components, generator, weights=own[members].numpy())
        cluster = torch.from_numpy(model.predict(rows)).long()
        split[members, k, cluster] = own[members]
    return split.flatten(1)


def means_of_shares(
    x: Tensor, shares: Tensor, *, classes: int, scale: float, generator: torch.Generator
) -> Start:
    """Means of the rows `x` `(N, d)` weighted by the components' `shares` `(N, K C)`.

    A component without rows starts at a tenth of `scale` from the mean of its class, in a random direction:
    on top of another one, the two could never part. The weights within a class count rows, and one row more
    for each component.
    """
    x, shares = x.detach().double().cpu(), shares.double().cpu()
    components = shares.shape[1] // classes
    mass = shares.sum(0)
    means = (shares.T @ x) / mass.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    empty = mass == 0
    if empty.any():
        by_class = mass.reshape(classes, components)
        centres = (by_class[..., None] * means.reshape(classes, components, -1)).sum(1)
        centres = (centres / by_class.sum(1, keepdim=True)).repeat_interleave(components, 0)
        noise = torch.randn(means.shape, generator=generator, dtype=torch.float64)
        noise *= 0.1 * scale / noise.norm(dim=1, keepdim=True)
        means = torch.where(empty[:, None], centres + noise, means)
    return Start(means.float(), (mass.reshape(classes, components) + 1).float())


def k_means(
    x: npt.NDArray[np.float32],
    clusters: int,
    generator: torch.Generator,
    *,
    weights: npt.NDArray[np.floating[Any]] | None = None,
) -> Any:
    """scikit-learn's k-means of the rows `(N, d)`, of a sample of them if there are very many, fitted.

    With fewer different rows than clusters there are only as many clusters as rows. On one thread: the order
    in which several add up their sums is a matter of chance.
    """
    from sklearn.cluster import KMeans

    most = max(_LEAST_ROWS, 20 * clusters, int(_OPERATIONS / (clusters * x.shape[1])))
    index = subsample(len(x), most, generator).numpy()
    model = KMeans(
        min(clusters, len(x)), n_init=_RESTARTS, max_iter=100, random_state=random_state(generator)
    )
    with one_thread_no_warnings():  # of fewer different rows than clusters
        return model.fit(x[index], sample_weight=None if weights is None else weights[index])
