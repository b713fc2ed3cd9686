"""`flowgmm ood`: out-of-distribution scores, and how well they separate rows from a run's own kind."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import file_stem, note_throughput, open_session, print_warnings, warn_unscorable
from flowgmm_cli.cli.validation import (
    check_input_kept,
    check_output,
    check_stdout,
    enforce_gates,
    parse_gates,
    split_arguments,
)
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.files import write_bytes, write_json
from flowgmm_cli.user_files import allow_read_only

if TYPE_CHECKING:
    from flowgmm_cli.api import Column
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.drift import Drift
    from flowgmm_cli.inference.ood import OODResult
    from flowgmm_cli.inference.scores import Scores
    from flowgmm_cli.trained_model import TrainedModel

GATES = ("auroc", "aupr_in", "aupr_out")
_MANY_ROWS = 200_000  # rows from which computing all scores takes long
_POOR_DENSITY = (
    "-log p(x) alone is a poor score for images: simple images often have a higher density than the training "
    "images, even if they show something else; compare it with the other scores"
)
_EXAMPLE = "flowgmm ood --out unknown.csv --save scores.csv"
_MEANING = [
    "--out  rows to read: they are compared with in-distribution rows",
    "--save file to write: id, ood_score, percentile and is_ood of each of these rows",
]


InData = Annotated[
    str | None,
    options.option(
        "--in FILE|-|SPEC",
        "In-distribution rows to read: csv, tsv, parquet, jsonl, npz, npy, idx, txt, a folder of images, - "
        "for stdin, or a data spec such as '{use: csv, path: new.csv}'. Without it the run's held-out rows.",
    ),
]
OutData = Annotated[
    str | None,
    options.option("--out FILE|-|SPEC", "Rows to read and compare, in the same forms; --save names a file."),
]
OutRows = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="Rows to compare, the same as --out FILE; RUN may be left out."),
]
Alone = Annotated[bool, options.option("--alone", "Compute only the score that flags rows, which is faster.")]
AllScores = Annotated[bool, options.option("--all-scores", "Let --save write a column for each score.")]
PlotFile = Annotated[Path | None, options.option("--plot FILE.png", "Write a histogram of both sides.")]
GalleryFile = Annotated[
    Path | None,
    options.option(
        "--gallery FILE.png", "For images: write those of --out by score, and the oddest of --in."
    ),
]


def ood(
    run: options.Run = None,
    rows_file: OutRows = None,
    run_flag: options.RunFlag = None,
    in_data: InData = None,
    out_data: OutData = None,
    data_format: options.DataFormat = None,
    score: options.Score = None,
    fpr: options.Fpr = None,
    alone: Alone = False,
    save: options.Save = None,
    format_: options.Format = None,
    all_scores: AllScores = False,
    with_: options.With = None,
    plot: PlotFile = None,
    gallery: GalleryFile = None,
    fail_under: options.FailUnder = None,
    on_error: options.OnError = "keep",
    device: options.Device = "auto",
    processes: options.Processes = 1,
    as_json: options.Json = False,
) -> None:
    """Tell rows apart: the rows of --out against in-distribution rows, by every score of the run.

    A higher score is always further out; the rows of --out are the positives. --save writes id, ood_score,
    percentile (share of the run's held-out rows with a lower score) and is_ood for each row of --out, in
    order; a row that cannot be scored keeps its place with empty cells. Metrics of --fail-under, for the
    score that flags: auroc, aupr_in, aupr_out.

    Examples: flowgmm ood --out unknown.csv · flowgmm ood --in mine.csv --out other.csv --plot scores.png ·
    flowgmm ood runs/digits/latest --out new.npz --save scores.csv --fpr 0.01 ·
    flowgmm ood --out other.csv --fail-under auroc=0.9 · flowgmm ood --out letters.npz --gallery letters.png
    """
    from flowgmm_cli.data.writers.base import open_writer

    run, out_data = split_arguments(run, rows_file, out_data, "--out")
    gates = parse_gates(fail_under, GATES)
    out = _check_flags(in_data, out_data, {"--plot": plot, "--gallery": gallery})
    check_stdout(save, as_json=as_json)
    for file in (in_data, out):
        check_input_kept(file, save)
    writer = open_writer(save, format=format_) if save is not None else None
    with open_session(run, run_flag) as session:
        import numpy as np

        from flowgmm_cli.inference.drift import Drift
        from flowgmm_cli.inference.ood import collect_scores, compare_scores, ood_columns
        from flowgmm_cli.inference.scores import OODRule, rename_kept

        if gallery and session.trained.image is None:
            hint = "--save scores.csv --all-scores has the scores of each row"
            raise UsageError("--gallery shows images, and this run has no image column", hint=hint)
        detector, rule = session.trained.require_detector(), OODRule.from_model(session.trained, score, fpr)
        names = [rule.score] if alone else list(detector.names)
        others = [name for name in names if name != rule.score] if all_scores else []
        if rule.score == "nll" and session.trained.image is not None:
            output.warn(_POOR_DENSITY)

        def score_rows(flag: str, reader: RowReader, drift: Drift) -> Iterator[Scores]:
            """Score the rows of a side, and write those of --out."""
            work: dict[str, Any] = {"on_error": on_error, "device": device, "processes": processes}
            for scores in session.score(
                reader, f"score {flag}", rule=rule, scores=names, drift=drift, **work
            ):
                if writer and flag == "--out":
                    columns = ood_columns(scores, detector, others)
                    writer.write(columns | rename_kept(scores, columns))
                yield scores

        with writer or nullcontext():
            # --out first: a mistake in it is reported before the rows of --in are scored, which takes long
            rows: dict[str, Any] = {"data_format": data_format, "on_error": on_error}
            out_reader = session.open_rows(out, purpose="ood", keep=with_, **rows)
            in_reader = session.open_rows(in_data, purpose="ood without --in", flag="--in", **rows)
            for reader in (in_reader, out_reader):
                if len(names) > 1 and (reader.total or 0) > _MANY_ROWS:
                    output.note(f"{reader.name}: {reader.total:,} rows; --alone computes one score only")
            sides = []
            for flag, reader, usual in (("--in", in_reader, rule), ("--out", out_reader, None)):
                drift = Drift(session.trained, reader.name)
                stream = score_rows(flag, reader, drift)
                sides.append(collect_scores(reader.name, stream, drift, usual))
        print_warnings(sides[0].warnings)
        for warning in sides[1].warnings:  # rows of --out may differ
            output.note(warning.text)
        for side in sides:
            warn_unscorable(side.name, side.totals)
    result = compare_scores(
        str(session.run.path), *sides, default=detector.default, rule=rule, rng=np.random.default_rng(1)
    )
    _save_result(session.run.path, result, in_data, out, plot)
    if gallery and session.trained.image:
        _save_gallery(gallery, session.trained.image, session.trained, in_reader, out_reader, result)
    _print_result(result, save, as_json=as_json)
    metrics = result.metrics[rule.score]
    enforce_gates(gates, {name: getattr(metrics, name) for name in GATES}, subject=f" of {rule.score}")


def _check_flags(in_data: str | None, out_data: str | None, figures: Mapping[str, Path | None]) -> str:
    """Check that the flags fit together and return `--out`."""
    if out_data is None:
        raise UsageError("--out is missing: it names the rows to examine", details=_MEANING, hint=_EXAMPLE)
    for flag, data in (("--in", in_data), ("--out", out_data)):
        if data is None or data == "-" or data.lstrip().startswith("{"):
            continue
        if not Path(data).expanduser().exists() and not glob.has_magic(data):
            details = _MEANING if flag == "--out" else ["--in   in-distribution rows to read"]
            reason = f"{flag} {data}: there is no such file or folder to read"
            raise DataError(reason, details=details, hint=_EXAMPLE)
    if in_data == out_data == "-":
        raise UsageError("--in and --out cannot both be read from stdin", hint="write one of them to a file")
    for flag, figure in figures.items():
        check_output(flag, figure, (".png",), "figures are PNG files")
    if figures["--gallery"] is not None and "-" in (in_data, out_data):
        hint = "write the rows to a file first"
        raise UsageError("--gallery reads the rows twice, which stdin cannot be", hint=hint)
    return out_data


def _save_result(run: Path, result: OODResult, in_data: str | None, out_data: str, plot: Path | None) -> None:
    """Write the result into the folder `ood` of the run, in a file named after the rows, and `--plot`."""
    against = f"-against-{file_stem(in_data)}" if in_data else ""
    with allow_read_only(run, output.warn):
        write_json(run / "ood" / f"{file_stem(out_data)}{against}.json", result.to_file())
    if plot is None:
        return
    from flowgmm_cli.report.figures import png
    from flowgmm_cli.report.ood import histogram_figure

    name = result.rule.score
    sides = [(side.name, side.scores[name]) for side in (result.inside, result.outside)]
    threshold, auroc = result.rule.threshold, result.metrics[name].auroc
    figure = histogram_figure(*sides, score=name, threshold=threshold, auroc=auroc)
    write_bytes(plot, png(figure))
    output.note(f"written {plot}")


def _save_gallery(
    path: Path,
    column: Column,
    trained: TrainedModel,
    in_reader: RowReader,
    out_reader: RowReader,
    result: OODResult,
) -> None:
    """Write images of both sides by score as a PNG file; the readers read the rows again."""
    import numpy as np

    from flowgmm_cli.inference.inputs import read_rows_at
    from flowgmm_cli.report.figures import column_images, png
    from flowgmm_cli.report.galleries import IMAGES_PER_ROW, positions_by_quantile, score_figure

    rule, sides = result.rule, []
    highest = np.argsort(-result.inside.scores[rule.score], kind="stable")[:IMAGES_PER_ROW]
    selected = np.concatenate(positions_by_quantile(result.outside.scores[rule.score], IMAGES_PER_ROW))
    for reader, side, index in ((out_reader, result.outside, selected), (in_reader, result.inside, highest)):
        cells = read_rows_at(reader, side.places[index]).columns[column.name]
        sides.append((column_images(column, cells), side.scores[rule.score][index]))
    labels: dict[str, Any] = {"threshold": rule.threshold, "score": rule.score, "name": out_reader.name}
    figure = score_figure(*sides, limits=trained.preprocessor.ranges.get(column.name), **labels)
    write_bytes(path, png(figure))
    output.note(f"written {path}")


def _print_result(result: OODResult, save: str | None, *, as_json: bool) -> None:
    """Print the result, unless stdout has the rows of `--save -`, with notes on its meaning."""
    from flowgmm_cli.inference.ood import CONVENTION

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
    rows, inside, outside = [], result.inside, result.outside
    for name, metrics in result.metrics.items():
        roles = {"default": result.default, "flags": result.rule.score}
        marks = ", ".join(role for role, score in roles.items() if score == name)
        interval = result.intervals[name]["auroc"]
        span = f"{interval.low:.4f} to {interval.high:.4f}"
        areas = [f"{value:.4f}" for value in (metrics.aupr_in, metrics.aupr_out, metrics.fpr95)]
        rows.append([name, marks, f"{metrics.auroc:.4f}", span, *areas])
    optional = ["AUPR-in", "AUPR-out"]
    columns = ["score", "", "AUROC", "95 % interval", *optional, "FPR95"]
    title = f"{result.run}: {outside.n:,} rows of {outside.name} against {inside.n:,} of {inside.name}"
    output.print_table(columns, rows, right=["AUROC", *optional, "FPR95"], optional=optional, title=title)
    output.print_text("")
    threshold = f"above the threshold {result.rule.threshold:.6g} of {result.rule.score}"
    rows = [
        [side.name, f"{side.n:,}", f"{side.totals.flagged:,}", f"{side.flagged_share:.2%}"]
        for side in (inside, outside)
    ]
    numbers = ["rows", "flagged", "share"]
    output.print_table([threshold, *numbers], rows, right=numbers)
