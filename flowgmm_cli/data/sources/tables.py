"""Tables in memory, the splits of data sets of files or of the Hugging Face hub, and the source `hf_text`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.readers.byte_source import require_file, require_header
from flowgmm_cli.data.readers.open import holds_texts, open_table
from flowgmm_cli.data.readers.table import Table, load_table
from flowgmm_cli.data.sources.columns import row_ids, texts
from flowgmm_cli.data.specs import HfTextConfig
from flowgmm_cli.errors import DataError, did_you_mean

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_FILE_TYPES = ("csv", "tsv", "parquet", "json", "jsonl", "npz", "npy", "gz", "zip", "png", "jpg")


def read_table(path: str, *, note: Callable[[str], None]) -> Table:
    """Read a table to train on into memory; see `open_table` for files, `FaultyRows` for malformed rows."""
    reader = open_table(path, note=note)
    require_header(reader.names, where=path)
    return load_table(reader, on_error=None, note=note)


def read_splits(
    config: HfTextConfig | ImagesConfig, context: DataContext, note: Callable[[str], None]
) -> dict[str, Table]:
    """Read the splits of a data set that a configuration names, as `train`, `val`, `test`, `unlabelled`.

    The path is a hub id, a hub-style local folder, or local files; a single file holds the training rows.
    `note` receives guesses and a missing test split. Labels of the split `unlabelled` do not count.
    """
    names = {"train": config.train_split, "val": config.val_split, "test": config.test_split}
    if isinstance(config, ImagesConfig):
        names["unlabelled"] = config.unlabelled_split
    tables = _read_all(config, [name for name in names.values() if name], context, note)
    if names["test"] == "test" and "test" not in tables:
        note(f"{config.path} has no split `test`")
        names["test"] = None
    chosen = {}
    for split, name in names.items():
        if name is None:
            continue
        if name not in tables:
            raise DataError(
                f"{config.path} has no split `{name}` (data.{split}_split){did_you_mean(name, tables)}",
                details=[f"splits: {', '.join(tables)}"],
            )
        chosen[split] = tables[name]
    return chosen


def common_class_names(tables: Sequence[Table], label: str) -> tuple[str, ...] | None:
    """Return the class names of a `ClassLabel` column; None if tables lack them or differ."""
    names = [table.class_names.get(label) for table in tables]
    return tuple(names[0]) if names[0] is not None and all(other == names[0] for other in names) else None


def is_hub_id(path: str) -> bool:
    """Return True if a path that does not exist may be the name of a data set on the hub.

    >>> is_hub_id("ylecun/mnist"), is_hub_id("data/photos/cats"), is_hub_id("mnist.npz")
    (True, False, False)
    """
    return bool(_HUB_ID.fullmatch(path)) and Path(path).suffix.removeprefix(".") not in _FILE_TYPES


def _read_all(
    config: HfTextConfig | ImagesConfig,
    splits: Collection[str],
    context: DataContext,
    note: Callable[[str], None],
) -> dict[str, Table]:
    """Read all splits of a data set; several files are those of the `splits` that their names begin with."""
    paths = config.path if isinstance(config.path, list) else [config.path]
    local = Path(paths[0]).expanduser()
    if len(paths) == 1 and not local.is_file():
        if not local.is_dir() and not is_hub_id(paths[0]):
            require_file(paths[0])  # raises, with a hint of what exists
        if local.is_dir() and holds_texts(local):
            roots = {name: root for name in splits if (root := local / name).is_dir()}
            parts = roots if config.train_split in roots else {config.train_split: local}
            return {name: read_table(str(root), note=note) for name, root in parts.items()}
        from flowgmm_cli.data.sources import hub_tables  # imports `datasets`

        if local.is_dir():
            return hub_tables.read_folder(local.resolve(), config.name)
        return hub_tables.read_hub(paths[0], config.name, config.revision, context)
    if len(paths) == 1:
        return {config.train_split: read_table(paths[0], note=note)}
    tables: dict[str, Table] = {}
    for path in paths:
        stem = require_file(path).stem
        split = next((name for name in splits if re.match(rf"{re.escape(name)}\b", stem)), None)
        if split is None or split in tables:
            raise DataError(
                f"{path} belongs to no split: names of several files must begin with a split's name",
                details=[f"splits: {', '.join(sorted(splits))}"],
            )
        tables[split] = read_table(path, note=note)
    return tables


class HfTextSource:
    """A text column, called `text` if several are joined, and the labels of every split."""

    def __init__(self, config: HfTextConfig, context: DataContext) -> None:
        self._config = config
        self._context = context

    def load(self) -> SourceData:
        """Read the splits that the configuration names."""
        config = self._config
        notes: list[str] = []
        tables = read_splits(config, self._context, notes.append)
        parts = [config.text] if isinstance(config.text, str) else config.text
        name = parts[0] if len(parts) == 1 else "text"
        class_names, labels = encode_labels(
            {split: table.label_strings(config.label) for split, table in tables.items()},
            common_class_names(list(tables.values()), config.label),
            where=f"{config.path}: column `{config.label}`",
            note=notes.append,
            single_class=config.labels.single_class,
        )
        splits = {}
        for split, table in tables.items():
            column = texts([table.column(part, key="data.text") for part in parts])
            extras = table.extra_cells(config.extra_columns)
            splits[split] = Rows({name: column}, labels[split], row_ids(split, len(column)), extras)
        return SourceData((Column(name, "text"),), class_names, splits, tuple(notes))


build = HfTextSource
