"""Source `hf_text`: text classification data from the Hugging Face hub, a local folder or local files."""

from __future__ import annotations

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.labels import encode_labels
from flowgmm_cli.data.sources.columns import row_ids, texts
from flowgmm_cli.data.sources.tables import common_class_names, read_splits
from flowgmm_cli.data.specs import HfTextConfig


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
            extras = table.marker_cells(config.labels.column)
            splits[split] = Rows({name: column}, labels[split], row_ids(split, len(column)), extras)
        return SourceData((Column(name, "text"),), class_names, splits, tuple(notes))


build = HfTextSource
