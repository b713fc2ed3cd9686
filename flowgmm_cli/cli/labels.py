"""`flowgmm labels`: labels that look wrong, and labels from an annotation tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.app import ListGroup
from flowgmm_cli.cli.label_import import import_labels
from flowgmm_cli.cli.session import data_context, select_run
from flowgmm_cli.cli.validation import check_stdout
from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import quote

if TYPE_CHECKING:
    from flowgmm_cli.api import Column, Rows
    from flowgmm_cli.evaluation.label_errors import LabelErrors
    from flowgmm_cli.runs import Run

GROUP = ListGroup
app = typer.Typer(
    help="List labels that look wrong, or import labels from an annotation tool.\n\n"
    "`flowgmm labels RUN` is short for `flowgmm labels list RUN`.",
)
app.command("import", cls=options.Command)(import_labels)
SCHEMA = "flowgmm/labels/1"
_SHOWN = 20

Number = Annotated[
    int | None,
    options.option(
        "--number -n", "Labels to list, the least likely first; default: 20 on the screen, else all.", min=1
    ),
]


@app.command("list", cls=options.Command)
def list_errors(
    run: options.Run = None,
    run_flag: options.RunFlag = None,
    number: Number = None,
    save: options.Save = None,
    format_: options.Format = None,
    as_json: options.Json = False,
) -> None:
    """List labels of training rows that look wrong, with the class that the rows rather belong to.

    Each label is judged by models that have not seen it: those of the folds of the calibration or the
    search. It looks wrong if another class is likelier and as likely as it usually is in rows with its label.
    Look at the rows before you change them: some are merely unusual. --save writes a table whose column
    `label` you correct, and `flowgmm labels import` takes it.

    Examples: flowgmm labels · flowgmm labels runs/digits/latest -n 50 · flowgmm labels --save doubtful.csv
    """
    check_stdout(save, as_json=as_json)
    selected = select_run(run, run_flag)

    from flowgmm_cli.evaluation.label_errors import load_label_errors

    errors = load_label_errors(selected)
    shown = errors.first(number or (None if as_json or save else _SHOWN))
    if save is not None:
        from flowgmm_cli.data.writers.base import open_writer
        from flowgmm_cli.inference.inputs import add_inputs

        with open_writer(save, format=format_) as writer:
            inputs = _read_inputs(selected, shown)
            writer.write(add_inputs(shown.table(), *inputs) if inputs else shown.table())
        if save != "-":
            output.note(f"written {save}: {pluralise(len(shown), 'row')}")
    if as_json:
        output.print_json(
            {
                "schema": SCHEMA,
                "run": str(selected.path),
                "n": len(errors.predictions),
                "doubtful": len(errors),
                "labels": shown.to_dicts(),
                "saved": save,
            }
        )
    elif save != "-":
        _print_errors(selected, errors, shown)
    if len(errors) and save != "-":
        file = quote(save or "doubtful.csv")
        first = f"correct the column label of {file}" if save else f"flowgmm labels --save {file}, correct it"
        output.note(f"next: {first}, then flowgmm labels import {file} --run {quote(selected.path)}")


def _read_inputs(run: Run, errors: LabelErrors) -> tuple[Rows, tuple[Column, ...]] | None:
    """Read the rows of labels and their columns; None with a warning if the data is gone."""
    from flowgmm_cli.report.context import ReportContext
    from flowgmm_cli.report.labels import select_rows

    try:
        with output.progress() as progress:
            context = ReportContext(run, data_context(progress), output.warn)
            return select_rows(context, errors), context.rows.columns
    except FlowgmmError as error:
        output.warn(f"the labels are listed without the columns of their rows. {error.message}")
        return None


def _print_errors(run: Run, errors: LabelErrors, shown: LabelErrors) -> None:
    checked = pluralise(len(errors.predictions), "label")
    if not len(errors):
        output.print_text(f"{run.path}: none of {checked} looks wrong")
        return
    from flowgmm_cli.report.text import describe_row

    inputs, table = _read_inputs(run, shown), []
    for place, row in enumerate(shown.to_dicts()):
        p = [f"{row[name]:.2f}" for name in ("p_label", "p_suggested")]
        cells = describe_row(*inputs, place) if inputs else None
        table.append([row["id"], row["label"], row["suggested"], *p, cells])
    columns = ["row", "label", "suggested", "p label", "p suggested", "columns"]
    if not any(row[-1] for row in table):
        columns, table = columns[:-1], [row[:-1] for row in table]
    look = "looks" if len(errors) == 1 else "look"
    title = f"{run.path}: {len(errors):,} of {checked} {look} wrong ({errors.share:.1%})"
    output.print_table(columns, table, right=columns[3:5], optional=["p suggested", "p label"], title=title)
    if more := len(errors) - len(shown):
        output.note(f"{more:,} more: -n {len(errors)} shows and --save FILE writes them")
