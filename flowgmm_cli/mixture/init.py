"""Initial means of the mixture: one function for each value of `prior.means`.

Flows start as the identity, so a mean of the transformed rows is a mean of their latents. A flow that starts
otherwise, for instance with actnorm, is applied to the rows first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.mixture.clusters import (
    component_responsibilities,
    fit_kmeans,
    match_clusters,
    single_thread_no_warnings,
    subsample,
)
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.neighbours import TINY, affinity, normalise_graph, normalise_rows, propagate_labels

NEIGHBOURS = 10
ALPHA = 0.9
GRAPH_OPERATIONS = 2e10  # rows * rows * features of the neighbour search: some 2 seconds on one core


@dataclass(frozen=True)
class TrainingLatents:
    """Latents of the training rows before training."""

    labelled: Tensor  # rows with a label, `(L, D)`
    labels: Tensor  # their classes, int64 `(L,)`
    unlabelled: Tensor  # rows without, `(U, D)`; may be empty
    classes: int  # number of classes, K
    dims: int  # number of dimensions that carry the classes, d; they are the first of the D dimensions

    @property
    def label_indicators(self) -> Tensor:
        """The labels as responsibilities, float64 `(L, K)`."""
        return one_hot(self.labels, self.classes).double()

    def require_every_class(self) -> None:
        """Raise `DataError` if a class has no labelled row."""
        counts = torch.bincount(self.labels, minlength=self.classes).tolist()
        missing = [str(k) for k, count in enumerate(counts) if not count]
        if missing:
            raise DataError(
                f"no labelled row for {len(missing)} of {self.classes} classes (index {', '.join(missing)})",
                hint="label a row of each class, or start the means elsewhere: prior.means=random",
            )


@dataclass(frozen=True)
class InitialMeans:
    """Initial means of K classes of C components, and their weights."""

    means: Tensor  # float32 `(K C, d)`, class by class
    component_weights: Tensor  # positive weights of the components within their class, float32 `(K, C)`

    @classmethod
    def with_equal_weights(cls, means: Tensor, *, components: int) -> InitialMeans:
        """Equal weights for the components of the means `(K C, d)`."""
        return cls(means.float(), torch.ones(len(means) // components, components))


Initialiser = Callable[[GMMConfig, TrainingLatents, torch.Generator], InitialMeans]
SoftLabels = Callable[[TrainingLatents, torch.Generator], tuple[Tensor, Tensor]]
"""Returns rows `(N, D)` and the responsibilities of the classes for them, `(N, K)`."""


def initial_means(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
    """Compute the means that the recipe asks for; `generator` is on the CPU.

    Raises:
        DataError: a class has no labelled row (where labels are used); fewer rows than clusters (`kmeans`).
        RecipeError: too many classes for the dimensions (`simplex`); points that do not fit (`given`).
    """
    return INITIALISERS[config.means](config, latents, generator)


def random_means(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
    """Standard normal draws, scaled to the mean pairwise distance `separation` if one is given.

    Unscaled draws are about sqrt(2 d) apart, the paper's choice for images.
    """
    count = latents.classes * config.components
    means = torch.randn(count, latents.dims, generator=generator, dtype=torch.float64)
    if config.separation is not None and count > 1:
        means = means * (config.separation / torch.pdist(means).mean())
    return InitialMeans.with_equal_weights(means, components=config.components)


def simplex_means(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
    """Corners of a randomly rotated regular simplex about the origin with sides `separation`.

    Two corners are the opposite points that the paper uses for its tabular data. Vectors of equal length at
    right angles to each other are such corners too, up to a shift.

    Raises:
        RecipeError: more than d + 1 means, which cannot all be equally far apart.
    """
    count, dims = latents.classes * config.components, latents.dims
    if count > dims + 1:
        raise RecipeError(
            f"prior.means: simplex places at most {dims + 1} means in {dims} dimensions, "
            f"but there are {count} (classes times prior.components)",
            hint="use prior.means=random",
        )
    separation = config.separation or 6 * config.scale
    # Unit vectors are sqrt(2) apart; about their centre they span count - 1 dimensions, found by the SVD.
    corners = torch.eye(count, dtype=torch.float64) - 1 / count
    left, lengths, _ = torch.linalg.svd(corners)
    corners = left[:, :-1] * lengths[:-1]
    normal = torch.randn(dims, count - 1, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(normal)
    means = (separation / math.sqrt(2)) * corners @ rotation.T
    return InitialMeans.with_equal_weights(means, components=config.components)


def recipe_means(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
    """Points of the recipe.

    Raises:
        RecipeError: the number or length of the points does not fit the data.
    """
    points = config.points or []
    count = latents.classes * config.components
    if len(points) != count or any(len(point) != latents.dims for point in points):
        raise RecipeError(
            f"prior.points must hold {count} lists of {latents.dims} numbers (Gaussians, latent dimensions), "
            f"got {len(points)} of {', '.join(sorted({str(len(point)) for point in points})) or 0}",
            hint="prior.means=simplex needs no points",
        )
    means = torch.tensor(points, dtype=torch.float64).reshape(count, latents.dims)
    return InitialMeans.with_equal_weights(means, components=config.components)


def kmeans_means(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
    """Centres of K C clusters of all rows, C of them for each class.

    Raises:
        DataError: a class has no labelled row, or there are fewer rows than clusters.
    """
    latents.require_every_class()
    classes, count = latents.classes, latents.classes * config.components
    both = (latents.labelled, latents.unlabelled)
    labelled, unlabelled = (x[:, : latents.dims].float().cpu().numpy() for x in both)
    labels, x = latents.labels.cpu().numpy(), np.concatenate([labelled, unlabelled])
    if len(x) < count:
        raise DataError(
            f"prior.means: kmeans looks for {count} clusters (classes times prior.components) "
            f"among {len(x)} training rows",
            hint="use prior.means=labelled, or fewer prior.components",
        )
    model = fit_kmeans(x, count, generator)
    centres, sizes = model.cluster_centers_, np.bincount(model.labels_, minlength=count)
    counts = np.zeros((count, classes), dtype=np.int64)
    np.add.at(counts, (model.predict(labelled), labels), 1)
    class_means = np.stack([labelled[labels == k].mean(0) for k in range(classes)])
    distances = np.linalg.norm(centres[:, None] - class_means, axis=2)
    order = match_clusters(counts, distances, components=config.components)
    means = torch.from_numpy(np.array(centres[order])).float()
    weights = torch.from_numpy(sizes[order]).reshape(classes, config.components)
    return InitialMeans(means, (weights + 1).float())


def means_from_labels(latents: TrainingLatents) -> InitialMeans:
    """Means of the labelled rows of each class, without a matrix of rows and classes."""
    x, labels = latents.labelled[:, : latents.dims].detach().double().cpu(), latents.labels.cpu()
    counts = torch.bincount(labels, minlength=latents.classes)[:, None]
    sums = torch.zeros(latents.classes, x.shape[1], dtype=x.dtype).index_add_(0, labels, x)
    return InitialMeans((sums / counts).float(), (counts + 1).float())


def label_responsibilities(latents: TrainingLatents, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Labelled rows `(L, D)` and their labels as responsibilities `(L, K)`."""
    return latents.labelled, latents.label_indicators


