"""`flowgmm report`: everything about a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import data_context, select_run
from flowgmm_cli.cli.validation import check_output, split_arguments
from flowgmm_cli.user_files import explain_write_errors, require_writable


def report(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    save: Annotated[
        Path | None,
        options.option("--save FILE.html", "The page to write; default report.html in the run directory."),
    ] = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    out: Annotated[
        str | None,
        options.option("--out FILE|SPEC", "Rows to compare in the histogram of out-of-distribution scores."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write a page about a run: results, curves, figures, samples, settings. It needs no network to be read.

    With --data the rows of a file replace the run's own test rows in the latent map and the histogram. If
    a section cannot be made, because data is missing or nothing was measured, the page gives the reason.

    Examples: flowgmm report · flowgmm report runs/digits/latest --save digits.html ·
    flowgmm report --out strange.csv
    """
    check_output("--save", save, (".html", ".htm"), "a report is an HTML file")
    run, data = split_arguments(run, rows_file, data)
    selected = select_run(run, run_flag)
    path = save.expanduser() if save is not None else selected.path / "report.html"
    require_writable(path)
    output.note("loading torch…")

    from flowgmm_cli.report.context import ReportContext
    from flowgmm_cli.report.report import write_report

    with output.progress() as progress:
        environment = data_context(progress)
        context = ReportContext(selected, environment, output.warn, data, data_format, out)
        with explain_write_errors(path):
            page = write_report(context, path, progress=progress)
    if as_json:
        output.print_json(page.to_dict(str(selected.path)))
        return
    output.print_exact(str(page.path))
    for section in page.sections:
        if section.reason:
            output.note(f"without {section.title.lower()}: {section.reason}")
    folder = page.path.parent / page.path.stem
    output.note(f"{len(page.figures)} figures as PNG files in {folder}")
