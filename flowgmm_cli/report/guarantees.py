"""The section on doubtful rows: the errors that abstention avoids, and sets of classes with a coverage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.conformal import HeldOutLabels, risk_coverage
from flowgmm_cli.errors import DataError
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import ACCENT, GREY, SECOND, figure_style, new_axes
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COVERAGES = (0.8, 0.9, 0.95, 0.99)
CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_MIN_SHARE = 0.05  # of a curve; the error rate of fewer rows says little


def guarantees_section(context: ReportContext) -> Iterator[Part]:
    """Errors by the share of answered rows, and coverage and size of sets of classes."""
    held_out = context.trained.held_out
    sides = [("rows held out in training", held_out)] if len(held_out) else []
    test = context.validation
    known = np.flatnonzero(test.rows.labels >= 0)
    if len(known) and test.name != "held-out rows":
        encoded = test.encoded
        p_unknown = encoded.latents.p_unknown().double().numpy()[known]
        log_p, labels = encoded.log_posterior.double().numpy()[known], test.rows.labels[known]
        sides.append((test.name, HeldOutLabels.collect(log_p, labels, p_unknown, exact=True)))
    if not sides:
        raise UnavailableError("No label was held out, so nothing is known about errors by confidence.")
    yield Paragraph(
        "`flowgmm predict --min-confidence 0.8` leaves rows with a lower confidence without a prediction, "
        "and `--coverage 0.9` gives each row the set of classes that holds the right one for about 90 % of "
        "such rows."
    )
    names = " and ".join(f"{len(rows):,} {name}" for name, rows in sides)
    caption = (
        f"Error rate among the most confident rows, for {names}. At the right end every row is answered; on "
        "the way to the left the least confident rows are left out. Where the curve falls to the left, the "
        "confidence tells right predictions from wrong ones."
    )
    yield plot(risk_figure(sides), name="risk-coverage", caption=caption)
    yield _answers_table(sides)
    if len(known) and len(held_out):
        yield _sets_table(context, held_out, encoded, known, test.rows.labels[known])


@figure_style()
def risk_figure(sides: Sequence[tuple[str, HeldOutLabels]]) -> Figure:
    """Draw error rate by share of answered rows, a curve for each of the named rows."""
    figure, axes = new_axes(7.2, 3.6, "Errors by the share of answered rows", "most confident rows first")
    for (name, rows), colour in zip(sides, (SECOND, ACCENT), strict=False):
        shares, errors = risk_coverage(rows.confidence, rows.correct)
        drawn = shares >= min(_MIN_SHARE, shares[-1])
        label = f"{name} · {errors[-1]:.1%} errors in all"
        axes.plot(shares[drawn], errors[drawn], color=colour, linewidth=1.6, label=label)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share of answered rows", ylabel="error rate among them")
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, labelcolor=GREY)
    return figure


def _answers_table(sides: Sequence[tuple[str, HeldOutLabels]]) -> Table:
    columns, lines = ["least confidence"], []
    for name, _ in sides:
        columns += [f"answered, {name}", "right"]
    for least in CONFIDENCES:
        line = [f"{least:g}"]
        for _, rows in sides:
            answered, correct = rows.count_answers(least)
            line += [percent(answered / len(rows)), percent(correct / answered) if answered else "-"]
        lines.append(line)
    caption = "Share of the rows with at least this confidence, and share of right predictions among them."
    return Table(columns, lines, caption, right=columns)


def _sets_table(
    context: ReportContext,
    held_out: HeldOutLabels,
    encoded: ScoreInputs,
    known: np.typing.NDArray[np.intp],
    labels: np.typing.NDArray[np.int64],
) -> Table:
    name, lines = context.validation.name, []
    log_p = encoded.log_posterior.double().numpy()[known]
    for coverage in COVERAGES:
        try:
            thresholds = held_out.class_thresholds(coverage, context.class_names, by_class=False)
        except DataError as error:
            lines.append(
                [f"{coverage:g}", None, None, None, f"needs {error.message.partition(' needs ')[2]}"]
            )
            continue
        sets = thresholds.sets(log_p)
        sizes, covered = sets.sum(1), sets[np.arange(len(labels)), labels]
        note = f"{percent((sizes == 0).mean())} empty" if (sizes == 0).any() else ""
        cells = [percent(covered.mean()), f"{sizes.mean():.2f}", percent((sizes == 1).mean())]
        lines.append([f"{coverage:g}", *cells, note])
    columns = ["coverage", f"measured on {name}", "classes in the mean", "a single class", ""]
    caption = (
        f"Sets of classes by {pluralise(len(held_out), 'label')} that training held out, on "
        f"{len(labels):,} {name}. A set is empty where no class is likely enough."
    )
    return Table(columns, lines, caption, right=columns[:4])
