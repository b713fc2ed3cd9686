"""Guesses of the rows' classes that class means can be taken of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.mixture.starts.alone import one_thread_no_warnings
from flowgmm_cli.mixture.starts.start import StartRows, subsample
from flowgmm_cli.neighbours import TINY, affinity, normalised, shares_of, spread_mass

Guess = Callable[[StartRows, torch.Generator], tuple[Tensor, Tensor]]

NEIGHBOURS = 10
ALPHA = 0.9
GRAPH_COST = 2e10  # rows * rows * features of the neighbour search: some 2 seconds on one core


def from_labels(rows: StartRows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The labelled rows `(L, D)` and their labels as shares `(L, K)`."""
    return rows.labelled, rows.one_hot


def logistic_regression(rows: StartRows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All rows, the unlabelled ones shared out by the probabilities of a logistic regression.

    With few labels this is a steadier start than the labelled rows alone.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(rows.unlabelled):
        return from_labels(rows, generator)
    x = torch.cat([rows.labelled, rows.unlabelled])
    if rows.classes == 1:
        return x, torch.ones(len(x), 1, dtype=torch.float64)
    model = LogisticRegression(max_iter=500)
    with one_thread_no_warnings():
        model.fit(rows.labelled.double().cpu().numpy(), rows.labels.cpu().numpy())
    guesses = torch.from_numpy(model.predict_proba(rows.unlabelled.double().cpu().numpy()))
    return x, torch.cat([rows.one_hot.cpu(), guesses]).to(x.device)


def label_spreading(rows: StartRows, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows that labels reach along a graph of nearest neighbours, shared out by what arrives.

    Of very many unlabelled rows a sample is taken. Labelled rows keep their label; rows that no label reaches
    are left out.
    """
    from sklearn.neighbors import NearestNeighbors

    most = int((GRAPH_COST / rows.labelled.shape[1]) ** 0.5)
    index = subsample(len(rows.unlabelled), max(most - len(rows.labelled), most // 2), generator)
    x = torch.cat([rows.labelled, rows.unlabelled[index.to(rows.unlabelled.device)]])
    if len(x) < 2:
        return from_labels(rows, generator)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x) - 1)).fit(x.float().cpu().numpy())
    distance, neighbour = search.kneighbors()
    start = np.zeros((len(x), rows.classes), dtype=np.float32)
    start[: len(rows.labels)] = rows.one_hot.float().cpu().numpy()
    within = normalised(affinity(distance, neighbour, distance[:, -1]))
    mass = spread_mass(within, start, alpha=ALPHA)
    reached = torch.from_numpy(mass.sum(1) > TINY)
    shares = torch.from_numpy(shares_of(mass)).double()
    shares[: len(rows.labels)] = rows.one_hot.cpu()
    return x[reached.to(x.device)], shares[reached]
