"""Maps of the rows: the latent space with its Gaussians, and decision regions of two features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Rows, ScoreInputs
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import GREY, INK, PALE, class_colours, figure_style, label_points, new_axes
from flowgmm_cli.report.page import Part, plot
from flowgmm_cli.report.text import percent, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm_cli.trained_model import TrainedModel

Matrix = npt.NDArray[np.floating[Any]]
MAX_ROWS = 6000  # of more rows a random sample is drawn
MAX_CLASSES = 40  # of a whole map
LARGEST_CLASSES = 12  # that have a colour, ellipses and a name in the map of more classes
STEPS = 240  # cells of the grid along each axis
MAX_REGIONS = 200  # more classes have no distinguishable regions and no figure
MAX_BOUNDARIES = 20  # of more classes no boundaries are drawn
UNLABELLED = "#4b5560"
_EXPECTED_OUTSIDE = float(np.exp(-2))  # share of a Gaussian in a plane beyond 2 standard deviations


@dataclass(frozen=True)
class LatentRows:
    """Rows in the latent space, and the mixture."""

    z: Matrix  # latent vectors `(N, D)`, D at least 2
    labels: npt.NDArray[np.integer[Any]]  # true classes `(N,)`, -1 where unknown
    means: Matrix  # of the components, `(K C, D)`, class by class, C for each
    scales: Matrix  # standard deviations of the components, `(K C, D)`
    class_names: Sequence[str]


def latent_section(context: ReportContext) -> Iterator[Part]:
    """The validation rows in two dimensions of the latent space."""
    trained, validation = context.trained, context.validation
    if trained.preprocessor.dim < 2:
        raise UnavailableError("The latent space has one dimension only, so there is no map to draw.")
    rows = latent_rows(trained, validation.encoded, validation.rows.labels)
    dims, members = rows.z.shape[1], len(trained.model.parts)
    caption = (
        f"Each dot is one of the {validation.name} in the latent space of the flow, coloured by its true "
        "class; crosses are the means of the classes' Gaussians. Dots around the cross of their own colour "
        "are well separated; dots amid another colour are errors."
    )
    if dims > 2:
        caption += (
            f" The latent space has {dims} dimensions; this is the plane in which the means differ most, so "
            "classes that overlap here may still be separated."
        )
    if members > 1:
        caption += f" The figure shows the first of {members} members."
    if (classes := len(rows.class_names)) > MAX_CLASSES:
        caption += (
            f" Of the {classes:,} classes the {LARGEST_CLASSES} with the most of these rows have a colour, "
            "ellipses and a name; dots of the others are grey."
        )
    elif (rows.labels < 0).any():
        caption += " Grey dots have no known class."
    share = share_outside(rows)
    if share > 2 * _EXPECTED_OUTSIDE:
        caption += (
            f" {percent(share, 0)} of the dots lie outside the outer ellipses of their class, where "
            f"{percent(_EXPECTED_OUTSIDE, 0)} of draws from the Gaussians would. Training weighs the "
            "separation of the classes more than the fit of the Gaussians, so rows move away from the other "
            "classes, past the mean of their own; by itself that is no sign of wrong predictions."
        )
    yield plot(latent_figure(rows), name="latent", caption=caption)


def latent_rows(trained: TrainedModel, rows: ScoreInputs, labels: npt.NDArray[np.integer[Any]]) -> LatentRows:
    """Return rows beside the mixture of the model, or of an ensemble's first member."""
    means, scales = (
        values.detach().double().cpu().numpy() for values in trained.model.parts[0].mixture.moments()
    )
    return LatentRows(rows.latents.z.double().numpy(), labels, means, scales, trained.class_names)


