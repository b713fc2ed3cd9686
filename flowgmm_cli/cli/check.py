"""`flowgmm check`: numerical checks of a model, on its own rows or those of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session

if TYPE_CHECKING:
    from flowgmm_cli.inference.check_report import CheckReport


def check(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    rows: Annotated[
        int,
        typer.Option("--rows", min=1, help="Rows for the checks of inverses and Jacobians; fewer if wide."),
    ] = 64,
    offline: options.Offline = False,
    as_json: options.Json = False,
) -> None:
    """Check a model on rows: inverse and log-determinant layer by layer, latents, dead dimensions, NaN.

    The reference is autograd's Jacobian in float64, at rows of --data or of the run's test split. The
    statistics of the latents use up to 5,000 rows. Exits with 1 if a check fails; a warning is no failure.

    Examples: flowgmm check · flowgmm check runs/csv/latest --data new.csv · flowgmm check --rows 8 --json
    """
    with open_session(run, run_flag, offline=offline) as session:
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
        _print_layers(path, report)
        _print_classes(report)
        _print_findings(report)
    if report.verdict == "failed":
        raise typer.Exit(1)


def _print_layers(run: str, report: CheckReport) -> None:
    output.print_table(
        ["layer", "round trip", "in float32", "log-det", "log-det per dimension"],
        [
            [
                f"{layer.name}{' *' if layer.inexact else ''}",
                _scientific(layer.round_trip),
                _scientific(layer.round_trip_32),
                _scientific(layer.log_det),
                "" if layer.low is None or layer.high is None else f"{layer.low:.3g} to {layer.high:.3g}",
            ]
            for layer in report.layers
        ],
        right=["round trip", "in float32", "log-det"],
        title=f"{run}: errors at {report.jacobian_rows} rows of {report.features} features",
    )
    for layer in report.layers:
        if layer.inexact:
            output.print_text(f"* {layer.inexact}")


def _print_classes(report: CheckReport) -> None:
    if not report.classes:
        return
    output.print_text("")
    output.print_table(
        ["class", "rows", "mean off by", "variance", "radius", "KS distance"],
        [
            [row.name, row.rows, *(f"{v:.2f}" for v in (row.offset, row.variance, row.radius, row.ks))]
            for row in report.classes
        ],
        right=["rows", "mean off by", "variance", "radius", "KS distance"],
        title=f"latents of {report.rows:,} rows against the mixture (0, 1, 1 and 0 if it fits)",
    )


def _print_findings(report: CheckReport) -> None:
    output.print_text("")
    output.print_table(
        ["check", "verdict", "result"],
        [[finding.check, finding.verdict, finding.message] for finding in report.findings],
    )
    for finding in report.findings:
        if finding.verdict not in ("warning", "failed"):
            continue
        output.print_text(f"\n{finding.verdict}: {finding.check}: {finding.message}")
        for detail in finding.details:
            output.print_text(f"  {detail}")
        for label, text in (("meaning:", finding.meaning), ("remedy:", finding.advice)):
            if text:
                output.print_text(f"  {label} {text}")
    for line in report.notes:
        output.note(line)
    output.print_text(f"\nverdict: {report.verdict}")


def _scientific(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
