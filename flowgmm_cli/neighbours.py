"""Label spreading over a graph of nearest neighbours (Zhou et al., 2004)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ITERATIONS = 30
TINY = float(np.finfo(np.float32).tiny)


def affinity(
    distance: npt.NDArray[Any],
    index: npt.NDArray[np.intp],
    sigma: npt.NDArray[Any],
    *,
    row_sigma: npt.NDArray[Any] | None = None,
) -> Any:
    r"""Affinities that adapt to the local density (Zelnik-Manor and Perona, 2004).

    .. math:: w_{ij} = \exp(-d_{ij}^2 / (\sigma_i \sigma_j))

    Args:
        distance: from each of N rows to its neighbours, `(N, k)`.
        index: of these neighbours among the M nodes, `(N, k)`.
        sigma: distance of each node to its last neighbour, `(M,)`.
        row_sigma: the same for the rows, `(N,)`; None if they are the nodes.

    Returns:
        A sparse matrix `(N, M)`, float32.
    """
    from scipy import sparse

    sigma = np.maximum(sigma, 1e-12)
    row_sigma = sigma if row_sigma is None else np.maximum(row_sigma, 1e-12)
    weight = np.exp(-(distance / row_sigma[:, None]) * (distance / sigma[index])).astype(np.float32)
    # The weights must not vanish where the neighbours lie in a much denser region.
    weight = np.maximum(weight, np.float32(1e-6))
    start = np.arange(0, index.size + 1, index.shape[1])
    return sparse.csr_array((weight.ravel(), index.ravel(), start), shape=(len(index), len(sigma)))


def normalise_graph(affinities: Any) -> Any:
    """Make sparse affinities `(n, n)` symmetric and divide them by the square roots of both degrees."""
    from scipy import sparse

    affinities = affinities.maximum(affinities.T)
    scaling = sparse.diags_array(1 / np.sqrt(np.maximum(affinities.sum(1), TINY)), dtype=np.float32)
    return (scaling @ affinities @ scaling).tocsr()


def propagate_labels(
    graph: Any, start: npt.NDArray[np.float32], *, alpha: float, iterations: int = MAX_ITERATIONS
) -> npt.NDArray[np.float32]:
    r"""Iterate :math:`F \leftarrow \alpha S F + (1 - \alpha) Y`.

    Args:
        graph: the normalised affinities S, `(n, n)`.
        start: the labels Y, `(n, ..., K)`, one-hot, with zeros for nodes without one.
        alpha: weight of the neighbours.
        iterations: maximum number.

    Returns:
        F, `(n, ..., K)`: 0 where no label arrives.
    """
    flat: npt.NDArray[np.float32] = start.reshape(len(start), -1)
    mass = flat
    for _ in range(iterations):
        update = alpha * (graph @ mass) + (1 - alpha) * flat
        change = np.abs(update - mass).max()
        mass = update
        if change < 1e-4:
            break
    return mass.reshape(start.shape)


def normalise_rows(mass: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide by the sums over the last axis, `(n, ..., K)`; equal shares where the sum is 0."""
    total = np.sum(mass, axis=-1, keepdims=True)
    shares: npt.NDArray[np.float32] = np.full_like(mass, 1 / mass.shape[-1])
    np.divide(mass, total, out=shares, where=total > TINY)
    return shares
