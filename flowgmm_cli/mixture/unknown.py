"""Search for unknown kinds: unlabelled rows that belong to none of the classes, found before training.

Labels are spread over a graph of nearest neighbours. Where the unlabelled rows hold only the classes, the
label mass that arrives at a row has the same distribution for unlabelled rows as for labelled rows whose own
label is held out. Rows of a kind without labels get less mass. This is the estimation of a class prior
from positive and unlabelled rows (Elkan and Noto, 2008), with one number for each row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.mixture.clusters import fit_kmeans, single_thread_no_warnings, subsample
from flowgmm_cli.mixture.resemblance import rate_resemblance
from flowgmm_cli.neighbours import affinity, propagate_labels

Floats = npt.NDArray[np.float64]

NEIGHBOURS = 20
ALPHA = 0.99
ITERATIONS = 60
FOLDS = 5
MIN_LABELS = 20  # with fewer, the share of unknown kinds cannot be distinguished from 0
MIN_SHARE = 0.04  # of unknown kinds that a model is changed for
MAX_COLUMNS = 100  # of label mass that are spread, by class and fold; with more classes only by fold
GRAPH_OPERATIONS = 1e10  # rows * rows * features of the neighbour search: some 2 seconds on one core
REGRESSION_OPERATIONS = 1e8  # rows * classes * features of a logistic regression: some 2 seconds
MAX_RESEMBLANCE = 0.32  # of rows of unknown kinds with the classes, see `rate_resemblance`
DOUBT = 0.01  # probability that unknown kinds are found where all rows are of the classes
_LEVELS = np.array([0.03, 0.05, 0.08, 0.12, 0.17, 0.23, 0.3, 0.4, 0.5, 0.6, 0.7])  # shares of unlabelled rows
_LEAST_MASS = 1e-2  # of a mean of 1
_MARGIN = 0.12  # share of rows of the classes, beside unknown ones, that an estimate is made of
_EXAMPLES = 0.8  # share of the rows of unknown kinds that examples are drawn from
_SIMULATIONS = 2000
_RESEMBLES = (
    "unknown  about {:.0f} % of the unlabelled rows are far from all labels but resemble the classes; "
    "`flowgmm suggest` names rows to label"
)


@dataclass(frozen=True)
class UnknownKinds:
    """Unlabelled rows that look like none of the classes.

    Attributes:
        share: estimated share of such rows among the unlabelled rows.
        low, high: its 90 % interval.
        examples: positions of training rows that stand for the unknown kinds, int64 `(n,)`.
        components: unknown kind of each example, from 0, int64 `(n,)`.
        count: number of unknown kinds.
    """

    share: float
    low: float
    high: float
    examples: Tensor
    components: Tensor
    count: int

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
    x: Matrix,
    labels: Tensor,
    *,
    classes: int,
    count: int | None,
    generator: torch.Generator,
    note: Callable[[str], None] = lambda _: None,
) -> UnknownKinds | None:
    """Find unlabelled rows that belong to none of the classes.

    Args:
        x: preprocessed training rows `(N, D)`; of very many a sample is used.
        labels: their classes, int64 `(N,)`, -1 where unlabelled.
        classes: number of classes, K.
        count: number of unknown kinds; None = one, and only if there are such rows beyond doubt.
        generator: random numbers, on the CPU.
        note: takes a line for people if rows far from all labels resemble the classes.

    Returns:
        The rows; None if nothing is found, or too few rows with or without labels to tell.
    """
    total = int((labels >= 0).sum())
    if min(total, len(labels) - total) < MIN_LABELS:
        return None
    most = max(2 * MIN_LABELS, int((GRAPH_OPERATIONS / x.shape[1]) ** 0.5))
    labelled = sample_positions(labels >= 0, most // 2, generator)
    others = sample_positions(labels < 0, most - len(labelled), generator)
    rows = torch.cat([x[labelled], x[others]]).float().cpu().numpy()
    y = labels[labelled].cpu().numpy()
    folds = assign_folds(y, generator)
    graph = neighbour_graph(rows)
    mass = label_mass(graph, y, folds)
    ranks = scarcity_ranks(mass, folds)
    # labels are often drawn evenly from unequal classes, but the ratios are rough: both views have to agree
    ratios = class_ratios(rows, y, classes)
    views = [estimate_share(ranks, weights) for weights in (np.ones(len(y)), ratios[y])]
    share, low, high = np.mean([(view.share, view.low, view.high) for view in views], axis=0).tolist()
    if count is None and (max(view.p for view in views) > DOUBT or share < MIN_SHARE):
        return None
    share = max(share, MIN_SHARE)
    order = np.argsort(-scarcity(mass[len(y) :].sum(2)), kind="stable")
    by_class = mass.shape[1] > 1 and len(y) * rows.shape[1] * classes <= REGRESSION_OPERATIONS
    if count is None and by_class:  # among very many classes, unknown kinds resemble some of them
        rank = np.ones(len(rows))
        rank[len(y) + order] = np.arange(len(others)) / len(others)
        spread = mass.sum(2).argmax(1)
        if rate_resemblance(rows, y, spread, graph, rank, (low, share, high)) > MAX_RESEMBLANCE:
            note(_RESEMBLES.format(100 * share))
            return None
    # as many examples as a class of this size would have labels, drawn from the scarcest rows
    least = count or 1
    size = max(least, total // classes, round(total * share / (1 - share)))
    candidates = order[: max(least, int(_EXAMPLES * share * len(others)))]
    chosen = torch.randperm(len(candidates), generator=generator).numpy()[:size]
    chosen = np.sort(candidates[chosen])
    groups = np.zeros(len(chosen), dtype=np.int64)
    if count is not None and count > 1:
        groups = fit_kmeans(rows[len(y) + chosen], count, generator).labels_.astype(np.int64)
    positions = others[torch.from_numpy(chosen)]
    return UnknownKinds(share, low, high, positions, torch.from_numpy(groups), int(groups.max()) + 1)


def sample_positions(mask: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw at most `size` positions of true values; of very many, from evenly spaced ones."""
    positions = mask.nonzero().flatten()
    positions = positions[:: max(1, len(positions) // (4 * size))]
    return positions[subsample(len(positions), size, generator)]


def assign_folds(labels: npt.NDArray[np.int64], generator: torch.Generator) -> npt.NDArray[np.int64]:
    """Assign labelled rows to `FOLDS` folds of about equal size, class by class: int64 `(L,)`."""
    order = torch.randperm(len(labels), generator=generator).numpy()
    by_class = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[by_class] = np.arange(len(labels)) % FOLDS
    return folds


def neighbour_graph(x: npt.NDArray[np.float32]) -> Any:
    """Build symmetric affinities of rows `(N, D)` and their nearest neighbours, sparse `(N, N)`."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(x) - 1)
    distance, index = NearestNeighbors(n_neighbors=count).fit(x).kneighbors()
    graph = affinity(distance, index, distance[:, -1])
    return graph.maximum(graph.T).tocsr()


def label_mass(
    graph: Any, labels: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Spread labels by random walks and return the mass that arrives at each row `(N, K, FOLDS)`.

    With very many classes, it is that of all classes together: `(N, 1, FOLDS)`.

    Args:
        graph: affinities of the rows, the L labelled ones first, `(N, N)`.
        labels: classes of the labelled rows `(L,)`.
        folds: their folds `(L,)`.
    """
    from scipy import sparse

    classes, count = int(labels.max()) + 1, graph.shape[0]
    if classes * FOLDS > MAX_COLUMNS:
        labels, classes = np.zeros_like(labels), 1
    walk = (sparse.diags_array(1 / graph.sum(1), dtype=np.float32) @ graph).tocsr()
    # masses are linear in the labels, so that one walk with a column for each class and fold serves all folds
    start = np.zeros((count, classes, FOLDS), dtype=np.float32)
    start[np.arange(len(labels)), labels, folds] = count / len(labels)
    return propagate_labels(walk, start, alpha=ALPHA, iterations=ITERATIONS)


def scarcity(mass: npt.NDArray[np.float32]) -> Floats:
    """Score rows by their mass `(N, K)`: the less of all classes and of the first, the higher."""
    total, first = mass.sum(1), mass.max(1)
    product = (total.astype(np.float64) + _LEAST_MASS) * (first + _LEAST_MASS)
    return np.asarray(-np.log(product))


def scarcity_ranks(mass: npt.NDArray[np.float32], folds: npt.NDArray[np.int64]) -> Floats:
    """Rank labelled rows among the unlabelled ones, by the mass `(N, K, FOLDS)` from labels of other folds.

    Returns:
        The share of the unlabelled rows that is at least as scarce as each labelled row, `(L,)`.
    """
    ranks = np.empty(len(folds))
    for fold in range(FOLDS):
        score = scarcity(np.delete(mass, fold, axis=2).sum(2))
        own = np.flatnonzero(folds == fold)
        pile = np.sort(-score[len(folds) :])
        ranks[own] = np.searchsorted(pile, -score[own], side="right") / len(pile)
    return ranks


def class_ratios(x: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> Floats:
    """Estimate how much more frequent each class is among the unlabelled rows than among the labels, `(K,)`.

    Labels are often drawn evenly from classes of different sizes (Lipton, Wang and Smola, 2018). See
    `label_mass` for the arguments.
    """
    from scipy.optimize import nnls
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    ratios = np.ones(classes)
    if len(known) < 2 or len(labels) * x.shape[1] * len(known) > REGRESSION_OPERATIONS:
        return ratios
    scaled = x / x.std()
    with single_thread_no_warnings():
        model = LogisticRegression(C=0.1, max_iter=60, tol=1e-2).fit(scaled[: len(labels)], labels)
    probabilities = model.predict_proba(scaled)
    of_labelled, pile = probabilities[: len(labels)], probabilities[len(labels) :].mean(0)
    # the pile's mean probabilities are those of the classes, mixed by their frequencies in it
    by_class = np.stack([of_labelled[labels == k].mean(0) for k in known], axis=1)
    frequency = nnls(by_class, pile)[0]
    ratios[known] = frequency / frequency.sum() * len(labels) / np.bincount(labels)[known]
    return ratios


@dataclass(frozen=True)
class ShareEstimate:
    """Share of unknown kinds, its 90 % interval, and the probability `p` of such ranks without any."""

    share: float
    low: float
    high: float
    p: float


def estimate_share(ranks: Floats, weights: Floats) -> ShareEstimate:
    """Estimate the share of rows of unknown kinds from ranks of labelled rows among the unlabelled ones.

    A share F of the rows of the classes, and so of the labelled rows, is among the share t of the unlabelled
    rows that has the highest scores. If all rows of unknown kinds, a share s, are there too,
    t = s + (1 - s) F. Without them, the number of labelled rows is binomial for each t; the smallest of its
    probabilities over all t is compared with simulated ones.

    Args:
        ranks: see `scarcity_ranks`, `(L,)`.
        weights: of the labelled rows, `(L,)`.
    """
    from scipy.special import betainc
    from scipy.stats import beta

    n = float(weights.sum() ** 2 / (weights**2).sum())  # equal weights have as much information
    below = n * ((ranks[:, None] <= _LEVELS) * weights[:, None]).sum(0) / weights.sum()
    rng = np.random.default_rng(0)
    steps = rng.multinomial(round(n), [*np.diff(_LEVELS, prepend=0), 1 - _LEVELS[-1]], size=_SIMULATIONS)
    k = np.concatenate([below[None], steps[:, :-1].cumsum(1)])
    least = betainc(np.maximum(n - k, 1e-9), k + 1, 1 - _LEVELS).min(1)
    shares_of_labelled = (
        (below + 0.5) / (n + 1),
        *(beta.ppf(q, below + 0.5, n - below + 0.5) for q in (0.95, 0.05)),
    )
    shares, low, high = ((_LEVELS - f) / (1 - f) for f in shares_of_labelled)
    level, seen = int(low.argmax()), set[int]()
    while level not in seen:  # few rows of the classes vary much, many hide the others
        seen.add(level)
        level = min(int(np.searchsorted(_LEVELS, shares[level] + _MARGIN)), len(_LEVELS) - 1)
    chance = float((least[1:] <= least[0]).mean())
    return ShareEstimate(float(shares[level]), float(low[level]), float(high[level]), chance)
