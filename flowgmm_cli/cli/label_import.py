"""`flowgmm labels import`: labels from an annotation tool, beside the rows that they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import open_session
from flowgmm_cli.cli.validation import check_absent, check_input_kept, check_output, check_stdout
from flowgmm_cli.data.readers.byte_source import require_file
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import join_some, quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.data.array_types import Array
    from flowgmm_cli.data.label_studio import Labels

SCHEMA = "flowgmm/labels-import/1"
_COMPARED = ("numeric", "category", "text")  # kinds of columns whose cells recognise a row

ExportFile = Annotated[
    str, typer.Argument(metavar="FILE", help="Export of Label Studio: JSON or CSV; or a table of labels.")
]
RunOption = Annotated[
    str | None,
    options.option(
        "--run RUN", "Run whose rows get the labels; else $FLOWGMM_RUN, else the newest run under ./runs."
    ),
]
TableFile = Annotated[
    str | None,
    options.option("--data TABLE", "Table to add the labels to, in the place of the rows of a run."),
]
LabelColumn = Annotated[str, options.option("--label COLUMN", "Column of the class in the table.")]
IdColumn = Annotated[
    str | None,
    options.option("--id COLUMN", "Column of TABLE that names a row; default: `id`, if it exists."),
]
ChoicesName = Annotated[
    str | None,
    options.option("--choices NAME", "Control of Label Studio, or column of FILE, that holds the labels."),
]
RecipeFile = Annotated[
    Path | None,
    options.option(
        "--recipe FILE.yaml",
        "Recipe to write for the rows of a run, with its table; default: NAME_more.yaml.",
    ),
]


def import_labels(
    file: ExportFile,
    run: RunOption = None,
    data: TableFile = None,
    save: options.Save = None,
    label: LabelColumn = "label",
    id_: IdColumn = None,
    choices: ChoicesName = None,
    recipe: RecipeFile = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Import labels from an annotation tool, and write the rows with them to train on.

    Without --data the labels join the rows of a run: a recipe and its table are written, and test rows stay
    test rows. With --data they join a table, in a copy beside it. With --save alone the labelled rows are
    written. A row is recognised by its id, or else by its text or columns.

    Examples: flowgmm labels import export.json · flowgmm labels import export.json --data mails.csv ·
    flowgmm labels import export.csv --save labels.csv
    """
    require_file(file)
    check_stdout(save, as_json=as_json)
    check_input_kept(data, save)
    check_output("--recipe", recipe, (".yaml", ".yml"), "a recipe is a YAML file")
    if recipe is not None and (data or save):
        raise UsageError("--recipe is for the rows of a run", hint="leave --data and --save out")
    if run is not None and (data or save):
        raise UsageError("the labels join the rows of a run or a table, not both", hint="leave --run out")
    if data is not None:
        result = _join_table(file, data, save, label, id_, choices, force=force)
    elif save is not None:
        result = _write_alone(file, save, label, choices)
    else:
        result = _join_run(file, run, choices, recipe, force=force)
    if as_json:
        output.print_json({"schema": SCHEMA, **result})
    elif save != "-":
        output.print_exact("\n".join(result["files"]))
    if save != "-":
        output.note(f"next: {result['next']}")


def _join_table(
    file: str, data: str, save: str | None, label: str, id_: str | None, choices: str | None, *, force: bool
) -> dict[str, Any]:
    """Write a table with the labels."""
    from flowgmm_cli.data.label_studio import read_labels
    from flowgmm_cli.data.sources.columns import row_ids, strings
    from flowgmm_cli.data.sources.tables import read_table
    from flowgmm_cli.data.writers.base import SUFFIXES, open_writer

    place = Path(data)
    suffix = place.suffix if place.suffix.lower() in SUFFIXES else ".csv"
    target = save or str(place.with_name(f"{place.name.split('.')[0]}_labelled{suffix}"))
    if save is None:
        check_absent(Path(target), "name another file with --save, or replace it with --force", force=force)
    table = read_table(data, note=output.note)
    id_ = id_ or ("id" if "id" in table.names else None)
    if id_ is not None and id_ not in table.names:
        columns = join_some(table.names, len(table.names), 12)
        raise DataError(f"{data} has no column `{id_}` (--id)", hint=f"its columns: {columns}")
    rows = table.data.num_rows
    ids = row_ids("train", rows, table.row_numbers) if id_ is None else strings(table.data[id_])
    inputs = [name for name in table.names if name not in (label, id_)]
    labels = read_labels(file, name=choices, inputs=[*inputs, str(id_)], note=output.note)
    given = table.label_strings(label).tolist() if label in table.names else [None] * rows
    cells = {name: table.data[name].to_pylist() for name in inputs}
    placed, counts = _place(labels, ids, cells, given, f"{file} and {data}")
    if label not in table.names:
        output.note(f"column  `{label}` is new in the table; --label names another one")
    whole: dict[str, Any] = {name: table.data[name].combine_chunks() for name in table.names}
    with open_writer(target) as writer:
        writer.write({**whole, label: _as_cells([placed.get(row, given[row]) for row in range(rows)])})
    recipe = f"your recipe with data.path={quote(target)} data.label={quote(label)}"
    next_step = f"flowgmm init {quote(target)} --label {quote(label)}, or train {recipe}"
    return {**counts, "files": [target], "next": next_step}


