"""What `flowgmm ood` needs beside its words: scores for old runs, names of files, tables and a figure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.gallery import ScoreRecord
    from flowgmm_cli.inference.ood import OODResult, ScoreSet
    from flowgmm_cli.inference.predictions import OODRule
    from flowgmm_cli.runs import Run as RunDirectory
    from flowgmm_cli.trained import TrainedModel


def load_run_rows(trained: TrainedModel, run: RunDirectory, context: DataContext) -> RowReader:
    """The run's own rows that it was not trained on."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.data.readers.base import MemoryReader
    from flowgmm_cli.inference import inputs

    fingerprint = run.info().get("fingerprint")
    rows = inputs.load_run_rows(
        trained, context, fingerprint=fingerprint, warn=console.warn, purpose="ood without --in"
    )
    split, found = inputs.held_out_rows(rows)
    if split == "train":
        console.warn("this run holds nothing out, so its training rows stand for in-distribution rows")
    return MemoryReader(found, f"the run's {split} split")


def warn_of_density(trained: TrainedModel, name: str) -> None:
    """Warn if rows that are images are flagged by their density alone."""
    from flowgmm_cli.cli import console

    if name == "nll" and trained.image is not None:
        console.warn(
            "-log p(x) alone is a poor score for images: simple ones are often denser than the training "
            "images, whatever they show; compare it with the other scores"
        )


def require_rows(side: ScoreSet) -> None:
    """Tell of rows that could not be scored.

    Raises:
        DataError: none could.
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import DataError

    rows, more = side.n + side.unscorable, side.unscorable - len(side.reasons)
    lines = [*side.reasons, *([f"and {more:,} more"] if more else [])]
    if not side.n:
        raise DataError(
            f"none of the {rows:,} rows of {side.name} could be scored",
            details=lines,
            hint="compare its columns with those of the training data",
        )
    if side.unscorable:
        what = "1 row" if side.unscorable == 1 else f"{side.unscorable:,} rows"
        console.warn("\n  ".join([f"{what} of {side.name} could not be scored", *lines]))


def slug(data: str) -> str:
    """A file name for rows: that of their file, or of the source."""
    if data == "-":
        return "stdin"
    if data.lstrip().startswith("{"):
        words = re.findall(r"[\w.-]+", data)
        return "_".join(words[1:])[:60] or "spec"
    return re.sub(r"[^\w.-]", "_", Path(data).expanduser().resolve().name.split(".")[0]) or "rows"


def picture(result: OODResult) -> bytes:
    """The histogram of the score that flags, as a PNG file."""
    from flowgmm_cli.report.figures import png
    from flowgmm_cli.report.histogram import histogram_figure

    name = result.rule.score
    return png(
        histogram_figure(
            result.inside.scores[name],
            result.outside.scores[name],
            threshold=result.rule.threshold,
            score=name,
            name_in=result.inside.name,
            name_out=result.outside.name,
            auroc=result.metrics[name].auroc,
        )
    )


def require_images(trained: TrainedModel) -> None:
    """Raise `UsageError` if the rows of a model are no images."""
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.inference.samples import image_column

    if image_column(trained.preprocessor.columns) is None:
        raise UsageError(
            "--gallery shows images, and the rows of this run are none",
            hint="--save scores.csv --all-scores has the scores of each row",
        )


def draw_gallery(
    trained: TrainedModel,
    inside: tuple[RowReader, ScoreRecord],
    outside: tuple[RowReader, ScoreRecord],
    flag: OODRule,
) -> bytes:
    """Images of either side by score, as a PNG file; each side is what to read again, and its scores."""
    import numpy as np

    from flowgmm_cli.inference.gallery import positions_by_quantile
    from flowgmm_cli.inference.inputs import read_rows_at
    from flowgmm_cli.inference.samples import image_column
    from flowgmm_cli.report.figures import png
    from flowgmm_cli.report.galleries import IMAGES_PER_ROW, score_figure
    from flowgmm_cli.report.image_grid import column_images

    column = image_column(trained.preprocessor.columns)
    if column is None:
        raise ValueError("not a model of images")
    (in_reader, in_book), (out_reader, out_book) = inside, outside
    top = np.argsort(-in_book.values, kind="stable")[:IMAGES_PER_ROW]
    chosen = np.concatenate(positions_by_quantile(out_book.values, IMAGES_PER_ROW))
    ordinary = read_rows_at(in_reader, in_book.places[top]).columns[column.name]
    others = read_rows_at(out_reader, out_book.places[chosen]).columns[column.name]
    return png(
        score_figure(
            (column_images(column, others), out_book.values[chosen]),
            (column_images(column, ordinary), in_book.values[top]),
            limits=trained.preprocessor.ranges.get(column.name),
            threshold=flag.threshold,
            score=flag.score,
            name=out_reader.name,
        )
    )


def show(result: OODResult) -> None:
    """Print the tables: every score, and what is flagged of either side."""
    from flowgmm_cli.cli import console

    rows = []
    for name, found in result.metrics.items():
        marks = [
            word
            for word, given in (("default", name == result.default), ("flags", name == result.rule.score))
            if given
        ]
        interval = result.intervals[name]["auroc"]
        rows.append(
            [name, ", ".join(marks), f"{found.auroc:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"]
            + [f"{value:.4f}" for value in (found.aupr_in, found.aupr_out, found.fpr95)]
        )
    inside, outside = result.inside, result.outside
    console.print_table(
        ["score", "", "AUROC", "95 % interval", "AUPR-in", "AUPR-out", "FPR95"],
        rows,
        right=["AUROC", "AUPR-in", "AUPR-out", "FPR95"],
        title=f"{result.run}: {outside.n:,} rows of {outside.name} against {inside.n:,} of {inside.name}",
    )
    console.print_text("")
    console.print_table(
        [
            f"above the threshold {result.rule.threshold:.6g} of {result.rule.score}",
            "rows",
            "flagged",
            "share",
        ],
        [
            [side.name, f"{side.n:,}", f"{side.flagged:,}", f"{side.flagged_share:.2%}"]
            for side in (inside, outside)
        ],
        right=["rows", "flagged", "share"],
    )


def say(result: OODResult) -> None:
    """Say what the numbers mean, and how fast they came, on stderr."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.inference.ood import CONVENTION

    found = result.to_dict()
    console.note(
        f"{CONVENTION}; the threshold is exceeded by {100 * result.rule.fpr:g} % of the run's held-out rows"
    )
    console.note(
        f"{result.inside.n + result.outside.n:,} rows in {found['seconds']:.1f} s, "
        f"{found['rows_per_second']:,.0f} rows a second"
    )
