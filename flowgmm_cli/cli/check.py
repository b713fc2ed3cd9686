"""`flowgmm check`: numerical checks of a model, on its own rows or those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import split_arguments

if TYPE_CHECKING:
    from flowgmm_cli.inference.check_report import CheckReport


def check(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    rows: Annotated[
        int, options.option("--rows", "Rows for the checks of inverses and Jacobians; fewer if wide.", min=1)
    ] = 64,
    as_json: options.Json = False,
) -> None:
    """Check a model on rows: inverse and log-determinant layer by layer, latents, dead dimensions, NaN.

    The reference is autograd's Jacobian in float64, at rows of --data or of the run's test split. The
    statistics of the latents use up to 5,000 rows. Exits with 1 if a check fails; a warning is no failure.

    Examples: flowgmm check · flowgmm check runs/csv/latest --data new.csv · flowgmm check --rows 8 --json
    """
    run, data = split_arguments(run, rows_file, data)
    with open_session(run, run_flag) as session:
        from flowgmm_cli.inference.check import MAX_LATENT_ROWS
        from flowgmm_cli.inference.check import check as check_model
        from flowgmm_cli.inference.inputs import read_first_rows

        reader = session.open_rows(data, purpose="a check", data_format=data_format)
        selected = read_first_rows(reader, max(rows, MAX_LATENT_ROWS) if data else None)
        report = check_model(session.trained, selected, context=session.context, at_most=rows)
        path = str(session.run.path)
    if as_json:
        output.print_json(report.to_dict(path))
    else:
        _print_tables(path, report)
        _print_problems(report)
    if report.verdict == "failed":
        raise typer.Exit(1)


def _print_tables(run: str, report: CheckReport) -> None:
    headers = ["layer", "round trip", "in float32", "log-det", "log-det per dimension"]
    rows: list[list[Any]] = []
    for layer in report.layers:
        differences = (layer.round_trip, layer.round_trip_32, layer.log_det)
        span = "" if layer.low is None or layer.high is None else f"{layer.low:.3g} to {layer.high:.3g}"
        cells = ["" if value is None else f"{value:.1e}" for value in differences]
        rows.append([f"{layer.name}{' *' if layer.inexact else ''}", *cells, span])
    title = f"{run}: errors at {report.jacobian_rows} rows of {report.features} features"
    output.print_table(headers, rows, right=headers[1:4], title=title)
    for layer in report.layers:
        if layer.inexact:
            output.print_text(f"* {layer.inexact}")
    if report.classes:
        numbers = ["rows", "mean off by", "tolerable", "variance", "radius", "KS distance", "by chance"]
        rows = []
        for row in report.classes:
            values = (row.offset, row.tolerable_offset, row.variance, row.radius, row.ks, row.ks_by_chance)
            rows.append([row.name, row.rows, *(f"{value:.2f}" for value in values)])
        title = (
            f"latents of {report.rows:,} rows against the mixture; if it fits, the mean is off by 0, "
            "variance and radius are 1, and the Kolmogorov-Smirnov distance (KS) is 0"
        )
        output.print_text("")
        output.print_table(["class", *numbers], rows, right=numbers, title=title)
    output.print_text("")
    rows = [[finding.check, finding.verdict, finding.message] for finding in report.findings]
    output.print_table(["check", "verdict", "result"], rows)


def _print_problems(report: CheckReport) -> None:
    for finding in report.findings:
        if finding.verdict in ("warning", "failed"):
            output.print_text("", f"{finding.verdict}: {finding.check}: {finding.message}")
            lines = [*finding.details, f"meaning: {finding.meaning}", f"remedy: {finding.advice}"]
            output.print_text(*(f"  {line}" for line in lines))
    for line in report.notes:
        output.note(line)
    output.print_text("", f"verdict: {report.verdict}")