def share_outside(rows: LatentRows) -> float:
    """Share of the rows that lie outside the ellipses at 2 standard deviations of their class."""
    plane, components = discriminant_plane(rows.z, rows.means), len(rows.means) // len(rows.class_names)
    outside, classes = 0, np.unique(rows.labels[rows.labels >= 0])
    for index in classes.tolist():
        z, distances = rows.z[rows.labels == index], []
        for component in range(index * components, (index + 1) * components):
            offsets = (z - rows.means[component]) @ plane
            inverse = np.linalg.pinv((plane.T * rows.scales[component] ** 2) @ plane)
            distances.append(np.einsum("nd,de,ne->n", offsets, inverse, offsets))
        outside += int((np.min(distances, axis=0) > 4).sum())
    return outside / max(int((rows.labels >= 0).sum()), 1)


def largest_classes(rows: LatentRows) -> npt.NDArray[np.intp]:
    """Return all classes; of many those with the most rows."""
    classes = len(rows.class_names)
    counts = np.bincount(rows.labels[rows.labels >= 0], minlength=classes)
    return np.sort(
        np.argsort(-counts, kind="stable")[: LARGEST_CLASSES if classes > MAX_CLASSES else classes]
    )


@figure_style()
def latent_figure(rows: LatentRows, *, title: str = "Latent space") -> Figure:
    """Draw rows coloured by true class, means as crosses, and ellipses at one and two standard deviations.

    More than two dimensions are projected, see `discriminant_plane`; an ellipse is then the outline of the
    projected Gaussian. Of many rows a random sample is drawn; of many classes `largest_classes` have a
    colour, ellipses and a name.
    """
    plane, classes = discriminant_plane(rows.z, rows.means), largest_classes(rows)
    points = rows.z @ plane
    # means `(K, C, 2)` and covariances `(K, C, 2, 2)` of the K classes that are drawn
    means, scales = (
        values.reshape(len(rows.class_names), -1, rows.z.shape[1])[classes]
        for values in (rows.means, rows.scales)
    )
    means, covariances = means @ plane, (plane.T * scales[..., None, :] ** 2) @ plane
    subtitle = f"{len(points):,} rows by true class · ellipses at 1 and 2 standard deviations"
    figure, axes = new_axes(6.4, 6.2, title, subtitle)
    colours = class_colours(len(classes))
    palette = np.full(len(rows.class_names) + 1, PALE)  # the last is that of unknown rows, -1
    palette[classes] = colours
    # in random order, so that no class lies on top of the others; grey rows below them
    order = np.random.default_rng(0).permutation(len(points))[:MAX_ROWS]
    size, dots = float(np.clip(24_000 / max(len(order), 1), 5, 26)), palette[rows.labels[order]]
    for part in (dots == PALE, dots != PALE):
        x, y = points[order[part]].T
        axes.scatter(x, y, s=size, c=dots[part], alpha=0.6, linewidths=0, zorder=2, rasterized=True)
    for colour, *components in zip(colours, means, covariances, strict=True):
        for mean, covariance in zip(*components, strict=True):
            _draw_component(axes, mean, covariance, colour)
    _set_limits(axes, points, means, 2 * np.sqrt(np.diagonal(covariances, axis1=2, axis2=3)))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=PALE)
    axes.set_aspect("equal", adjustable="box")
    if (dims := rows.z.shape[1]) > 2:
        text = f"the plane of {dims} dimensions in which the means differ most"
        axes.set_xlabel(text, loc="left", fontsize=9, color=GREY)
    names = [rows.class_names[index] for index in classes]
    label_points(axes, means.mean(1), names, colours, points[:MAX_ROWS])
    return figure


def discriminant_plane(z: Matrix, means: Matrix) -> Matrix:
    """Return the plane, orthonormal `(D, 2)`, that shows most of the differences between components.

    Its axes are the first two principal axes of the means. The means of two components span one axis only;
    the second is then the principal axis of the rows `(N, D)` at right angles to it. Two dimensions keep
    their axes. The principal axes of the rows themselves would mostly show the widths of the Gaussians.
    """
    if z.shape[1] == 2:
        return np.eye(2)
    _, sizes, axes = np.linalg.svd(means - means.mean(0), full_matrices=False)
    # a remainder of the size of rounding errors is no direction
    axes = axes[sizes > 1e-6 * max(sizes[0], 1e-300)][:2]
    if len(axes) < 2:
        rows = z - z.mean(0)
        rows = rows - rows @ axes.T @ axes
        axes = np.concatenate([axes, np.linalg.eigh(rows.T @ rows)[1].T[::-1]])[:2]
    signs = np.sign(axes[[0, 1], np.abs(axes).argmax(1)])  # reproducible
    plane: Matrix = (axes * signs[:, None]).T
    return plane


