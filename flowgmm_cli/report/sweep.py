"""Sweeps: one line per combination with every seed as a dot, the best at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.report.figures import ACCENT, FAINT, GREY, INK, heading, new_figure, plain, shorten, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 60
"""More combinations than this are not drawn: the worst are left out."""


@dataclass(frozen=True)
class Entry:
    """One combination: its settings in words, and the accuracy of each seed."""

    label: str
    accuracies: Sequence[float]


def sweep_figure(entries: Sequence[Entry], *, title: str, subtitle: str = "") -> Figure:
    """Dots of accuracy by combination, in the order given, the first at the top."""
    shown = list(entries[:MOST])
    left_out = len(entries) - len(shown)
    labels = [shorten(entry.label, 70) for entry in shown]
    # text of this size takes about a fourteenth of an inch a letter
    width = 5.2 + 0.075 * max(len(label) for label in labels)
    figure = new_figure(width, 1.7 + 0.29 * len(shown))
    axes = figure.subplots()
    for place, entry in enumerate(shown):
        mean = float(np.mean(entry.accuracies))
        colour = ACCENT if place == 0 else GREY
        axes.hlines(
            place, min(entry.accuracies), max(entry.accuracies), color=colour, alpha=0.45, linewidth=2
        )
        axes.plot(
            entry.accuracies,
            [place] * len(entry.accuracies),
            "o",
            color=colour,
            alpha=0.5,
            markersize=4.5,
            mew=0,
        )
        axes.plot(
            mean, place, "D", color=colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8
        )
        text = axes.annotate(
            f"{mean:.4f}",
            (1, place),
            (6, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK if place == 0 else GREY,
            annotation_clip=False,
        )
        text.set_fontweight("bold" if place == 0 else "normal")
    axes.set_yticks(range(len(shown)), labels, fontsize=8.5)
    plain(*axes.get_yticklabels())
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("test accuracy: ◆ mean, ● each seed")
    tidy(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.spines["left"].set_visible(False)
    for place in range(len(shown)):
        axes.axhline(place, color=FAINT, linewidth=0.5, zorder=0)
    rest = f" · {left_out} more, all worse, left out" if left_out else ""
    heading(axes, title, f"{subtitle}{rest}")
    return figure
