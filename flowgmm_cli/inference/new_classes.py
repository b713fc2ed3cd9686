"""Rows of groups as rows of new classes: a table with their labels, and a recipe that trains on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.array_types import Array, Ints
from flowgmm_cli.data.splits import SOFT_LABELS, SplitData
from flowgmm_cli.data.writers.base import Columns, Writer, open_writer
from flowgmm_cli.errors import UsageError
from flowgmm_cli.files import atomic_write, write_text
from flowgmm_cli.inference.groups import Groups
from flowgmm_cli.messages import quote
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.yaml import write_yaml


def label_groups(groups: Groups, names: Mapping[int, str]) -> dict[int, str]:
    """Return the label of the more typical half of the rows of each accepted group, by position."""
    return {
        int(place): name
        for group, name in names.items()
        for place in groups.members(group)[: -(-int((groups.labels == group).sum()) // 2)]
    }


def table_suffix(columns: tuple[Column, ...]) -> str:
    """Return the suffix of a file that can hold the input columns."""
    shapes = [column.shape for column in columns]
    return ".csv" if not any(shapes) else ".npz" if len(columns) == 1 else ".parquet"


def write_classes(
    target: Path, recipe: Recipe, rows: SplitData, pile: Rows, labels: Mapping[int, str], *, hint: str
) -> list[Path]:
    """Write all rows of a run with their visible labels and new ones, and a recipe for them.

    Args:
        target: the recipe to write; the tables lie beside it.
        recipe: recipe of the run.
        rows: rows of the run.
        pile: training and validation rows.
        labels: new labels, by position in `pile`.
        hint: the next step if not all rows of the run are in memory.

    Raises:
        UsageError: not all rows of the run are in memory.

    Returns:
        The files, the recipe first.
    """
    if rows.chunked is not None:
        raise UsageError("labels can be added to rows in memory, and those of this run are not", hint=hint)
    suffix = table_suffix(rows.columns)
    files = {"train": target.with_suffix(suffix)}
    cells = {"train": _labels(pile.labels, rows.class_names)}
    if SOFT_LABELS in pile.extras:  # their columns of probabilities say more
        cells["train"][pile.extras[SOFT_LABELS].any(axis=1)] = ""
    cells["train"][list(labels)] = list(labels.values())
    splits = {"train": pile}
    if rows.test is not None:
        splits["test"], cells["test"] = rows.test, _labels(rows.test.labels, rows.class_names)
        files["test"] = target.with_name(f"{target.stem}_test{suffix}")
    settings = dict(recipe.data.config)
    extras = [name for name in (settings.get("weight"), *(settings["labels"].probabilities or ())) if name]
    id_name, label = (_free_name(name, rows.columns) for name in ("id", "label"))
    if suffix == ".npz":
        column = rows.columns[0]
        arrays: dict[str, Array] = {}
        for split, part in splits.items():
            end = "" if split == "train" else f"_{split}"
            arrays |= {f"x{end}": np.asarray(part.columns[column.name]), f"y{end}": cells[split].astype(str)}
        _write(files["train"], arrays)
        source = {"use": "images" if column.kind == "image" else "arrays", "path": str(files["train"])}
        source |= {"x": "x", "y": "y"}
        source |= {"x_test": "x_test", "y_test": "y_test"} if "test" in splits else {}
        files.pop("test", None)
    else:
        for split, part in splits.items():
            table = {name: _plain_cells(part, column) for column in rows.columns if (name := column.name)}
            table |= {name: pile.extras[name] for name in extras if split == "train"}
            _write(files[split], {id_name: part.ids.astype(object), **table, label: cells[split]})
        source = _table_source(rows.columns, files, id_name, label)
        source |= {"weight": settings["weight"]} if settings.get("weight") else {}
    values = recipe.to_stored()
    values["data"] = {**source, **_common_settings(recipe, source)}
    write_text(target, write_yaml(values))
    return [target, *files.values()]


def train_command(files: Sequence[Path], columns: tuple[Column, ...], run: Path) -> str:
    """Return the line that trains on the files of `write_classes`, from the run if they keep its columns."""
    renamed = files[-1].suffix == ".npz" and columns[0].kind != "image" and columns[0].name != "x"
    return f"flowgmm train {quote(files[0])}" + ("" if renamed else f" --from {quote(run)}")


def _table_source(
    columns: tuple[Column, ...], files: Mapping[str, Path], id_name: str, label: str
) -> dict[str, Any]:
    """Return the settings of source `csv` for the table."""
    by_kind = {kind: [c.name for c in columns if c.kind == kind] for kind in ("text", "category")}
    others = [column.name for column in columns if column.kind != "text"]
    source: dict[str, Any] = {"use": "csv", "path": str(files["train"])}
    if "test" in files:
        source["test_path"] = str(files["test"])
    source |= {"label": label, "id": id_name}
    source |= {"text": by_kind["text"]} if by_kind["text"] else {}
    return {**source, "features": others, "categorical": by_kind["category"]}


def _common_settings(recipe: Recipe, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the run's data section that hold for any source."""
    data = recipe.to_stored()["data"]
    keys = ["transforms", "views", "missing", "dates", *(["encoder"] if "text" in source else [])]
    if source["use"] == "images":
        keys = ["transforms", "views", "channels"]
    elif source["use"] == "arrays":
        keys = ["transforms", "views", "missing"]
    kept = {key: data[key] for key in keys if key in data}
    split = dict(data.get("split") or {})
    # the labels that are visible are all that there are; test rows have a file of their own
    labels = {key: data["labels"][key] for key in ("seed", "probabilities") if data["labels"].get(key)}
    return {**kept, "labels": labels, "split": {**split, "test": 0.0}}


def _labels(labels: Ints, class_names: tuple[str, ...]) -> Array:
    """Return names of classes, '' for rows without a label."""
    return np.array([*class_names, ""], dtype=object)[labels]


def _plain_cells(rows: Rows, column: Column) -> Array:
    """Return cells that a table can hold; dates as texts."""
    cells = np.asarray(rows.columns[column.name])
    if column.kind == "date":
        known = np.isfinite(cells)
        stamps = np.datetime_as_string(np.where(known, cells * 1e3, 0).astype("datetime64[ms]"))
        dates: Array = np.where(known, stamps.astype(object), np.array(None))
        return dates
    return cells.reshape(len(cells), -1) if column.shape else cells


def _free_name(name: str, columns: tuple[Column, ...]) -> str:
    """Return a name that no input column has."""
    while name in {column.name for column in columns}:
        name = f"{name}_"
    return name


def _write(path: Path, columns: Columns) -> None:
    """Write a table, or arrays of any shape and length."""
    if path.suffix == ".npz":
        arrays: dict[str, Any] = dict(columns)
        with atomic_write(path) as file:
            np.savez_compressed(file, **arrays)
        return
    writer: Writer = open_writer(str(path))
    with writer:
        writer.write(columns)