def _draw_component(axes: Axes, mean: Matrix, covariance: Matrix, colour: str) -> None:
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(covariance)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": colour, "linewidth": 1.5, "zorder": 3}
    for radius, alpha in ((1, 1.0), (2, 0.55)):
        size = (2 * radius * np.sqrt(np.maximum(values[::-1], 0))).tolist()
        axes.add_patch(Ellipse(mean.tolist(), *size, angle=angle, alpha=alpha, **style))
    axes.plot(*mean, marker="X", markersize=10, mec="white", mew=1.4, color=colour, zorder=7)


def _set_limits(axes: Axes, points: Matrix, means: Matrix, radii: Matrix) -> None:
    """Show a square around the ellipses and 99 % of the rows; outliers must not shrink the rest to a dot."""
    low = np.minimum(np.quantile(points, 0.005, axis=0), (means - radii).min((0, 1)))
    high = np.maximum(np.quantile(points, 0.995, axis=0), (means + radii).max((0, 1)))
    centre, half = (low + high) / 2, float((high - low).max()) / 2 * 1.06 + 1e-9
    limits = np.stack([centre - half, centre + half])
    axes.set(xlim=limits[:, 0], ylim=limits[:, 1])
    outside = int((np.abs(points - centre) > half).any(1).sum())
    if outside:
        text = f"{outside:,} row{'s lie' if outside > 1 else ' lies'} outside"
        axes.text(0.99, 0.01, text, transform=axes.transAxes, ha="right", fontsize=8, color=GREY)


@dataclass(frozen=True)
class FeaturePlane:
    """A grid over two features with the predictions of the model."""

    x: Matrix  # x, y: coordinates of the grid, `(W,)` and `(H,)`
    y: Matrix
    probabilities: Matrix  # posteriors `(H, W, K)`
    log_density: Matrix  # of the untransformed features, `(H, W)`
    rows: Matrix  # training rows `(N, 2)`
    labels: npt.NDArray[np.integer[Any]]  # their visible labels `(N,)`, -1 for rows without
    class_names: Sequence[str]
    feature_names: Sequence[str]  # names of x and y


def predict_plane(trained: TrainedModel, rows: Rows) -> FeaturePlane | None:
    """Predict a grid around training rows; None for other than two numeric features or very many classes."""
    import torch

    from flowgmm_cli.data.tensors import Tensors

    preprocessor = trained.preprocessor
    columns = preprocessor.columns
    is_numeric = all(column.kind in ("numeric", "vector") for column in columns)
    if len(preprocessor.feature_names) != 2 or not is_numeric or len(trained.class_names) > MAX_REGIONS:
        return None
    cells = [np.asarray(rows.columns[column.name], dtype=np.float64) for column in columns]
    points = np.concatenate([values.reshape(len(values), -1) for values in cells], axis=1)
    finite = np.isfinite(points).all(1)
    x, y = grid_axes(points[finite])
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    labels = torch.full((len(grid),), -1)
    tensors = Tensors(*preprocessor.transform_features(grid), labels, np.arange(len(grid)).astype(str))
    outputs, shape = trained.encode_rows(tensors), (len(y), len(x))
    probabilities = outputs.log_posterior.exp().numpy().reshape(*shape, -1)
    log_density = outputs.log_density.numpy().reshape(shape)
    names = trained.class_names, preprocessor.feature_names
    return FeaturePlane(x, y, probabilities, log_density, points[finite], rows.labels[finite], *names)


