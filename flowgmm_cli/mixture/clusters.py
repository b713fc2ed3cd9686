"""K-means clusters of rows, and which class each belongs to; logistic regression."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

KMEANS_OPERATIONS = 5e8  # rows * features * clusters of one pass: some 20 ms
MIN_KMEANS_ROWS = 2000
KMEANS_RESTARTS = 4

_LOCK = threading.Lock()  # warning filters and thread limits belong to the whole process


@contextmanager
def single_thread_no_warnings() -> Iterator[None]:
    """Run scikit-learn on one thread and without warnings.

    Several threads are much slower for small products and make sums depend on their order. An initialisation
    need not converge.
    """
    from threadpoolctl import threadpool_limits

    with _LOCK, warnings.catch_warnings(action="ignore"), threadpool_limits(limits=1):
        yield


def subsample(n: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw ascending positions of at most `size` of `n` rows, int64 `(min(n, size),)`."""
    if n <= size:
        return torch.arange(n)
    return torch.randperm(n, generator=generator)[:size].sort().values


def fit_kmeans(
    x: npt.NDArray[np.float32],
    clusters: int,
    generator: torch.Generator,
    *,
    weights: npt.NDArray[np.floating[Any]] | None = None,
    operations: float = KMEANS_OPERATIONS,
) -> Any:
    """Fit scikit-learn's `KMeans` to the rows `(N, d)`, or to a sample if a pass takes more `operations`.

    With fewer different rows than clusters there are only as many clusters as rows.
    """
    from sklearn.cluster import KMeans

    size = max(MIN_KMEANS_ROWS, 20 * clusters, int(operations / (clusters * x.shape[1])))
    index = subsample(len(x), size, generator).numpy()
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    model = KMeans(min(clusters, len(x)), n_init=KMEANS_RESTARTS, max_iter=100, random_state=seed)
    with single_thread_no_warnings():
        return model.fit(x[index], sample_weight=None if weights is None else weights[index])


def component_responsibilities(
    x: Tensor, responsibilities: Tensor, components: int, generator: torch.Generator
) -> Tensor:
    """Divide the rows of each class among its components by k-means.

    With C components, only a row's likeliest class is responsible for it, by the nearest of its clusters:
    clusters of rows that mostly belong to another class would lie among those of that class.

    The `responsibilities` of the classes for the rows `x` `(N, d)` are `(N, K)`, at least 0, those of the
    components float64 `(N, K C)`. A class with fewer rows than clusters leaves the last clusters empty.
    """
    responsibilities = responsibilities.double().cpu()
    if components == 1:
        return responsibilities
    split = torch.zeros(*responsibilities.shape, components, dtype=torch.float64)
    likeliest = responsibilities.argmax(1)
    points = x.detach().float().cpu().numpy()
    for k, weight in enumerate(responsibilities.T):
        members = ((likeliest == k) | (weight == weight.max())).nonzero().flatten()
        rows = points[members.numpy()]
        model = fit_kmeans(rows, components, generator, weights=weight[members].numpy())
        cluster = torch.from_numpy(model.predict(rows)).long()
        split[members, k, cluster] = weight[members]
    return split.flatten(1)


def match_clusters(
    counts: npt.NDArray[np.int64], distances: npt.NDArray[np.floating], *, components: int
) -> npt.NDArray[np.intp]:
    """Assign clusters to classes so that the most labelled rows lie in a cluster of their class.

    `counts` are the labelled rows of each cluster and class, `(K C, K)`. The nearer cluster is preferred
    among those of equal counts: `distances` `(K C, K)` are from its centre to the mean of the class's
    labelled rows. Returns the clusters, class by class, `(K C,)`; each cluster once.
    """
    from scipy.optimize import linear_sum_assignment

    relative = distances / max(float(distances.max()), np.finfo(np.float64).tiny)
    # All distances together count for less than a single row.
    cost = -counts + relative / (2 * len(counts))
    _, clusters = linear_sum_assignment(np.repeat(cost, components, axis=1).T)
    return np.asarray(clusters)


def fit_logistic(
    x: npt.NDArray[np.float64], classes: npt.NDArray[np.integer[Any]], *, strength: float = 1.0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit a logistic regression to rows `(N, D)` of classes 0 to K - 1: weights `(K, D)`, bias `(K,)`.

    `strength` is that of the penalty on the weights.
    """
    from sklearn.linear_model import LogisticRegression

    with single_thread_no_warnings():
        model = LogisticRegression(C=1 / strength, max_iter=200).fit(x, classes)
    if len(model.coef_) == 1:  # of two classes the second
        signs = np.array([-0.5, 0.5])
        return signs[:, None] * model.coef_, signs * model.intercept_
    return model.coef_, model.intercept_
