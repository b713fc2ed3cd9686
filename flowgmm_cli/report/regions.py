"""Decision regions of a model of two features: the plane coloured by posterior, with the rows in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.report.figures import FAINT, INK, class_colours, heading, new_figure, plain, shorten, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Matrix = npt.NDArray[np.floating[Any]]
STEPS = 240
"""Cells of the grid along each axis."""


@dataclass(frozen=True)
class Plane:
    """A grid over two features with what the model says of each cell.

    Attributes:
        x, y: the grid's coordinates, `(W,)` and `(H,)`.
        probabilities: posteriors `(H, W, K)`.
        log_density: `(H, W)`, of the features as they are.
        rows: training rows `(N, 2)`.
        labels: their visible labels `(N,)`, -1 where there is none.
        class_names: K names.
        feature_names: names of x and y.
    """

    x: Matrix
    y: Matrix
    probabilities: Matrix
    log_density: Matrix
    rows: Matrix
    labels: npt.NDArray[np.integer[Any]]
    class_names: Sequence[str]
    feature_names: Sequence[str]


def grid_over(rows: Matrix, *, margin: float = 0.16) -> tuple[Matrix, Matrix]:
    """Coordinates `(STEPS,)` along both axes that cover rows `(N, 2)` and a margin around them."""
    low, high = np.quantile(rows, [0.002, 0.998], axis=0)
    room = np.maximum((high - low) * margin, 1e-6)
    x, y = (np.linspace(low[axis] - room[axis], high[axis] + room[axis], STEPS) for axis in (0, 1))
    return x, y


def regions_figure(found: Plane, *, title: str = "Decision regions") -> Figure:
    """The plane in the colours of the classes, paler where the model is unsure, with contours of p(x).

    Unlabelled rows are small grey dots, labelled ones large in the colour of their class.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.lines import Line2D

    figure = new_figure(7.0, 5.6)
    axes = figure.subplots()
    classes = found.probabilities.shape[2]
    colours = class_colours(classes)
    palette = np.array([to_rgb(colour) for colour in colours])
    best = found.probabilities.max(2)
    # 0 where all classes are alike, 1 where one is certain
    certainty = ((best - 1 / classes) / (1 - 1 / classes))[..., None]
    hue = found.probabilities @ palette
    image = 1 - (0.10 + 0.42 * certainty) * (1 - hue)
    extent = (found.x[0], found.x[-1], found.y[0], found.y[-1])
    axes.imshow(image, origin="lower", extent=extent, aspect="auto", interpolation="bilinear", zorder=0)
    for k in range(classes if classes <= 20 else 0):
        lead = found.probabilities[..., k] - np.delete(found.probabilities, k, axis=2).max(2)
        if lead.min() < 0 < lead.max():
            axes.contour(found.x, found.y, lead, levels=[0], colors="white", linewidths=1.8, zorder=1)
    _density(axes, found)

    seen = found.labels >= 0
    axes.scatter(
        found.rows[~seen, 0], found.rows[~seen, 1], s=7, color="#4b5560", alpha=0.35, linewidths=0, zorder=3
    )
    for k in np.unique(found.labels[seen]):
        rows = found.rows[found.labels == k]
        axes.scatter(
            rows[:, 0], rows[:, 1], s=95, color=colours[k], edgecolors="white", linewidths=1.8, zorder=5
        )
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            markersize=8.5,
            color=colour,
            markeredgecolor="white",
            label=shorten(name),
        )
        for colour, name in zip(colours, found.class_names, strict=True)
    ]
    handles.append(
        Line2D([], [], marker="o", linestyle="", markersize=3.5, color="#4b5560", label="unlabelled")
    )
    handles.append(Line2D([], [], color=INK, linewidth=0.8, alpha=0.5, label="density p(x)"))
    legend = figure.legend(
        handles=handles,
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.4,
    )
    plain(*legend.get_texts())
    axes.set(xlim=extent[:2], ylim=extent[2:])
    axes.set_xlabel(shorten(found.feature_names[0], 40))
    axes.set_ylabel(shorten(found.feature_names[1], 40))
    plain(axes.xaxis.label, axes.yaxis.label)
    tidy(axes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color(FAINT)
    heading(axes, title, f"{int(seen.sum()):,} labelled and {int((~seen).sum()):,} unlabelled training rows")
    return figure


def _density(axes: Any, found: Plane) -> None:
    """Contours of p(x) that hold about 50, 80 and 95 % of its mass on the plane."""
    flat = np.sort(found.log_density[np.isfinite(found.log_density)])[::-1]
    if not len(flat):
        return
    mass = np.cumsum(np.exp(flat - flat[0]))
    levels = sorted({float(flat[np.searchsorted(mass, share * mass[-1])]) for share in (0.5, 0.8, 0.95)})
    finite = np.where(np.isfinite(found.log_density), found.log_density, flat[-1])
    axes.contour(
        found.x,
        found.y,
        finite,
        levels=levels,
        colors=INK,
        linewidths=0.8,
        alpha=0.45,
        linestyles="solid",
        zorder=2,
    )
