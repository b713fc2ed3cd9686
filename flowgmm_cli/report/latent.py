"""The latent space: rows by class, and the Gaussians they were pulled into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.report.figures import GREY, PALE, bare, class_colours, heading, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Matrix = npt.NDArray[np.floating[Any]]
MOST_ROWS = 6000
"""So many dots fill the paper; of more rows a part is drawn."""
MOST_NAMES = 40


@dataclass(frozen=True)
class LatentRows:
    """Rows in the latent space with the mixture they belong to.

    Attributes:
        z: `(N, D)`, D at least 2.
        labels: true classes `(N,)`, -1 where unknown.
        means: of the components, `(K C, D)`, class by class, C for each.
        scales: standard deviations of the components, `(K C, D)`.
        class_names: K names.
    """

    z: Matrix
    labels: npt.NDArray[np.integer[Any]]
    means: Matrix
    scales: Matrix
    class_names: Sequence[str]


def latent_figure(found: LatentRows, *, title: str = "Latent space", seed: int = 0) -> Figure:
    """Rows coloured by true class, means as crosses, and ellipses at one and two standard deviations.

    Of more than two dimensions a plane is shown, see `telling_plane`; an ellipse is then the outline of the
    Gaussian's projection.

    Args:
        found: rows and mixture.
        title: what stands above.
        seed: of the choice of rows where there are too many.
    """
    plane = telling_plane(found.z, found.means)
    flat, means = found.z @ plane, found.means @ plane
    spreads = [(plane.T * scales**2) @ plane for scales in found.scales]
    figure = new_figure(6.4, 6.2)
    axes = figure.subplots()
    classes = len(found.class_names)
    colours = class_colours(classes)
    components = len(means) // classes
    _dots(axes, flat, found.labels, colours, seed)
    for index, (mean, spread) in enumerate(zip(means, spreads, strict=True)):
        _component(axes, mean, spread, colours[index // components])
    if classes <= MOST_NAMES:
        middles = means.reshape(classes, components, 2).mean(1)
        _names(axes, middles, [shorten(name) for name in found.class_names], colours)
    _window(axes, flat, means, np.array([2 * np.sqrt(np.diag(spread)) for spread in spreads]))
    bare(axes)
    axes.set_aspect("equal", adjustable="box")
    if (dims := found.z.shape[1]) > 2:
        text = f"the plane of {dims} dimensions in which the means differ most"
        axes.set_xlabel(text, loc="left", fontsize=9, color=GREY)
    heading(axes, title, f"{len(flat):,} rows by true class · ellipses at 1 and 2 standard deviations")
    return figure


def telling_plane(z: Matrix, means: Matrix) -> Matrix:
    """The plane, orthonormal `(D, 2)`, that shows most of how the components differ.

    These are the two principal axes of the means; of two components, whose means span one axis only, the
    second is the principal axis of the rows `(N, D)` at right angles to it. Rows of two dimensions keep their
    own axes. The principal axes of the rows themselves would mostly show how wide the Gaussians are.
    """
    if z.shape[1] == 2:
        return np.eye(2)
    centred = means - means.mean(0)
    rows = z - z.mean(0)
    plane = np.empty((z.shape[1], 0))
    for _ in range(2):
        left = [one - (one @ plane) @ plane.T for one in (centred, rows)]
        # what rounding leaves of means on a line is no direction
        which = left[0] if np.abs(left[0]).max() > 1e-6 * max(np.abs(centred).max(), 1e-300) else left[1]
        _, vectors = np.linalg.eigh(which.T @ which)
        axis = vectors[:, -1]
        axis = axis * np.sign(axis[np.abs(axis).argmax()])  # the same sign each time
        plane = np.concatenate([plane, axis[:, None]], axis=1)
    return plane


def _dots(
    axes: Axes, flat: Matrix, labels: npt.NDArray[np.integer[Any]], colours: Sequence[str], seed: int
) -> None:
    # in random order, so that no class lies on top of the others
    order = np.random.default_rng(seed).permutation(len(flat))[:MOST_ROWS]
    size = float(np.clip(24_000 / max(len(order), 1), 5, 26))
    known = order[labels[order] >= 0]
    unknown = order[labels[order] < 0]
    axes.scatter(
        flat[unknown, 0], flat[unknown, 1], s=size, color=PALE, alpha=0.6, linewidths=0, rasterized=True
    )
    paint = np.array(colours)[labels[known]]
    axes.scatter(
        flat[known, 0], flat[known, 1], s=size, c=paint, alpha=0.6, linewidths=0, zorder=2, rasterized=True
    )


def _component(axes: Axes, mean: Matrix, covariance: Matrix, colour: str) -> None:
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(covariance)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    for radius, alpha in ((1, 1.0), (2, 0.55)):
        width, height = 2 * radius * np.sqrt(np.maximum(values[::-1], 0))
        axes.add_patch(
            Ellipse(
                (float(mean[0]), float(mean[1])),
                float(width),
                float(height),
                angle=angle,
                facecolor="none",
                edgecolor=colour,
                linewidth=1.5,
                alpha=alpha,
                zorder=3,
            )
        )
    axes.plot(
        *mean, marker="X", markersize=9, color=colour, markeredgecolor="white", markeredgewidth=1.2, zorder=5
    )


def _names(axes: Axes, means: Matrix, names: Sequence[str], colours: Sequence[str]) -> None:
    from matplotlib.patheffects import withStroke

    for mean, name, colour in zip(means, names, colours, strict=True):
        text = axes.annotate(
            name,
            mean,
            (0, 9),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9.5,
            fontweight="bold",
            color=colour,
            zorder=6,
        )
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        plain(text)


def _window(axes: Axes, flat: Matrix, means: Matrix, reach: Matrix) -> None:
    """A square around the ellipses and nearly all rows: a few far ones must not shrink the rest to a dot."""
    low = np.minimum(np.quantile(flat, 0.005, axis=0), (means - reach).min(0))
    high = np.maximum(np.quantile(flat, 0.995, axis=0), (means + reach).max(0))
    middle, half = (low + high) / 2, float((high - low).max()) / 2 * 1.06 + 1e-9
    axes.set_xlim(middle[0] - half, middle[0] + half)
    axes.set_ylim(middle[1] - half, middle[1] + half)
    outside = int((np.abs(flat - middle) > half).any(1).sum())
    if outside:
        text = f"{outside:,} row{'s lie' if outside > 1 else ' lies'} outside"
        axes.text(0.99, 0.01, text, transform=axes.transAxes, ha="right", fontsize=8, color=GREY)
