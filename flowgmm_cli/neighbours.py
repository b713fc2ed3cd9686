"""Labels carried along a graph of nearest neighbours (Zhou et al., 2004)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ITERATIONS = 30
TINY = float(np.finfo(np.float32).tiny)


def affinity(
    distance: npt.NDArray[Any],
    index: npt.NDArray[np.intp],
    sigma: npt.NDArray[Any],
    *,
    own: npt.NDArray[Any] | None = None,
) -> Any:
    r"""Weights that adapt to the local density (Zelnik-Manor and Perona, 2004).

    .. math:: w_{ij} = \exp(-d_{ij}^2 / (\sigma_i \sigma_j))

    Args:
        distance: of each of N rows to its neighbours, `(N, k)`.
        index: which of the M nodes these are, `(N, k)`.
        sigma: of the nodes, `(M,)`: the distance to the last neighbour.
        own: sigma of the rows, `(N,)`; None if they are the nodes.

    Returns:
        A sparse matrix `(N, M)`, float32.
    """
    from scipy import sparse

    sigma = np.maximum(sigma, 1e-12)
    own = sigma if own is None else np.maximum(own, 1e-12)
    weight = np.exp(-(distance / own[:, None]) * (distance / sigma[index])).astype(np.float32)
    # Where the neighbours' own surroundings are far denser every weight would vanish: keep a trace.
    weight = np.maximum(weight, np.float32(1e-6))
    start = np.arange(0, index.size + 1, index.shape[1])
    return sparse.csr_array((weight.ravel(), index.ravel(), start), shape=(len(index), len(sigma)))


def normalised(joined: Any) -> Any:
    """The affinity `(n, n)` made symmetric, and divided by the roots of both nodes' degrees; sparse."""
    from scipy import sparse

    joined = joined.maximum(joined.T)
    scaling = sparse.diags_array(1 / np.sqrt(np.maximum(joined.sum(1), TINY)), dtype=np.float32)
    return (scaling @ joined @ scaling).tocsr()


def spread_mass(
    within: Any, start: npt.NDArray[np.float32], *, alpha: float, iterations: int = ITERATIONS
) -> npt.NDArray[np.float32]:
    r"""Iterate :math:`F \leftarrow \alpha S F + (1 - \alpha) Y`.

    Args:
        within: the normalised affinity S, `(n, n)`.
        start: the labels Y, `(n, ..., K)`, one-hot, with zeros for nodes without one.
        alpha: how much a node takes from its neighbours.
        iterations: at most this many.

    Returns:
        F, `(n, ..., K)`: 0 where no label arrives.
    """
    flat: npt.NDArray[np.float32] = start.reshape(len(start), -1)
    mass = flat
    for _ in range(iterations):
        update = alpha * (within @ mass) + (1 - alpha) * flat
        moved = np.abs(update - mass).max()
        mass = update
        if moved < 1e-4:
            break
    return mass.reshape(start.shape)


def shares_of(mass: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Divide by the sums over the last axis, `(n, ..., K)`; equal shares where the sum is 0."""
    total = np.sum(mass, axis=-1, keepdims=True)
    shares: npt.NDArray[np.float32] = np.full_like(mass, 1 / mass.shape[-1])
    np.divide(mass, total, out=shares, where=total > TINY)
    return shares
