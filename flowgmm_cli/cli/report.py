"""`flowgmm report`: everything about a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def report(
    run: Run = None,
    run_flag: RunFlag = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="FILE.html",
            help="The page to write; default report.html in the run directory.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    data_format: InputFormat = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE|SPEC",
            help="Rows to hold against in-distribution ones in the histogram of out-of-distribution scores.",
            show_default=False,
        ),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Write a page about a run: results, curves, figures, samples, settings. It needs no network to be read.

    With --data the rows of a file take the place of the run's own test rows in the latent map and the
    histogram. What cannot be made, because data is gone or nothing was measured, says so on the page.

    Examples: flowgmm report · flowgmm report runs/digits/latest --save digits.html ·
    flowgmm report --out strange.csv
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import chosen_run, data_context, writing
    from flowgmm_cli.errors import UsageError

    if save is not None and save.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--save {save}: a report is an HTML file", hint=f"--save {save}.html")
    found = chosen_run(run, run_flag)
    console.note("loading torch…")

    from flowgmm_cli.report.context import load_report_context
    from flowgmm_cli.report.page import Unavailable
    from flowgmm_cli.report.report import write_report

    with console.progress() as progress:
        context = data_context(progress, offline=offline)
        material = load_report_context(
            found, context=context, data=data, data_format=data_format, out=out, warn=console.warn
        )
        path = save.expanduser() if save is not None else found.path / "report.html"
        with writing(path):
            written = write_report(material, path, progress=progress)
    if as_json:
        console.print_json(written.to_dict(str(found.path)))
        return
    console.print_text(str(written.path))
    for section in written.sections:
        if isinstance(section, Unavailable):
            console.note(f"without {section.title.lower()}: {section.reason}")
    folder = written.path.parent / written.path.stem
    console.note(f"{len(written.figures)} figures as PNG files in {folder}")