def _write_alone(file: str, save: str, label: str, choices: str | None) -> dict[str, Any]:
    """Write a table of the labelled rows alone."""
    from flowgmm_cli.data.label_studio import read_labels
    from flowgmm_cli.data.writers.base import open_writer

    labels = read_labels(file, name=choices, inputs=(), note=output.note)
    output.note(f"labels  {labels.describe()}")
    names = dict.fromkeys(name for task in labels.tasks for name in task if name != label)
    columns = {name: _as_cells([task.get(name) for task in labels.tasks]) for name in names}
    with open_writer(save) as writer:
        writer.write({**columns, label: _as_cells(labels.labels)})
    output.note("unlabelled rows help: --data TABLE writes the labels beside all rows of a table")
    counts = {"labels": len(labels.labels), "left_out": dict(labels.left_out)}
    return {**counts, "files": [save], "next": f"flowgmm init {quote(save)} --label {quote(label)}"}


def _join_run(
    file: str, run: str | None, choices: str | None, recipe: Path | None, *, force: bool
) -> dict[str, Any]:
    """Write a recipe for the rows of a run, and their table, with the labels."""
    with open_session(None, run) as session:
        from flowgmm_cli.data.label_studio import read_labels
        from flowgmm_cli.inference.inputs import training_rows
        from flowgmm_cli.inference.new_classes import train_command, write_classes

        target = recipe or Path(f"{session.trained.recipe.name}_more.yaml")
        session.check_target(target, force=force)
        columns = session.trained.preprocessor.columns
        inputs = [column.name for column in columns]
        labels = read_labels(file, name=choices, inputs=[*inputs, "id"], note=output.note)
        own = session.own_rows("labels import")
        pile = training_rows(own)
        cells = {column.name: pile.columns[column.name] for column in columns if column.kind in _COMPARED}
        names = [*own.class_names, None]
        given = [names[index] for index in pile.labels]
        placed, counts = _place(labels, pile.ids, cells, given, f"{file} and {session.run.path}")
        if new := sorted(set(placed.values()) - set(own.class_names)):
            output.note(f"classes {join_some(new, len(new), 12)}: no class of the run, so a new one")
        with explain_write_errors(target):
            hint = "flowgmm labels import FILE --data TABLE adds labels to the table of the run"
            recipe_of_run = session.trained.recipe
            files = write_classes(target, recipe_of_run, own, pile, placed, hint=hint)
            line = train_command(files, own.columns, session.run.path)
    return {**counts, "files": list(map(str, files)), "next": line}


def _place(
    labels: Labels,
    ids: Iterable[str],
    cells: Mapping[str, Iterable[Any]],
    given: Sequence[str | None],
    where: str,
) -> tuple[dict[int, str], dict[str, Any]]:
    """Return the label of each row that a task names, by position, and counts for JSON."""
    from flowgmm_cli.data.label_studio import match_rows

    output.note(f"labels  {labels.describe()}")
    rows = match_rows(labels.tasks, ids, cells)
    placed = {row: name for row, name in zip(rows, labels.labels, strict=True) if row is not None}
    lost = [task for task, row in zip(labels.tasks, rows, strict=True) if row is None]
    example = [f"a task without a row: {_shorten_task(task)}" for task in lost[:1]]
    if not placed:
        raise DataError(
            f"no task fits a row: {where}",
            details=example,
            hint="a task needs the id of its row, or the text or columns under their names in the table",
        )
    new = sum(given[row] is None for row in placed)
    changed = sum(given[row] not in (None, name) for row, name in placed.items())
    output.note(f"rows    {new:,} with a new label, {changed:,} with another one than before")
    if lost:
        output.warn(f"no row fits {pluralise(len(lost), 'task')}; such labels are left out", example)
    counts = {"labels": len(placed), "new": new, "changed": changed, "unmatched": len(lost)}
    return placed, {**counts, "left_out": dict(labels.left_out)}


def _shorten_task(task: Mapping[str, Any]) -> str:
    from flowgmm_cli.report.text import format_cell

    return ", ".join(f"{name}: {format_cell(value, max_letters=60)}" for name, value in task.items())


def _as_cells(values: Sequence[Any]) -> Array:
    """Return cells as strings, None where they are empty."""
    import numpy as np

    return np.array([None if value is None else str(value) for value in values], dtype=object)
