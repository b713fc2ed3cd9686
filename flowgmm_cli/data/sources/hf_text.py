"""Source `hf_text`: text classification data from the Hugging Face hub, a local folder or local files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.sources.columns import class_codes, code_labels, row_ids, strings, texts
from flowgmm_cli.data.sources.hub_tables import read_splits, split_of
from flowgmm_cli.data.sources.tables import Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from flowgmm_cli.data.specs import HfTextConfig


class HfTextSource:
    """One text column, called `text` if several are joined, and the labels of every split."""

    def __init__(self, config: HfTextConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Read the splits that the configuration names."""
        config = self._config
        named = [config.train_split, config.test_split, config.val_split]
        tables = read_splits(
            config.path,
            name=config.name,
            revision=config.revision,
            splits=[name for name in named if name],
            train_split="train",
            context=self._context,
            note=self._notes.append,
        )
        chosen = {"train": self._split(tables, config.train_split, key="data.train_split")}
        if config.val_split is not None:
            chosen["val"] = self._split(tables, config.val_split, key="data.val_split")
        if config.test_split == "test" and "test" not in tables:
            self._notes.append(f"{config.path} has no split `test`")
        elif config.test_split is not None:
            chosen["test"] = self._split(tables, config.test_split, key="data.test_split")

        parts = [config.text] if isinstance(config.text, str) else config.text
        name = parts[0] if len(parts) == 1 else "text"
        class_names, labels = _labels(chosen, config.label)
        splits = {}
        for split, table in chosen.items():
            column = texts([table.column(part, key="data.text") for part in parts])
            extras = {other: strings(table.data[other]) for other in self._extras(table)}
            splits[split] = Rows({name: column}, labels[split], row_ids(split, len(column)), extras)
        return SourceData((Column(name, "text"),), class_names, splits, tuple(self._notes))

    def _extras(self, table: Table) -> list[str]:
        marker = self._config.labels.column
        return [marker] if marker in table.names else []

    def _split(self, tables: dict[str, Table], name: str, *, key: str) -> Table:
        return split_of(tables, name, path=self._config.path, key=key)


def _labels(tables: dict[str, Table], name: str) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    cells = {split: table.column(name, key="data.label") for split, table in tables.items()}
    names = [table.class_names.get(name) for table in tables.values()]
    if names[0] is not None and all(other == names[0] for other in names):
        codes = {split: class_codes(column, names[0]) for split, column in cells.items()}
        return tuple(names[0]), codes
    return code_labels({split: strings(column) for split, column in cells.items()})


def build(config: HfTextConfig, context: DataContext) -> HfTextSource:
    """Build the source."""
    return HfTextSource(config, context)
