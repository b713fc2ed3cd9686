"""`flowgmm suggest`: unlabelled rows to label next, with the reason for each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import data_context, open_session
from flowgmm_cli.cli.validation import check_absent, check_input_kept, check_stdout, split_arguments
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.inference.suggestions import Suggestions

SCHEMA = "flowgmm/suggest/1"
LABEL_STUDIO = "label-studio"
_SHOWN, _LETTERS = 10, 120  # rows on the screen, and letters of each

Number = Annotated[int, options.option("--number -n N", "Rows to label.", min=1)]
Text = Annotated[
    str | None,
    options.option("--text COLUMN", "Column of text of a table without a run, if it is not recognised."),
]
Label = Annotated[
    str | None, options.option("--label COLUMN", "Column of the labels that a table without a run has.")
]
Save = Annotated[
    str | None,
    options.option(
        "--save FILE|-", "File to write: csv, tsv, parquet, jsonl, or json for Label Studio; - for stdout."
    ),
]
Format = Annotated[
    str | None,
    options.option("--format FORMAT", f"Format to write: csv, tsv, parquet, jsonl, npz or {LABEL_STUDIO}."),
]


def suggest(
    run: options.Run = None,
    rows_file: options.RowsArgument = None,
    run_flag: options.RunFlag = None,
    data: options.Data = None,
    data_format: options.DataFormat = None,
    number: Number = 50,
    text: Text = None,
    label: Label = None,
    save: Save = None,
    format_: Format = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Suggest which unlabelled rows to label next, with the reason for each.

    Where labels are few, they are typical rows of groups without labels; later also rows between two classes.
    No two of them are near duplicates. With a run, its own unlabelled rows are searched, or those of --data.
    A table or a folder of images alone needs neither a run nor labels.

    Examples: flowgmm suggest posts.csv --text body -n 100 --save to_label.csv · flowgmm suggest -n 50 ·
    flowgmm suggest runs/text/latest --save tasks.json --format label-studio
    """
    if run is not None and rows_file is None and _holds_rows(run):
        run, rows_file = None, run
    run, data = split_arguments(run, rows_file, data)
    check_stdout(save, as_json=as_json)
    check_input_kept(data, save)
    if save not in (None, "-"):
        hint = "name another file with --save, or replace it with --force: it may have labels by now"
        check_absent(Path(save), hint, force=force)
    if format_ is None and save is not None and Path(save).suffix.lower() == ".json":
        format_ = LABEL_STUDIO
    if format_ is not None and save is None:
        raise UsageError("--format is that of a file", hint=f"--save - --format {format_}")
    is_json = format_ == LABEL_STUDIO
    if save is not None and not is_json:
        from flowgmm_cli.data.writers.base import find_format

        find_format(save, format_)
    if data is not None and run is None and run_flag is None:
        suggestions, model = _suggest_of_file(data, text, label, number), None
    else:
        word = text or label
        suggestions, model = _suggest_of_run(run, run_flag, data, data_format, word, number)
    source = data or model or ""
    if not len(suggestions):
        raise DataError(
            f"{source} has no unlabelled rows to choose from", hint="name other rows: --data FILE"
        )
    if save is not None:
        _write(suggestions, save, format_, model or "flowgmm")
    if as_json:
        output.print_json(
            {"schema": SCHEMA, "run": model, "data": data, "n": len(suggestions)}
            | {"rows": suggestions.to_dicts(), "saved": save}
        )
    elif save != "-":
        _print(suggestions, source, save)
    if len(suggestions) < number:
        rows = pluralise(len(suggestions), "row")
        output.note(f"{rows}, not {number:,}: all others are near duplicates of these")
    _print_next(model, data, number, save, is_json=is_json)


def _holds_rows(word: str) -> bool:
    """Return True for a folder of rows, which is no run."""
    folder = Path(word).expanduser()
    return folder.is_dir() and not any(folder.glob("run.json")) and not any(folder.glob("*/run.json"))


