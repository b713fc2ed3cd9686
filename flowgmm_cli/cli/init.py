"""`flowgmm init`: a recipe for your own table, made from its columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.validation import check_absent, check_stdout
from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import write_text
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.data.table_profile import Profile


SCHEMA = "flowgmm/init/1"
_MAX_SHOWN = 200  # columns

TableFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A table: csv, tsv, parquet or jsonl, with a header; or a folder with a folder of images or "
        "texts for each class.",
    ),
]
LabelColumn = Annotated[str | None, options.option("--label COLUMN", "Column of the class.")]
TextColumns = Annotated[
    list[str] | None,
    options.option("--text COLUMN", "Column of text, if it is not recognised; can be repeated."),
]
Encoding = Annotated[
    str | None, options.option("--encoding NAME", "Encoding of a text file, such as cp1252; default: UTF-8.")
]
RecipeFile = Annotated[
    str | None,
    options.option(
        "--save FILE.yaml|-", "Recipe to write; - for stdout. Default: TABLE.yaml, in this folder."
    ),
]


def init(
    file: TableFile,
    label: LabelColumn = None,
    text: TextColumns = None,
    encoding: Encoding = None,
    save: RecipeFile = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Look at a table and write a recipe that trains on it, with the reason of each choice as a comment.

    Columns that number or name the rows, constants, and columns that give the label away are left out, with
    the reason. A folder of images gets the recipe `images` with its path. Nothing is trained.

    Examples: flowgmm init my.csv --label y · flowgmm init posts.jsonl --label topic --text body ·
    flowgmm init my.csv --label y --save my.yaml && flowgmm train my.yaml
    """
    target = None if save == "-" else Path(save or f"{file.name.removesuffix(file.suffix)}.yaml").expanduser()
    check_stdout(save, as_json=as_json)
    if target is not None:
        check_absent(target, "name another file with --save, or replace it with --force", force=force)

    from flowgmm_cli.data.readers.base import translate_errors
    from flowgmm_cli.data.starter_recipe import holds_images, profile_warnings, render_recipe
    from flowgmm_cli.data.table_profile import profile_file

    if file.is_dir() and holds_images(file):
        flags = {"--label": label, "--text": text, "--encoding": encoding}
        _init_images(file, [flag for flag, value in flags.items() if value], target, as_json=as_json)
        return
    notes: list[str] = []
    with translate_errors(str(file)):
        profile = profile_file(
            str(file), label=label, text=text or (), encoding=encoding, note=notes.append, report=output.note
        )
    words = ["flowgmm", "init", str(file), *(["--label", label] if label else [])]
    words += [word for name in text or () for word in ("--text", name)]
    words += ["--encoding", encoding] if encoding else []
    recipe = render_recipe(profile, path=str(file), command=shlex.join(words))
    notes += profile_warnings(profile)
    _write(recipe, target)
    if target is not None and as_json:
        output.print_json(_to_dict(profile, target, notes))
    elif target is not None:
        _print_columns(profile, target)
    for line in () if as_json else notes:
        output.warn(line)
    if target is not None:
        output.note(f"next: flowgmm train {quote(target)}")


def _write(recipe: str, target: Path | None) -> None:
    if target is None:
        output.print_exact(recipe)
    else:
        with explain_write_errors(target):
            write_text(target, recipe)


def _init_images(folder: Path, flags: Sequence[str], target: Path | None, *, as_json: bool) -> None:
    """Write a recipe for a folder of images, and print its classes."""
    from flowgmm_cli.data.starter_recipe import profile_images, profile_warnings, render_images
    from flowgmm_cli.data.table_profile import Profile

    if flags:
        raise UsageError(
            f"{flags[0]} is for tables, and {folder} holds images", hint="their classes are their folders"
        )
    profile = profile_images(folder, output.note)
    command = shlex.join(["flowgmm", "init", str(folder)])
    _write(render_images(profile, path=str(folder), command=command), target)
    if target is None:
        return
    total = sum(profile.rows.values())
    if as_json:
        counts = {"rows": total, "labelled": profile.labelled, "unlabelled": total - profile.labelled}
        values = {"schema": SCHEMA, "recipe": str(target), **counts, "classes": dict(profile.classes)}
        output.print_json(values)
    else:
        rows = [[name, f"{count:,}"] for name, count in profile.classes.items()]
        title = f"{target}: {total:,} images, {profile.labelled:,} labelled"
        output.print_table(["class", "images"], rows, right=["images"], title=title)
        for line in profile_warnings(Profile(total, "label", profile.classes, ())):
            output.warn(line)
    output.note(f"next: flowgmm train {quote(target)}")


def _print_columns(profile: Profile, target: Path) -> None:
    rows = [
        [c.name, c.kind, c.role, f"{c.missing / max(profile.judged, 1):.0%}", c.distinct, c.reason]
        for c in profile.columns[:_MAX_SHOWN]
    ]
    headers = ["column", "type", "use", "empty", "different", "reason"]
    counts = f"{profile.rows:,} rows, {profile.labelled:,} labelled, {len(profile.classes)} classes"
    output.print_table(headers, rows, right=["empty", "different"], title=f"{target}: {counts}")
    if more := len(profile.columns) - len(rows):
        output.note(f"and {more:,} more columns; --json lists them all")


def _to_dict(profile: Profile, target: Path, notes: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "recipe": str(target),
        "rows": profile.rows,
        "judged_rows": profile.judged,
        "labelled": profile.labelled,
        "unlabelled": profile.rows - profile.labelled,
        "label": profile.label,
        "text": [column.name for column in profile.with_role("text")],
        "classes": dict(profile.classes),
        "columns": [
            {**vars(column), "categorical": (column.kind, column.role) == ("categories", "input")}
            for column in profile.columns
        ],
        "notes": notes,
    }
