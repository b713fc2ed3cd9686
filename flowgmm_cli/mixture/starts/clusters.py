"""Clusters of all rows, matched to the classes by the labelled ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.errors import DataError
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.components import k_means
from flowgmm_cli.mixture.starts.start import Start, StartRows


def kmeans(config: GMMConfig, rows: StartRows, generator: torch.Generator) -> Start:
    """The centres of K C clusters, C of them for each class.

    Raises:
        DataError: a class has no labelled row, or there are fewer rows than clusters.
    """
    rows.require_every_class()
    count = rows.classes * config.components
    labelled, labels = rows.labelled[:, : rows.dims].float().cpu().numpy(), rows.labels.cpu().numpy()
    x = np.concatenate([labelled, rows.unlabelled[:, : rows.dims].float().cpu().numpy()])
    if len(x) < count:
        raise DataError(
            f"prior.means: kmeans looks for {count} clusters (classes times prior.components) "
            f"among {len(x)} training rows",
            hint="use prior.means=labelled, or fewer prior.components",
        )
    model = k_means(x, count, generator)
    centres, sizes = model.cluster_centers_, np.bincount(model.labels_, minlength=count)
    counts = np.zeros((count, rows.classes), dtype=np.int64)
    np.add.at(counts, (model.predict(labelled), labels), 1)
    class_means = np.stack([labelled[labels == k].mean(0) for k in range(rows.classes)])
    distances = np.linalg.norm(centres[:, None] - class_means, axis=2)
    order = match(counts, distances, components=config.components)
    means = torch.from_numpy(np.array(centres[order])).float()
    weights = torch.from_numpy(sizes[order]).reshape(rows.classes, config.components)
    return Start(means, (weights + 1).float())


def match(
    counts: npt.NDArray[np.int64], distances: npt.NDArray[np.floating], *, components: int
) -> npt.NDArray[np.intp]:
    """Give each class its clusters, so that the most labelled rows lie in a cluster of their class.

    Args:
        counts: labelled rows of each cluster and class, `(K C, K)`.
        distances: of each cluster's centre to the mean of the class's labelled rows, `(K C, K)`; where counts
            are equal, near ones are preferred.
        components: clusters of each class, C.

    Returns:
        The clusters, class by class, `(K C,)`; each cluster once.
    """
    from scipy.optimize import linear_sum_assignment

    nearness = distances / max(float(distances.max()), np.finfo(np.float64).tiny)
    # All distances together count for less than a single row.
    cost = -counts + nearness / (2 * len(counts))
    _, clusters = linear_sum_assignment(np.repeat(cost, components, axis=1).T)
    return np.asarray(clusters)