def _suggest_of_file(data: str, text: str | None, label: str | None, number: int) -> Suggestions:
    output.note("loading torch…")
    from flowgmm_cli.data.pile import load_pile
    from flowgmm_cli.inference.suggestions import suggest_of_pile

    with output.progress() as progress:
        pile = load_pile(data, text=text, label=label, context=data_context(progress))
        rows = f"{len(pile.rows):,} rows, {int((pile.rows.labels >= 0).sum()):,} labelled"
        output.note(f"rows    {rows}; vectors of {pile.x.shape[1]} numbers as in the recipe {pile.recipe}")
        return suggest_of_pile(pile, number, lambda done, total: progress(done, total, "suggest"))


def _suggest_of_run(
    run: str | None,
    run_flag: str | None,
    data: str | None,
    data_format: str | None,
    word: str | None,
    number: int,
) -> tuple[Suggestions, str]:
    if word is not None:
        raise UsageError("--text and --label are for a table without a run", hint="a run knows its columns")
    with open_session(run, run_flag) as session:
        from flowgmm_cli.inference.suggestions import suggest_of_run

        _, rows, scores, own = session.score_pile(data, data_format, None, purpose="suggest")

        def show(done: int, total: int) -> None:
            session.progress(done, total, "suggest")

        return suggest_of_run(session.trained, rows, scores, own, number, show), str(session.run.path)


def _write(suggestions: Suggestions, save: str, format_: str | None, model: str) -> None:
    if format_ != LABEL_STUDIO:
        from flowgmm_cli.data.writers.base import open_writer

        with open_writer(save, format=format_) as writer:
            writer.write(suggestions.table())
    else:
        tasks = suggestions.tasks(_describe_rows(suggestions), model)
        if save == "-":
            output.print_json(tasks)
        else:
            from flowgmm_cli.files import write_json

            with explain_write_errors(Path(save)):
                write_json(Path(save), tasks)
    if save != "-":
        output.note(f"written {save}: {pluralise(len(suggestions), 'row')}")


def _describe_rows(suggestions: Suggestions) -> list[str]:
    from flowgmm_cli.report.text import describe_row

    rows, columns = suggestions.rows, suggestions.columns
    return [describe_row(rows, columns, place) for place in range(len(rows))]


def _print(suggestions: Suggestions, source: str, save: str | None) -> None:
    from flowgmm_cli.report.text import shorten

    rows = suggestions.to_dicts()[:_SHOWN]
    texts = [shorten(text, _LETTERS) for text in _describe_rows(suggestions)]
    table = [
        [row["id"], row["suggested"], row["reason"], text]
        for row, text in zip(rows, texts[:_SHOWN], strict=True)
    ]
    columns = ["row", "suggested", "reason", "columns"]
    empty = [name for name, cells in zip(columns, zip(*table, strict=True), strict=True) if not any(cells)]
    shown = [name for name in columns if name not in empty]
    table = [[cell for name, cell in zip(columns, cells, strict=True) if name in shown] for cells in table]
    title = f"{source}: {pluralise(len(suggestions), 'row')} to label next, the most useful first"
    output.print_table(shown, table, title=title, optional=["suggested"])
    if more := len(suggestions) - len(rows):
        output.note(f"{more:,} more" + ("" if save else "; --save FILE writes all, --json lists them"))


def _print_next(model: str | None, data: str | None, number: int, save: str | None, *, is_json: bool) -> None:
    """Print the next command as the last line."""
    if save is None or save == "-":
        words = " ".join(quote(word) for word in (model, data) if word)
        output.note(f"next: flowgmm suggest {words} -n {number} --save to_label.csv")
        return
    where = f"--run {quote(model)}" if model and not data else f"--data {quote(data or '')}"
    if data and Path(data).is_dir():
        where = f"--save {quote(Path(data, 'labels.csv'))}"
    file = "EXPORT.json" if is_json else quote(save)
    first = "label the tasks and export them" if is_json else f"fill the column label of {quote(save)}"
    output.note(f"next: {first}, then: flowgmm labels import {file} {where}")