def grid_axes(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Return coordinates `(STEPS,)` along both axes that cover rows `(N, 2)` and a margin around them."""
    low, high = np.quantile(rows, [0.002, 0.998], axis=0)
    margin = np.maximum(0.16 * (high - low), 1e-6)
    x, y = np.linspace(low - margin, high + margin, STEPS).T
    return x, y


@figure_style()
def regions_figure(plane: FeaturePlane) -> Figure:
    """Draw the plane in the colours of the classes, paler where the model is unsure, with contours of p(x).

    Unlabelled rows are small grey dots, labelled ones large in the colour of their class.
    """
    labelled = int((plane.labels >= 0).sum())
    subtitle = f"{labelled:,} labelled and {len(plane.labels) - labelled:,} unlabelled training rows"
    figure, axes = new_axes(7.0, 5.6, "Decision regions", subtitle)
    colours = class_colours(plane.probabilities.shape[2])
    _draw_posterior(axes, plane, colours)
    _draw_density(axes, plane)
    _draw_training_rows(axes, plane, colours)
    figure.legend(loc="outside right upper", handletextpad=0.4)
    x_name, y_name = (shorten(name, 40) for name in plane.feature_names)
    axes.set(xlim=plane.x[[0, -1]], ylim=plane.y[[0, -1]], xlabel=x_name, ylabel=y_name)
    axes.spines[["top", "right"]].set_visible(True)
    return figure


def _draw_posterior(axes: Axes, plane: FeaturePlane, colours: Sequence[str]) -> None:
    """Colour the plane, and draw white lines where the most probable class changes."""
    from matplotlib.colors import to_rgb

    p, classes = plane.probabilities, len(colours)
    # 0 where all classes are equally probable, 1 where the model is certain
    certainty = ((p.max(2) - 1 / classes) / (1 - 1 / classes))[..., None]
    hue = p @ np.array([to_rgb(colour) for colour in colours])
    image = 1 - (0.10 + 0.42 * certainty) * (1 - hue)
    extent = (plane.x[0], plane.x[-1], plane.y[0], plane.y[-1])
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="bilinear", zorder=0)
    for k in range(classes if classes <= MAX_BOUNDARIES else 0):
        lead = p[..., k] - np.delete(p, k, axis=2).max(2)
        if lead.min() < 0 < lead.max():
            axes.contour(plane.x, plane.y, lead, levels=[0], colors="white", linewidths=1.8, zorder=1)


def _draw_density(axes: Axes, plane: FeaturePlane) -> None:
    """Draw contours of p(x) that hold about 50, 80 and 95 % of its mass on the plane."""
    flat = np.sort(plane.log_density[np.isfinite(plane.log_density)])[::-1]
    if not len(flat):
        return
    mass = np.cumsum(np.exp(flat - flat[0]))
    levels = sorted({float(flat[np.searchsorted(mass, share * mass[-1])]) for share in (0.5, 0.8, 0.95)})
    finite = np.where(np.isfinite(plane.log_density), plane.log_density, flat[-1])
    axes.contour(plane.x, plane.y, finite, levels, colors=INK, linewidths=0.8, alpha=0.45, zorder=2)


def _draw_training_rows(axes: Axes, plane: FeaturePlane, colours: Sequence[str]) -> None:
    """Draw the rows, and dots without a place for the legend."""
    dot: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "white"}
    for index, (colour, name) in enumerate(zip(colours, plane.class_names, strict=True)):
        x, y = plane.rows[plane.labels == index].T
        axes.scatter(x, y, s=95, color=colour, edgecolors="white", linewidths=1.8, zorder=5)
        if len(colours) <= MAX_CLASSES:
            axes.plot([], [], markersize=8.5, color=colour, label=shorten(name), **dot)
    x, y = plane.rows[plane.labels < 0].T
    axes.scatter(x, y, s=7, color=UNLABELLED, alpha=0.35, linewidths=0, zorder=3)
    axes.plot([], [], markersize=3.5, color=UNLABELLED, label="unlabelled", **dot)
    axes.plot([], [], color=INK, linewidth=0.8, alpha=0.5, label="density p(x)")
