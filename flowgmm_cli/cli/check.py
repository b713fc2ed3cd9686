"""`flowgmm check`: is the model's arithmetic right, on its own rows or the user's?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowgmm_cli.cli.options import (
    Data,
    InputFormat,
    Json,
    Offline,
    PluginModule,
    Quiet,
    Run,
    RunFlag,
    Verbose,
)

if TYPE_CHECKING:
    from flowgmm_cli.inference.check_report import CheckReport


def check(
    run: Run = None,
    run_flag: RunFlag = None,
    data: Data = None,
    data_format: InputFormat = None,
    rows: Annotated[
        int,
        typer.Option("--rows", help="Rows at which inverses and Jacobians are taken; less of long vectors."),
    ] = 64,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Check a model on rows: inverse and log-determinant layer by layer, latents, dead dimensions, NaN.

    The truth is autograd's Jacobian in float64, at rows of --data or of the run's test split. The statistics
    of the latents use up to 5,000 rows. Exits with 1 if a check has failed; warnings are none.

    Examples: flowgmm check · flowgmm check runs/csv/latest --data new.csv · flowgmm check --rows 8 --json
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.answers import rows_in
    from flowgmm_cli.cli.work import chosen_run, data_context
    from flowgmm_cli.errors import UsageError

    if rows < 1:
        raise UsageError(f"--rows is {rows}, it must be at least 1", hint="flowgmm check --rows 64")
    chosen = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.inference.check import MAX_LATENT_ROWS
    from flowgmm_cli.inference.check import check as examine
    from flowgmm_cli.inference.inputs import read_first_rows
    from flowgmm_cli.trained import TrainedModel

    with console.progress() as progress:
        context = data_context(progress, offline=offline)
        trained = TrainedModel.load(chosen.path, context=context)
        reader = rows_in(
            trained,
            chosen.info(),
            context,
            data,
            data_format=data_format,
            on_error="fail",
            purpose="a check",
        )
        seen = read_first_rows(reader, max(rows, MAX_LATENT_ROWS) if data else None)
        report = examine(trained, seen, context=context, at_most=rows)
    if as_json:
        console.print_json(report.to_dict(str(chosen.path)))
    else:
        _show(str(chosen.path), report)
    if report.verdict == "failed":
        raise typer.Exit(1)


def _show(run: str, report: CheckReport) -> None:
    from flowgmm_cli.cli import console

    lossy = {one.name: one.inexact for one in report.layers if one.inexact}
    console.print_table(
        ["layer", "round trip", "in float32", "log-det", "log-det per dimension"],
        [
            [
                f"{one.name}{' *' if one.inexact else ''}",
                _error(one.round_trip),
                _error(one.round_trip_32),
                _error(one.log_det),
                "" if one.low is None or one.high is None else f"{one.low:.3g} to {one.high:.3g}",
            ]
            for one in report.layers
        ],
        right=["round trip", "in float32", "log-det"],
        title=f"{run}: errors at {report.jacobian_rows} rows of {report.features} features",
    )
    for reason in lossy.values():
        console.print_text(f"* {reason}")
    if report.classes:
        console.print_text("")
        console.print_table(
            ["class", "rows", "mean off by", "variance", "radius", "KS distance"],
            [
                [one.name, one.rows, *(f"{v:.2f}" for v in (one.offset, one.variance, one.radius, one.ks))]
                for one in report.classes
            ],
            right=["rows", "mean off by", "variance", "radius", "KS distance"],
            title=f"latents of {report.rows:,} rows against the mixture (0, 1, 1 and 0 where it fits)",
        )
    console.print_text("")
    console.print_table(
        ["check", "verdict", "found"],
        [[one.check, one.verdict, one.message] for one in report.findings],
    )
    for one in report.findings:
        if one.verdict not in ("warning", "failed"):
            continue
        console.print_text(f"\n{one.verdict}: {one.check}: {one.message}")
        for detail in one.details:
            console.print_text(f"  {detail}")
        for label, text in (("it means that", one.meaning), ("what helps:", one.advice)):
            if text:
                console.print_text(f"  {label} {text}")
    for line in report.notes:
        console.note(line)
    console.print_text(f"\nverdict: {report.verdict}")


def _error(value: float | None) -> str:
    return "" if value is None else f"{value:.1e}"
