"""Decision regions of a model of two features: the plane coloured by posterior, with the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.report.figures import (
    FAINT,
    INK,
    class_colours,
    disable_math,
    new_figure,
    set_title,
    shorten,
    style_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from flowgmm_cli.data.prepare import SplitRows
    from flowgmm_cli.trained_model import TrainedModel

Matrix = npt.NDArray[np.floating[Any]]
STEPS = 240  # cells of the grid along each axis
MAX_BOUNDARIES = 20  # of more classes no boundaries are drawn
UNLABELLED = "#4b5560"


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


def predict_plane(trained: TrainedModel, rows: SplitRows, context: DataContext) -> FeaturePlane | None:
    """Predict a grid around the training rows; None unless the model has exactly two numeric features."""
    names = trained.preprocessor.feature_names
    columns = trained.preprocessor.columns
    if len(names) != 2 or any(column.kind not in ("numeric", "vector") for column in columns):
        return None
    cells = [np.asarray(rows.train.columns[column.name], dtype=np.float64) for column in columns]
    points = np.concatenate([values.reshape(len(values), -1) for values in cells], axis=1)
    finite = np.isfinite(points).all(1)
    x, y = grid_axes(points[finite])
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    widths = [int(np.prod(column.shape, dtype=int)) for column in columns]
    split = np.split(grid, np.cumsum(widths)[:-1], axis=1)
    values = {
        column.name: part.reshape(len(grid), *column.shape)
        for column, part in zip(columns, split, strict=True)
    }
    ids = np.array([f"cell:{index}" for index in range(len(grid))], dtype=object)
    grid_rows = Rows(values, np.full(len(grid), -1), ids)
    predictions = trained.predict(trained.preprocessor.apply(grid_rows, context))
    shape = (len(y), len(x))
    return FeaturePlane(
        x=x,
        y=y,
        probabilities=np.exp(predictions.log_probabilities).reshape(*shape, -1),
        log_density=predictions.log_density.reshape(shape),
        rows=points[finite],
        labels=rows.train.labels[finite],
        class_names=trained.class_names,
        feature_names=names,
    )


def grid_axes(rows: Matrix, *, margin: float = 0.16) -> tuple[Matrix, Matrix]:
    """Return coordinates `(STEPS,)` along both axes that cover rows `(N, 2)` and a margin around them."""
    low, high = np.quantile(rows, [0.002, 0.998], axis=0)
    space = np.maximum((high - low) * margin, 1e-6)
    x, y = (np.linspace(low[axis] - space[axis], high[axis] + space[axis], STEPS) for axis in (0, 1))
    return x, y


def regions_figure(plane: FeaturePlane, *, title: str = "Decision regions") -> Figure:
    """Draw the plane in the colours of the classes, paler where the model is unsure, with contours of p(x).

    Unlabelled rows are small grey dots, labelled ones large in the colour of their class.
    """
    figure = new_figure(7.0, 5.6)
    axes = figure.subplots()
    colours = class_colours(plane.probabilities.shape[2])
    _draw_posterior(axes, plane, colours)
    _draw_density(axes, plane)
    _draw_rows(axes, plane, colours)
    _draw_legend(figure, colours, plane.class_names)
    axes.set(xlim=plane.x[[0, -1]], ylim=plane.y[[0, -1]])
    axes.set_xlabel(shorten(plane.feature_names[0], 40))
    axes.set_ylabel(shorten(plane.feature_names[1], 40))
    disable_math(axes.xaxis.label, axes.yaxis.label)
    style_axes(axes)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
        axes.spines[side].set_color(FAINT)
    labelled = int((plane.labels >= 0).sum())
    unlabelled = len(plane.labels) - labelled
    set_title(axes, title, f"{labelled:,} labelled and {unlabelled:,} unlabelled training rows")
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
    style: dict[str, Any] = {"colors": INK, "linewidths": 0.8, "alpha": 0.45, "linestyles": "solid"}
    axes.contour(plane.x, plane.y, finite, levels=levels, zorder=2, **style)


def _draw_rows(axes: Axes, plane: FeaturePlane, colours: Sequence[str]) -> None:
    x, y = plane.rows[plane.labels < 0].T
    axes.scatter(x, y, s=7, color=UNLABELLED, alpha=0.35, linewidths=0, zorder=3)
    for k in np.unique(plane.labels[plane.labels >= 0]):
        x, y = plane.rows[plane.labels == k].T
        axes.scatter(x, y, s=95, color=colours[k], edgecolors="white", linewidths=1.8, zorder=5)


def _draw_legend(figure: Figure, colours: Sequence[str], names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    dot: dict[str, Any] = {"marker": "o", "linestyle": "", "markeredgecolor": "white"}
    handles = [
        Line2D([], [], markersize=8.5, color=colour, label=shorten(name), **dot)
        for colour, name in zip(colours, names, strict=True)
    ]
    handles.append(Line2D([], [], markersize=3.5, color=UNLABELLED, label="unlabelled", **dot))
    handles.append(Line2D([], [], color=INK, linewidth=0.8, alpha=0.5, label="density p(x)"))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK, "handletextpad": 0.4}
    legend = figure.legend(handles=handles, loc="outside right upper", **style)
    disable_math(*legend.get_texts())
