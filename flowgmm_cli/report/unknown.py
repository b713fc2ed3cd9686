"""The section on rows of unknown kinds: their share, the distribution of `p_unknown`, the clearest rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.evaluation.unknown_rows import UnknownRows
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.report.context import NamedRows, ReportContext, UnavailableError
from flowgmm_cli.report.figures import (
    ACCENT,
    GREY,
    SECOND,
    ImageRow,
    figure_style,
    image_grid_figure,
    new_axes,
)
from flowgmm_cli.report.galleries import MAX_COLUMNS
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import format_input, shorten
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 25
MAX_ROWS = 5000  # unlabelled rows that are scored
SHOWN_ROWS = 10
SHOWN_IMAGES = 14


def unknown_section(context: ReportContext) -> Iterator[Part]:
    """Share of unknown kinds, `p_unknown` of labelled and unlabelled rows, and the most unknown rows."""
    facts, model = UnknownRows.measure(context.facts.get("unknown")), context.trained.model
    if facts is None or not model.unknown:
        raise UnavailableError(
            "No unknown kinds were found among the unlabelled rows, or they were not looked for "
            "(`prior.unknown`)."
        )
    text = facts.describe()
    yield Paragraph(
        f"{text[:1].upper()}{text[1:]}: an estimate with its 90 % interval, from the label mass that rows "
        f"receive over a graph of neighbours. `p_unknown` is the probability that a row belongs to none of "
        "the classes, by a kernel logistic regression of the scarcest rows against the labelled ones; "
        "`flowgmm discover` groups such rows."
    )
    others = _encode_others(context)
    p_others = _probabilities(context, others.encoded)
    known = _encode_known(context)
    sides = [(others.name, p_others), (known.name, _probabilities(context, known.encoded))]
    caption = (
        "Each side as shares of its own rows. Labelled rows belong to a class, so bars of theirs above 0.5 "
        "are mistakes; unlabelled rows there are of unknown kinds, or of a class that has no label near them."
    )
    yield plot(unknown_figure(sides), name="unknown", caption=caption)
    yield from _clearest_rows(context, others, p_others)


def _encode_others(context: ReportContext) -> NamedRows:
    """Encode unlabelled training rows, of many a sample."""
    rows = context.rows.train
    index = np.flatnonzero(rows.labels < 0)
    if not len(index):
        raise UnavailableError("The data has no unlabelled training rows any more.")
    rng = np.random.default_rng(derive_seed(context.trained.recipe.run.seed, "report"))
    index = np.sort(rng.choice(index, min(MAX_ROWS, len(index)), replace=False))
    return context.encode("unlabelled rows", rows.take(index))


def _encode_known(context: ReportContext) -> NamedRows:
    """Encode the held-out rows with a label, or else the labelled training rows."""
    held_out = context.rows.test if context.rows.test is not None else context.rows.val
    if held_out is not None and (held_out.labels >= 0).any():
        return context.encode("labelled rows that were held out", held_out.take(held_out.labels >= 0))
    rows = context.rows.train
    return context.encode("labelled training rows", rows.take(rows.labels >= 0))


def _probabilities(context: ReportContext, encoded: ScoreInputs) -> Floats:
    return encoded.latents.p_unknown().double().numpy()


@figure_style()
def unknown_figure(sides: Sequence[tuple[str, Floats]]) -> Figure:
    """Draw histograms of `p_unknown`, each of named rows `(N,)`, as shares of these rows."""
    rows = " and ".join(f"{len(values):,}" for _, values in sides)
    figure, axes = new_axes(7.2, 3.6, "Probability of an unknown kind", f"{rows} rows")
    edges = np.linspace(0, 1, BINS + 1)
    for (name, values), colour in zip(sides, (SECOND, ACCENT), strict=True):
        counts = np.histogram(values, edges)[0] / max(len(values), 1)
        label = f"{name} · {float((values > 0.5).mean()):.1%} above 0.5"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=label, baseline=None)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="p_unknown", ylabel="share of rows")
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, labelcolor=GREY)
    return figure


def _clearest_rows(context: ReportContext, others: NamedRows, p_unknown: Floats) -> Iterator[Part]:
    """Yield the unlabelled rows with the highest log-odds of an unknown kind, as images or as a table."""
    latents, names = others.encoded.latents, context.class_names
    if latents.unknown_log_odds is None:
        return
    order, images = (-latents.unknown_log_odds).argsort(stable=True).numpy(), others.encoded.images
    nearest = others.encoded.log_posterior.numpy().argmax(1)
    if context.trained.image is not None and images is not None:
        top: Array = order[:SHOWN_IMAGES]
        notes = [f"{p_unknown[place]:.3f}\n{shorten(names[nearest[place]], 10)}" for place in top]
        row = ImageRow("", [images.numpy()[top]], notes)
        figure = image_grid_figure([row], limits=context.image_limits, title="Most unknown images")
        caption = "Unlabelled images; under each its p_unknown and the nearest class."
        yield plot(figure, name="unknown-rows", caption=caption)
        return
    columns = context.trained.preprocessor.columns
    shown = columns[:MAX_COLUMNS]
    cells: list[list[Any]] = [
        [
            others.rows.ids[place],
            f"{p_unknown[place]:.3f}",
            names[nearest[place]],
            *(format_input(others.rows, column, place) for column in shown),
        ]
        for place in order[:SHOWN_ROWS]
    ]
    caption = "The most unknown of the unlabelled rows."
    if omitted := len(columns) - len(shown):
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    yield Table(
        ["id", "p_unknown", "nearest class", *(column.name for column in shown)],
        cells,
        caption,
        right=["p_unknown"],
    )