def logistic_regression(latents: TrainingLatents, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All rows, the unlabelled rows with the probabilities of a logistic regression.

    With few labels these means vary less than those of the labelled rows alone.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(latents.unlabelled):
        return label_responsibilities(latents, generator)
    x = torch.cat([latents.labelled, latents.unlabelled])
    if latents.classes == 1:
        return x, torch.ones(len(x), 1, dtype=torch.float64)
    model = LogisticRegression(max_iter=500)
    with single_thread_no_warnings():
        model.fit(latents.labelled.double().cpu().numpy(), latents.labels.cpu().numpy())
    probabilities = torch.from_numpy(model.predict_proba(latents.unlabelled.double().cpu().numpy()))
    return x, torch.cat([latents.label_indicators.cpu(), probabilities]).to(x.device)


def label_spreading(latents: TrainingLatents, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows that labels reach along a graph of nearest neighbours (Zhou et al., 2004).

    Of very many unlabelled rows a sample is used. Labelled rows keep their label; rows that no label reaches
    are left out.
    """
    from sklearn.neighbors import NearestNeighbors

    size = int((GRAPH_OPERATIONS / latents.labelled.shape[1]) ** 0.5)
    labels = len(latents.labels)
    index = subsample(len(latents.unlabelled), max(size - labels, size // 2), generator)
    x = torch.cat([latents.labelled, latents.unlabelled[index.to(latents.unlabelled.device)]])
    if len(x) < 2:
        return label_responsibilities(latents, generator)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x) - 1)).fit(x.float().cpu().numpy())
    distance, neighbour = search.kneighbors()
    start = np.zeros((len(x), latents.classes), dtype=np.float32)
    start[:labels] = latents.label_indicators.float().cpu().numpy()
    graph = normalise_graph(affinity(distance, neighbour, distance[:, -1]))
    mass = propagate_labels(graph, start, alpha=ALPHA)
    reached = torch.from_numpy(mass.sum(1) > TINY)
    responsibilities = torch.from_numpy(normalise_rows(mass)).double()
    responsibilities[:labels] = latents.label_indicators.cpu()
    return x[reached.to(x.device)], responsibilities[reached]


def class_means(soft_labels: SoftLabels) -> Initialiser:
    """Initialiser by the class means of rows with soft labels."""

    def initialise(config: GMMConfig, latents: TrainingLatents, generator: torch.Generator) -> InitialMeans:
        latents.require_every_class()
        if config.components == 1 and not len(latents.unlabelled):
            return means_from_labels(latents)
        x, responsibilities = soft_labels(latents, generator)
        x = x[:, : latents.dims]
        responsibilities = component_responsibilities(x, responsibilities, config.components, generator)
        return means_from_responsibilities(
            x, responsibilities, classes=latents.classes, scale=config.scale, generator=generator
        )

    return initialise


def means_from_responsibilities(
    x: Tensor, responsibilities: Tensor, *, classes: int, scale: float, generator: torch.Generator
) -> InitialMeans:
    """Means of the rows `x` `(N, d)` weighted by the `responsibilities` `(N, K C)` of the components.

    The mean of a component without rows lies a tenth of `scale` from the mean of its class, in a random
    direction: two components with the same mean would never separate. The weights within a class count rows,
    and one more row for each component.
    """
    x, responsibilities = x.detach().double().cpu(), responsibilities.double().cpu()
    components = responsibilities.shape[1] // classes
    mass = responsibilities.sum(0)
    means = (responsibilities.T @ x) / mass.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    empty = mass == 0
    if empty.any():
        by_class = mass.reshape(classes, components)
        centres = (by_class[..., None] * means.reshape(classes, components, -1)).sum(1)
        centres = (centres / by_class.sum(1, keepdim=True)).repeat_interleave(components, 0)
        noise = torch.randn(means.shape, generator=generator, dtype=torch.float64)
        noise *= 0.1 * scale / noise.norm(dim=1, keepdim=True)
        means = torch.where(empty[:, None], centres + noise, means)
    return InitialMeans(means.float(), (mass.reshape(classes, components) + 1).float())


INITIALISERS: dict[str, Initialiser] = {
    "labelled": class_means(label_responsibilities),
    "logistic_regression": class_means(logistic_regression),
    "label_spreading": class_means(label_spreading),
    "kmeans": kmeans_means,
    "latent": class_means(label_responsibilities),  # until the end of the warm-up, see training.warm_up
    "random": random_means,
    "simplex": simplex_means,
    "given": recipe_means,
}

USES_UNLABELLED = frozenset({"logistic_regression", "label_spreading", "kmeans"})
"""Initialisers that read unlabelled rows; for the others these need not go through the flow."""
