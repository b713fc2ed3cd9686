"""The section on out-of-distribution scores, and their histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.evaluation.detection import detection_metrics
from flowgmm_cli.files import read_json
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.inference.pseudo_ood import swap_features, transforms_log_det
from flowgmm_cli.report.context import NamedRows, ReportContext, UnavailableError
from flowgmm_cli.report.figures import ACCENT, GREY, INK, SECOND, figure_style, new_axes
from flowgmm_cli.report.galleries import IMAGES_PER_ROW, positions_by_quantile, score_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import percent, shorten
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.detector import Detector, reads_images
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import score_inputs

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]

BINS = 48
MAX_LINEAR_RANGE = 12.0  # in spreads of the in-distribution rows; a wider axis is asinh-scaled
MAX_ROWS = 5000  # of each side: enough for a histogram
MIN_THRESHOLD_ROWS = 200  # with fewer, a threshold of 5 % is uncertain by several points
MAX_COMPARISONS = 6  # stored comparisons in the table


def ood_section(context: ReportContext) -> Iterator[Part]:
    """Histogram of the default score, table of all scores, and stored comparisons of `flowgmm ood`."""
    detector = context.trained.detector
    if detector is None:
        raise UnavailableError("This run has no out-of-distribution scores.")
    facts = dict(context.facts.get("ood") or {})
    fpr = float(facts.get("fpr", 0.05))
    split = "held-out rows" if facts.get("held_out", "val") == "val" else "training rows"
    rows = len(detector.reference_scores(detector.default))
    text = (
        "Every row gets a score; a higher score is further out of the distribution. The default score of the "
        f"run is `{detector.default}`. Rows above {detector.threshold(detector.default, fpr):.4g} are "
        f"flagged: {percent(fpr, 0)} of the {rows:,} {split} lie above this threshold, so about as many "
        "in-distribution rows are flagged by mistake."
    )
    if rows < MIN_THRESHOLD_ROWS:
        text += " With so few rows that is a rough figure."
    yield Paragraph(text)
    try:
        yield from _comparison(context, detector, fpr)
    except FlowgmmError as error:
        yield Paragraph(f"There is no histogram: {error.message.rstrip('.')}.", "note")
    yield from _selection_table(facts)
    yield from _read_comparisons(context.run.path / "ood")


def _comparison(context: ReportContext, detector: Detector, fpr: float) -> Iterator[Part]:
    """Validation rows against the rows of `--out`, or against pseudo-OOD rows."""
    trained = context.trained
    rng = np.random.default_rng(derive_seed(trained.recipe.run.seed, "report"))
    inside = _sample(context.validation, rng)
    if context.out is not None:
        outside = _sample(context.read_rows(context.out), rng)
        origin = f"The other rows are those of {context.out}. "
    else:
        x = swap_features(inside.encoded.x, inside.encoded.x, rng)
        shuffled = score_inputs(trained.model, x, transforms_log_det(inside.encoded))
        outside = replace(inside, name="shuffled rows", encoded=shuffled)
        origin = (
            "The other rows are pseudo-OOD rows: ordinary rows with half of their features taken from other "
            "rows, so that each feature is ordinary and their combination is not. Real out-of-distribution "
            "rows may be easier or harder to detect; `flowgmm report --out FILE` shows yours. "
        )
    ordinary = detector(inside.encoded)
    components = trained.recipe.ood.scores
    of_images = {fitted.name for fitted in detector.scores if reads_images(components[fitted.component])}
    names = [name for name in ordinary if outside.encoded.images is not None or name not in of_images]
    others = detector(outside.encoded, names)
    metrics = {name: detection_metrics(ordinary[name], others[name]) for name in names}
    score = detector.default if detector.default in names else names[0]
    threshold = detector.threshold(score, fpr)
    sides = (inside.name, ordinary[score]), (outside.name, others[score])
    figure = histogram_figure(*sides, score=score, threshold=threshold, auroc=metrics[score].auroc)
    caption = (
        f"Scores of ordinary rows ({inside.name}) and others. {origin}Rows to the right of the dashed line "
        "are flagged. Less overlap is better separation: AUROC is the probability that one of the others "
        "scores higher than an ordinary row (0.5: chance, 1: always)."
    )
    yield plot(figure, name="ood", caption=caption)
    rows = []
    for name in sorted(names, key=lambda name: -metrics[name].auroc):
        item, flagged = metrics[name], float((others[name] > detector.threshold(name, fpr)).mean())
        values = (item.auroc, item.aupr_in, item.aupr_out, item.fpr95)
        rows.append([name, *(f"{value:.3f}" for value in values), percent(flagged)])
    columns = ["score", "AUROC", "AUPR-in", "AUPR-out", "FPR95", "others flagged"]
    caption = (
        f"All scores of the run on {pluralise(len(inside.rows), 'ordinary row')} and "
        f"{pluralise(len(outside.rows), 'other row')}. FPR95: share of ordinary rows flagged at the "
        "threshold that flags 95 % of the others."
    )
    yield Table(columns, rows, caption, right=columns[1:], highlight=[score])
    yield from _image_parts(context, (inside, ordinary[score]), (outside, others[score]), score, threshold)


def _sample(rows: NamedRows, rng: np.random.Generator) -> NamedRows:
    if len(rows.rows) <= MAX_ROWS:
        return rows
    index = np.sort(rng.choice(len(rows.rows), MAX_ROWS, replace=False))
    return NamedRows(rows.name, rows.rows.take(index), take_rows(rows.encoded, index))


def _image_parts(
    context: ReportContext,
    inside: tuple[NamedRows, Floats],
    outside: tuple[NamedRows, Floats],
    score: str,
    threshold: float,
) -> Iterator[Part]:
    """Images by score, if rows are images: out-of-distribution ones with pixels, and ordinary ones."""
    images, foreign = inside[0].encoded.images, outside[0].encoded.images
    if context.trained.image is None or images is None:
        return
    top = np.argsort(-inside[1], kind="stable")[:IMAGES_PER_ROW]
    others = None
    if foreign is not None:
        places = np.concatenate(positions_by_quantile(outside[1], IMAGES_PER_ROW))
        others = foreign[places].numpy(), outside[1][places]
    figure = score_figure(
        others,
        (images[top].numpy(), inside[1][top]),
        limits=context.image_limits,
        threshold=threshold,
        score=score,
        name=str(context.out) if others is not None else "",
    )
    caption = (
        "Images by score in ascending order, and the ordinary images with the highest scores; flagged images "
        "are framed. `flowgmm ood --out FILE --gallery g.png` shows those of other files."
    )
    yield plot(figure, name="ood-images", caption=caption)


def _selection_table(facts: Mapping[str, Any]) -> Iterator[Part]:
    table = facts.get("choice") or {}
    kinds = list(dict.fromkeys(kind for values in table.values() for kind in values))
    if not kinds:
        return
    rows = [
        [name, *(f"{values[kind]:.3f}" if kind in values else None for kind in kinds)]
        for name, values in table.items()
    ]
    caption = (
        "The default score was chosen without any foreign rows: AUROC of each score against pseudo-OOD rows "
        "made from the training rows, by kind of pseudo-OOD rows."
    )
    style: dict[str, Any] = {"right": kinds, "highlight": [str(facts.get("default"))]}
    yield Table(["score", *kinds], rows, caption, summary="how the default was chosen", **style)


def _read_comparisons(folder: Path) -> Iterator[Part]:
    """Read the comparisons that `flowgmm ood` has stored in the run, the newest first."""
    rows = []
    files = sorted(folder.glob("*.json"), key=lambda file: -file.stat().st_mtime)
    for file in files[:MAX_COMPARISONS]:
        try:
            values = read_json(file, "comparison")
            score, inside, outside = (str(values[key]) for key in ("score", "in", "out"))
            metrics = values["scores"][score]
            auroc, interval = float(metrics["auroc"]), metrics["intervals"]["auroc"]
            cells = [inside, outside, f"{values['n_in']:,}", f"{values['n_out']:,}", score, f"{auroc:.3f}"]
            limits = f"{interval['low']:.3f} to {interval['high']:.3f}"
            rows.append([*cells, limits, percent(values["flagged_fraction"])])
            if file == files[0]:
                sides = (inside, values["sample"]["in"]), (outside, values["sample"]["out"])
                threshold = float(values["threshold"])
                figure = histogram_figure(*sides, score=score, threshold=threshold, auroc=auroc)
                caption = f"The last comparison by `flowgmm ood`: {inside} against {outside}."
                yield plot(figure, name="ood-last", caption=caption)
        except (FlowgmmError, LookupError, TypeError, ValueError):
            continue  # damaged, or written by another program
    if rows:
        columns = ["in", "out", "rows in", "rows out", "score", "AUROC", "95 % interval", "flagged"]
        caption = "Comparisons by `flowgmm ood --in X --out Y`."
        yield Table(columns, rows, caption, right=[*columns[2:4], *columns[5:]])


@figure_style()
def histogram_figure(
    inside: tuple[str, Sequence[float] | Floats],
    outside: tuple[str, Sequence[float] | Floats],
    *,
    score: str,
    threshold: float,
    auroc: float,
) -> Figure:
    """Draw two overlapping histograms of one score, each as shares of its own rows, and the threshold.

    Both sides are a name and the scores of its rows. Rows beyond the 1 % and 99 % quantiles of both are
    counted in the outermost bars. If the other rows are very far out, the axis is linear near the
    in-distribution rows and logarithmic beyond them. The AUROC stands in the line under the title.
    """
    sides = [np.asarray(values, np.float64) for _, values in (inside, outside)]
    subtitle = f"AUROC {auroc:.3f} · {len(sides[0]):,} and {len(sides[1]):,} rows"
    figure, axes = new_axes(7.2, 3.9, "Out-of-distribution score", subtitle)
    edges, width = _bin_edges(sides[0], sides[1], threshold)
    for values, colour, name in zip(sides, (ACCENT, SECOND), (inside[0], outside[0]), strict=True):
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        label = f"{shorten(name, 40)} · {float((values > threshold).mean()):.1%} flagged"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=label, baseline=None)
    if width is not None:
        axes.set_xscale("asinh", linear_width=width)
        axes.set_xticks(_asinh_ticks(edges[0], edges[-1], width))
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.6g}")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {threshold:.4g}")
    name = score.replace("_", " ").replace("knn", "kNN")
    scale = "" if width is None else f" (log scale beyond {width:.2g})"
    axes.set(xlabel=f"{name}: higher is further out{scale}", ylabel="share of rows")
    axes.grid(axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, labelcolor=GREY)
    return figure


def _asinh_ticks(low: float, high: float, width: float) -> list[float]:
    """Return round numbers that are not too close to each other on an asinh axis."""
    powers = range(math.floor(math.log10(width)) - 1, math.ceil(math.log10(max(abs(low), abs(high)))) + 1)
    sizes = [factor * 10.0**power for factor in (1, 3, 2, 5) for power in reversed(powers)]
    least = 0.08 * (np.arcsinh(high / width) - np.arcsinh(low / width))
    ticks: list[float] = []
    for value in [0.0, *(sign * size for size in sizes for sign in (1, -1))]:
        place = np.arcsinh(value / width)
        if low <= value <= high and all(abs(np.arcsinh(tick / width) - place) > least for tick in ticks):
            ticks.append(value)
    return sorted(ticks)


def _bin_edges(inside: Floats, outside: Floats, threshold: float) -> tuple[Floats, float | None]:
    """Return the edges of the bins, and the width of the linear part of an asinh axis (None: all linear)."""
    ends = [np.quantile(values, share) for values in (inside, outside) for share in (0.01, 0.99)]
    low, high = min(*ends, threshold), max(*ends, threshold)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    margin = 0.03 * (high - low)
    spread = float(np.quantile(inside, 0.95) - np.quantile(inside, 0.05)) or (high - low)
    if high - low <= MAX_LINEAR_RANGE * spread:
        return np.linspace(low - margin, high + margin, BINS + 1), None
    width = max(spread, abs(float(np.median(inside))))
    edges = np.linspace(np.arcsinh(low / width), np.arcsinh(high / width) + 0.1, BINS + 1)
    return width * np.sinh(edges), width
