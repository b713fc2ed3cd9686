"""Search for unknown kinds: unlabelled rows that belong to none of the classes, found before training.

Labels are spread over a graph of nearest neighbours. Where the unlabelled rows hold only the classes, the
label mass that arrives at a row has the same distribution for unlabelled rows as for labelled rows whose own
label is held out. Rows of a kind without labels get less mass. This is the estimation of a class prior
from positive and unlabelled rows (Elkan and Noto, 2008), with one number for each row.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.mixture.clusters import fit_kmeans, subsample
from flowgmm_cli.neighbours import affinity, propagate_labels

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 10
ALPHA = 0.99
ITERATIONS = 100
FOLDS = 5
MIN_LABELS = 20  # with fewer, the share of unknown kinds cannot be distinguished from 0
MIN_SHARE = 0.03  # that is assumed where a recipe asks for nameless components in any case
GRAPH_OPERATIONS = 2e10  # rows * rows * features of the neighbour search: some 2 seconds on one core
_QUANTILES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # of the masses of labelled rows
_DOUBT = 0.05  # probability that unknown kinds are found where all rows are of the classes
_EXAMPLES = 0.8  # share of the rows of unknown kinds that examples are drawn from


@dataclass(frozen=True)
class UnknownKinds:
    """Unlabelled rows that look like none of the classes.

    Attributes:
        share: estimated share of such rows among the unlabelled rows.
        low, high: its 90 % interval.
        examples: positions of training rows that stand for the unknown kinds, int64 `(n,)`.
        components: nameless component of each example, from 0, int64 `(n,)`.
        count: number of nameless components.
    """

    share: float
    low: float
    high: float
    examples: Tensor
    components: Tensor
    count: int

    def describe(self) -> str:
        """Describe the share in a line."""
        return (
            f"about {self.share:.0%} of the unlabelled rows look like none of the classes "
            f"({max(0, self.low):.0%} to {self.high:.0%})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the examples."""
        return {"share": self.share, "low": self.low, "high": self.high, "components": self.count}

    def to_json(self) -> str:
        """Return everything as a JSON text."""
        rows = {"examples": self.examples.tolist(), "components": self.components.tolist()}
        return json.dumps({**vars(self), **rows})

    @classmethod
    def from_json(cls, text: str) -> UnknownKinds:
        """Read the result of `to_json`."""
        values = json.loads(text)
        rows = {name: torch.tensor(values[name]) for name in ("examples", "components")}
        return cls(**{**values, **rows})


