"""Scores, files, tables and figures of `flowgmm ood`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.cli import output
from flowgmm_cli.cli.session import file_stem, note_throughput
from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import write_bytes, write_json
from flowgmm_cli.inference.inputs import read_rows_at
from flowgmm_cli.inference.ood import CONVENTION
from flowgmm_cli.inference.samples import image_column

if TYPE_CHECKING:
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.ood import OODResult
    from flowgmm_cli.trained_model import TrainedModel


def check_gallery(gallery: Path | None, trained: TrainedModel) -> None:
    """Raise `UsageError` for a gallery of rows that are not images."""
    if gallery is not None and image_column(trained.preprocessor.columns) is None:
        raise UsageError(
            "--gallery shows images, and this run has no image column",
            hint="--save scores.csv --all-scores has the scores of each row",
        )


def save_result(run: Path, result: OODResult, in_data: str | None, out_data: str, plot: Path | None) -> None:
    """Write the result into the folder `ood` of the run, in a file named after the rows, and `--plot`."""
    against = f"-against-{file_stem(in_data)}" if in_data else ""
    write_json(run / "ood" / f"{file_stem(out_data)}{against}.json", result.to_file())
    if plot is not None:
        _save_plot(plot, result)


def _save_plot(path: Path, result: OODResult) -> None:
    """Write a histogram of the score that flags as a PNG file."""
    from flowgmm_cli.report.figures import png
    from flowgmm_cli.report.ood import histogram_figure

    name = result.rule.score
    sides = [(side.name, side.scores[name]) for side in (result.inside, result.outside)]
    threshold, auroc = result.rule.threshold, result.metrics[name].auroc
    figure = histogram_figure(*sides, score=name, threshold=threshold, auroc=auroc)
    write_bytes(path, png(figure))
    output.note(f"written {path}")


def save_gallery(
    path: Path, trained: TrainedModel, in_reader: RowReader, out_reader: RowReader, result: OODResult
) -> None:
    """Write images of both sides by score as a PNG file; the readers read the rows again."""
    from flowgmm_cli.report.figures import column_images, png
    from flowgmm_cli.report.galleries import IMAGES_PER_ROW, positions_by_quantile, score_figure

    column = image_column(trained.preprocessor.columns)
    if column is None:
        raise ValueError("not a model of images")
    rule, sides = result.rule, []
    highest = np.argsort(-result.inside.scores[rule.score], kind="stable")[:IMAGES_PER_ROW]
    selected = np.concatenate(positions_by_quantile(result.outside.scores[rule.score], IMAGES_PER_ROW))
    for reader, side, index in ((out_reader, result.outside, selected), (in_reader, result.inside, highest)):
        cells = read_rows_at(reader, side.places[index]).columns[column.name]
        sides.append((column_images(column, cells), side.scores[rule.score][index]))
    figure = score_figure(
        *sides,
        limits=trained.preprocessor.ranges.get(column.name),
        threshold=rule.threshold,
        score=rule.score,
        name=out_reader.name,
    )
    write_bytes(path, png(figure))
    output.note(f"written {path}")


def print_result(result: OODResult, save: str | None, *, as_json: bool) -> None:
    """Print the result, unless stdout has the rows of `--save -`, with notes on its meaning."""
    if save not in (None, "-"):
        output.note(f"written {save}: {result.outside.totals.n:,} rows")
    if as_json:
        output.print_json(result.to_dict())
    elif save != "-":
        _print_tables(result)
    share = 100 * result.rule.fpr
    output.note(f"{CONVENTION}; {share:g} % of the run's held-out rows lie above the threshold")
    note_throughput(result.scored, result.seconds)


def _print_tables(result: OODResult) -> None:
    """Print the metrics of every score, and the flagged share of either side."""
    rows = []
    for name, metrics in result.metrics.items():
        roles = {"default": result.default, "flags": result.rule.score}
        marks = ", ".join(role for role, score in roles.items() if score == name)
        interval = result.intervals[name]["auroc"]
        rows.append(
            [name, marks, f"{metrics.auroc:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"]
            + [f"{value:.4f}" for value in (metrics.aupr_in, metrics.aupr_out, metrics.fpr95)]
        )
    inside, outside = result.inside, result.outside
    output.print_table(
        ["score", "", "AUROC", "95 % interval", "AUPR-in", "AUPR-out", "FPR95"],
        rows,
        right=["AUROC", "AUPR-in", "AUPR-out", "FPR95"],
        title=f"{result.run}: {outside.n:,} rows of {outside.name} against {inside.n:,} of {inside.name}",
    )
    output.print_text("")
    threshold = f"above the threshold {result.rule.threshold:.6g} of {result.rule.score}"
    output.print_table(
        [threshold, "rows", "flagged", "share"],
        [
            [side.name, f"{side.n:,}", f"{side.totals.flagged:,}", f"{side.flagged_share:.2%}"]
            for side in (inside, outside)
        ],
        right=["rows", "flagged", "share"],
    )
