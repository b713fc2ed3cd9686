"""`flowgmm init`: a recipe for your own table, from a look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Quiet, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.data.table_profile import Profile


def init(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A table: csv, tsv, parquet or jsonl, with a header.")
    ],
    label: Annotated[
        str | None,
        typer.Option("--label", metavar="COLUMN", help="Column of the class.", show_default=False),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="COLUMN",
            help="Column of text, where it is not recognised; can be repeated.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            "--save",
            metavar="FILE.yaml|-",
            help="The recipe to write; - for stdout. Default: the table's name, in the current folder.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that exists.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Look at a table and write a recipe that trains on it, with the reason of each choice as a comment.

    Columns that count or name the rows, dates, constants and columns that give the label away are left out,
    and it is said why. Nothing is trained.

    Examples: flowgmm init my.csv --label y · flowgmm init posts.jsonl --label topic --text body ·
    flowgmm init my.csv --label y --save my.yaml && flowgmm train my.yaml
    """
    import shlex

    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import writing
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.files import write_text

    target = _target(save, file)
    if target is not None and target.exists() and not force:
        raise UsageError(
            f"{target} exists already", hint="name another file with --save, or replace it with --force"
        )
    if target is None and as_json:
        raise UsageError("--json and --save - both write to stdout", hint="leave one of them out")

    from flowgmm_cli.data.label_column import class_counts, label_column
    from flowgmm_cli.data.sources.tables import read_table
    from flowgmm_cli.data.starter_recipe import starter_recipe, warnings
    from flowgmm_cli.data.table_profile import profile

    table = read_table(str(file), note=console.note)
    chosen = label_column(table, label)
    if label is None:
        console.note(f"label   {chosen} (the only column that can be meant; --label names another)")
    for name in text or ():
        table.column(name, key="--text")
        if name == chosen:
            raise UsageError(f"--text {name}: that is the label", hint="name a column of text")
    found = profile(table, label=chosen, classes=class_counts(table, chosen), text=text or ())
    if not found.with_role("input", "text"):
        from flowgmm_cli.errors import DataError

        raise DataError(
            f"{file}: no column can be an input",
            details=[f"{one.name}: {one.reason}" for one in found.with_role("dropped", "id")],
            hint="add a column of numbers, categories or text, or name one with --text",
        )
    words = ["flowgmm", "init", str(file), *(["--label", label] if label else [])]
    words += [word for name in text or () for word in ("--text", name)]
    recipe = starter_recipe(found, path=str(file), command=shlex.join(words))
    if target is None:
        console.print_text(recipe)
    else:
        with writing(target):
            write_text(target, recipe)
        _show(found, target, warnings(found), as_json=as_json)
    if not as_json:
        for line in warnings(found):
            console.warn(line)
    if target is not None:
        console.note(f"next: flowgmm train {shlex.quote(str(target))}")


def _target(save: str | None, file: Path) -> Path | None:
    """The recipe to write; None for stdout."""
    if save == "-":
        return None
    if save is not None:
        return Path(save).expanduser()
    return Path(f"{file.name.removesuffix(file.suffix)}.yaml")


def _show(found: Profile, target: Path, said: list[str], *, as_json: bool) -> None:
    from flowgmm_cli.cli import console

    if as_json:
        console.print_json(_value(found, target, said))
        return
    console.print_table(
        ["column", "what it is", "use", "empty", "different", "why"],
        [
            [
                one.name,
                one.kind,
                one.role,
                f"{one.missing / max(found.rows, 1):.0%}",
                one.distinct,
                one.reason,
            ]
            for one in found.columns
        ],
        right=["empty", "different"],
        title=f"{target}: {found.rows:,} rows, {found.labelled:,} labelled, {len(found.classes)} classes",
    )


def _value(found: Profile, target: Path, said: list[str]) -> dict[str, Any]:
    return {
        "schema": "flowgmm/init/1",
        "recipe": str(target),
        "rows": found.rows,
        "labelled": found.labelled,
        "unlabelled": found.rows - found.labelled,
        "label": found.label,
        "text": [one.name for one in found.with_role("text")],
        "classes": dict(found.classes),
        "columns": [one.to_dict() for one in found.columns],
        "notes": said,
    }