def find_unknown(
    labelled: Tensor,
    labels: Tensor,
    unlabelled: Tensor,
    *,
    classes: int,
    count: int | None,
    generator: torch.Generator,
) -> UnknownKinds | None:
    """Find unlabelled rows that belong to none of the classes.

    Args:
        labelled: preprocessed rows with a label, `(L, D)`.
        labels: their classes, int64 `(L,)`.
        unlabelled: other rows, `(U, D)`; of very many a sample is used.
        classes: number of classes, K.
        count: number of nameless components; None = one, and only if there are such rows beyond doubt.
        generator: random numbers, on the CPU.

    Returns:
        The rows, with `examples` as positions in `unlabelled`; None if nothing is found, or too few rows with
        or without labels to tell.
    """
    most = max(MIN_LABELS, int((GRAPH_OPERATIONS / labelled.shape[1]) ** 0.5) - len(labelled))
    sample = subsample(len(unlabelled), most, generator)
    if len(labelled) < MIN_LABELS or len(sample) < MIN_LABELS:
        return None
    x = torch.cat([labelled, unlabelled[sample.to(unlabelled.device)]]).float().cpu().numpy()
    folds = assign_folds(labels.cpu().numpy(), generator)
    own, mass = label_mass(x, folds)
    share, low, high, certain = unknown_share(own, mass)
    if count is None and certain <= 0:
        return None
    rng = np.random.default_rng(int(torch.randint(2**31 - 1, (), generator=generator)))
    share = max(share, MIN_SHARE)
    # as many examples as a class of this size would have labels, drawn from the rows with the least mass
    size = max(len(labels) // classes, round(len(labels) * share / (1 - share)))
    candidates = np.argsort(mass, kind="stable")[: max(size, int(_EXAMPLES * share * len(mass)))]
    chosen = np.sort(rng.choice(candidates, min(size, len(candidates)), replace=False))
    groups = np.zeros(len(chosen), dtype=np.int64)
    if count is not None and count > 1:
        groups = fit_kmeans(x[len(labels) + chosen], count, generator).labels_.astype(np.int64)
    return UnknownKinds(
        share, low, high, sample[torch.from_numpy(chosen)], torch.from_numpy(groups), int(groups.max()) + 1
    )


def assign_folds(labels: npt.NDArray[np.int64], generator: torch.Generator) -> npt.NDArray[np.int64]:
    """Assign labelled rows to `FOLDS` folds of about equal size, class by class: int64 `(L,)`."""
    order = torch.randperm(len(labels), generator=generator).numpy()
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % FOLDS
    return folds


def label_mass(x: npt.NDArray[np.float32], folds: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Spread labels by random walks and return the mass that arrives at each row.

    Args:
        x: rows, the L labelled ones first, `(N, D)`.
        folds: fold of each labelled row, `(L,)`.

    Returns:
        The mass of labelled rows from the labels of other folds `(L,)`, and of the others `(N - L,)`, each as
        if all labels had been used.
    """
    from scipy import sparse
    from sklearn.neighbors import NearestNeighbors

    count, labels = min(NEIGHBOURS, len(x) - 1), len(folds)
    distance, index = NearestNeighbors(n_neighbors=count).fit(x).kneighbors()
    graph = affinity(distance, index, distance[:, -1])
    graph = graph.maximum(graph.T)
    walk = (sparse.diags_array(1 / graph.sum(1), dtype=np.float32) @ graph).tocsr()
    # masses are linear in the labels, so that one walk with a column for each fold serves all folds
    start = np.zeros((len(x), FOLDS), dtype=np.float32)
    start[np.arange(labels), folds] = len(x)
    mass = propagate_labels(walk, start, alpha=ALPHA, iterations=ITERATIONS).astype(np.float64)
    total, sizes = mass.sum(1), np.bincount(folds, minlength=FOLDS)
    own = total[:labels] - mass[np.arange(labels), folds]
    return own * labels / (labels - sizes[folds]), total[labels:]


def unknown_share(own: Floats, mass: Floats) -> tuple[float, float, float, float]:
    """Estimate the share of rows of unknown kinds, from masses of labelled rows and of unlabelled ones.

    A share F of the rows of the classes has at most the mass t, and a share G = s + (1 - s) F of the
    unlabelled rows, if rows of unknown kinds, a share s, have less. For the k-th smallest mass of L labelled
    rows, F has the distribution Beta(k, L + 1 - k) for any distribution of the masses. Low masses tell
    little where kinds overlap, high ones vary with the labels; the one that gives the highest lower bound is
    used.

    Args:
        own: masses of labelled rows `(L,)`.
        mass: masses of unlabelled rows `(U,)`.

    Returns:
        The estimate, its 90 % interval, and a lower bound that is above 0 by chance in one of 20 cases.
    """
    from scipy.stats import beta

    ordered, best = np.sort(own), np.array([0.0, 0.0, 0.0, -1.0])
    for quantile in _QUANTILES:
        k = max(1, round(quantile * len(own)))
        below = (mass <= ordered[k - 1]).mean()
        levels = [0.5, 0.98, 0.02, 1 - _DOUBT / len(_QUANTILES)]  # for 90 % over the choice of k
        shares = beta.ppf(levels, k, len(own) + 1 - k)
        estimates = (below - shares) / (1 - shares)
        if estimates[3] > best[3]:
            best = estimates
    return float(best[0]), float(best[1]), float(best[2]), float(best[3])
