"""A map of groups of rows beside the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.inference.discovery import Discovery
from flowgmm_cli.inference.embedding import map_rows
from flowgmm_cli.report.figures import GREY, PALE, class_colours, figure_style, label_points, new_axes
from flowgmm_cli.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 3000  # of more rows a random sample is drawn
MAX_NAMES = 40  # groups or classes whose names are written


@figure_style()
def groups_figure(discovery: Discovery, names: Sequence[str]) -> Figure:
    """Draw a t-SNE map of the inputs of the flow: groups in colour, rows of classes in grey.

    `names` are those of the groups. A name stands at the median of its rows; of more than `MAX_NAMES` only
    the largest groups have one, and then classes have none.
    """
    labels, scores = discovery.groups.labels, discovery.scores
    drawn = np.flatnonzero(scores.scorable & (discovery.searched | (scores.labels >= 0)))
    rows = np.sort(np.random.default_rng(0).permutation(drawn)[:MAX_ROWS])
    vectors = np.zeros((len(labels), 2)) if scores.vectors is None else scores.vectors
    points, groups = map_rows(vectors[rows], "tsne")[:, :2], labels[rows]
    count = len(discovery.groups)
    subtitle = f"{len(rows):,} rows · t-SNE of the features · grey: rows of the classes or of no group"
    figure, axes = new_axes(7.2, 6.6, f"{count} group{'s' if count != 1 else ''} of unknown kinds", subtitle)
    palette = np.array([*class_colours(count), PALE])
    size = float(np.clip(24_000 / max(len(rows), 1), 6, 26))
    for part in (groups < 0, groups >= 0):
        x, y = points[part].T
        axes.scatter(x, y, s=size, c=palette[groups[part]], alpha=0.6, linewidths=0, rasterized=True)
    places, texts, colours = [], [], []
    for group in range(min(count, MAX_NAMES)):
        if (members := groups == group).any():
            places.append(np.median(points[members], axis=0))
            texts.append(shorten(names[group], 30))
            colours.append(str(palette[group]))
    classes = np.where(groups < 0, scores.classes[rows], -1)
    if len(scores.class_names) + len(places) <= MAX_NAMES:
        for index, name in enumerate(scores.class_names):
            if (members := classes == index).any():
                places.append(np.median(points[members], axis=0))
                texts.append(shorten(name, 30))
                colours.append(GREY)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=PALE)
    if places:
        label_points(axes, np.array(places), texts, colours, points)
    return figure
