"""Learning curves: accuracy against the number of labels, one line per method with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.report.figures import heading, method_colours, method_name, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One method.

    Attributes:
        method: its name; `flowgmm` stands out.
        x: numbers of labels, rising.
        mean, low, high: accuracy at each, and the band around it.
    """

    method: str
    x: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curve_figure(lines: Sequence[Line], *, title: str, subtitle: str = "") -> Figure:
    """Mean lines with bands on a logarithmic axis of labels, each named at its right end."""
    figure = new_figure(7.6, 4.9)
    axes = figure.subplots()
    colours = method_colours(sorted({line.method for line in lines}))
    for line in sorted(lines, key=lambda one: one.method == "flowgmm"):
        ours = line.method == "flowgmm"
        colour = colours[line.method]
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2 if ours else 0.07, linewidth=0)
        axes.plot(
            line.x,
            line.mean,
            color=colour,
            linewidth=2.6 if ours else 1.4,
            marker="o",
            markersize=6 if ours else 4,
            markeredgecolor="white",
            markeredgewidth=0.8,
            zorder=4 if ours else 3,
        )
    ticks = sorted({x for line in lines for x in line.x})
    axes.set_xscale("log")
    axes.set_xticks(_sparse(ticks), [f"{tick:,}" for tick in _sparse(ticks)])
    axes.minorticks_off()
    if len(ticks) > 1:
        reach = (ticks[-1] / ticks[0]) ** 0.04
        axes.set_xlim(ticks[0] / reach, ticks[-1] * reach)
    axes.set(xlabel="labelled rows", ylabel="test accuracy")
    tidy(axes, grid="y")
    _names(axes, lines, colours)
    heading(axes, title, subtitle)
    return figure


def _sparse(ticks: Sequence[int]) -> list[int]:
    """Ticks whose labels do not run into each other on a logarithmic axis."""
    if len(ticks) < 2:
        return list(ticks)
    room = np.log(ticks[-1] / ticks[0]) / 14
    kept = [ticks[0]]
    for tick in ticks[1:]:
        if np.log(tick / kept[-1]) >= room:
            kept.append(tick)
    return kept


def _names(axes: Axes, lines: Sequence[Line], colours: dict[str, str]) -> None:
    """Names of the methods beside the right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    room = (high - low) * 0.052
    ends = sorted(lines, key=lambda line: line.mean[-1])
    places = _apart([line.mean[-1] for line in ends], room)
    for line, place in zip(ends, places, strict=True):
        axes.annotate(
            method_name(line.method),
            xy=(1.0, (line.mean[-1] - low) / (high - low)),
            xytext=(1.035, (place - low) / (high - low)),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=10 if line.method == "flowgmm" else 9,
            fontweight="bold" if line.method == "flowgmm" else "normal",
            color=colours[line.method],
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[line.method],
                "linewidth": 0.7,
                "shrinkA": 1,
                "relpos": (0, 0.5),
                "shrinkB": 1,
            },
        )


def _apart(values: Sequence[float], room: float) -> list[float]:
    """Rising values moved as little as need be until neighbours are `room` apart.

    >>> _apart([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    blocks: list[tuple[list[float], float]] = []  # values of a pile, and the middle of the pile
    for value in values:
        pile, middle = [value], value
        while blocks:
            before, centre = blocks[-1]
            if middle - centre >= room * (len(pile) + len(before)) / 2:
                break
            blocks.pop()
            pile = [*before, *pile]
            middle = sum(pile) / len(pile)
        blocks.append((pile, middle))
    return [
        middle + room * (place - (len(pile) - 1) / 2) for pile, middle in blocks for place in range(len(pile))
    ]
