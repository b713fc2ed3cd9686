"""Source `hf_text`: text classification data from the Hugging Face hub, a local folder or local files."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import datasets
import datasets.config
import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.hub import hub_access
from flowgmm_cli.data.sources.columns import class_codes, code_labels, row_ids, strings, texts
from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.data.sources.tables import Table, from_dataset, read_table, root_cause
from flowgmm_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.specs import HfTextConfig

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HUB_TIMEOUT = 10  # seconds until the hub counts as unreachable


class HfTextSource:
    """One text column, called `text` if several are joined, and the labels of every split."""

    def __init__(self, config: HfTextConfig, context: DataContext) -> None:
        self._config = config
        self._context = context
        self._notes: list[str] = []

    def load(self) -> SourceData:
        """Read the splits that the configuration names."""
        config = self._config
        tables = self._tables()
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
        if name not in tables:
            raise DataError(
                f"{self._config.path} has no split `{name}` ({key}){did_you_mean(name, tables)}",
                details=[f"splits: {', '.join(tables)}"],
            )
        return tables[name]

    def _tables(self) -> dict[str, Table]:
        path = self._config.path
        if isinstance(path, list):
            return self._files(path)
        local = Path(path).expanduser()
        if local.is_file():
            return self._files([path])
        if local.is_dir():
            return self._folder(local.resolve())
        if not _HUB_ID.fullmatch(path) or local.suffix in (".csv", ".tsv", ".parquet", ".json", ".jsonl"):
            existing_file(path)  # says what is there instead
        return self._hub(path)

    def _files(self, paths: list[str]) -> dict[str, Table]:
        """One file is the training split; of several, each is the split that its name begins with."""
        if len(paths) == 1:
            return {"train": read_table(paths[0], note=self._notes.append)}
        tables: dict[str, Table] = {}
        known = {self._config.train_split, self._config.test_split, self._config.val_split} - {None}
        for path in paths:
            stem = existing_file(path).stem
            split = next((name for name in known if name and re.match(rf"{re.escape(name)}\b", stem)), None)
            if split is None or split in tables:
                raise DataError(
                    f"{path}: which split is this? Of several files each must begin with a split's name",
                    details=[f"splits: {', '.join(sorted(name for name in known if name))}"],
                )
            tables[split] = read_table(path, note=self._notes.append)
        return tables

    def _folder(self, folder: Path) -> dict[str, Table]:
        if glob.has_magic(str(folder)):
            raise DataError(
                f"{folder}: `datasets` takes the characters *, ? and [ in a folder's name for patterns",
                hint="rename the folder, or list its files in data.path",
            )
        with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
            try:
                loaded = datasets.load_dataset(
                    str(folder), self._config.name, cache_dir=cache, keep_in_memory=True
                )
            except Exception as error:  # datasets wraps whatever its reader raises
                raise DataError(f"{folder} cannot be read as a data set: {root_cause(error)}") from error
            return {split: from_dataset(rows, f"{folder} ({split})") for split, rows in loaded.items()}

    def _hub(self, path: str) -> dict[str, Table]:
        offline = self._context.offline or datasets.config.HF_HUB_OFFLINE
        trouble = None if offline else _probe(path, self._config.revision)
        # With the hub out of reach its cache may still do, and says so at once instead of after retries.
        with hub_access(offline=offline or trouble is not None):
            self._context.progress(0, 1, f"loading {path}")
            try:
                loaded = datasets.load_dataset(path, self._config.name, revision=self._config.revision)
            except Exception as error:
                reason = trouble or ("offline" if offline else root_cause(error))
                cache = datasets.config.HF_DATASETS_CACHE
                raise DataError(
                    f"{reason}, and {path} is neither a local folder nor in the cache ({cache})"
                    if offline or trouble
                    else f"{path} cannot be loaded from the hub: {reason}",
                    hint="set data.path to a local folder of parquet or csv files, "
                    "or run once with a network",
                ) from error
            return {split: from_dataset(rows, f"{path} ({split})") for split, rows in loaded.items()}


def _probe(path: str, revision: str | None) -> str | None:
    """Ask the hub for a data set; return why it is out of reach, None if it is not.

    Raises:
        DataError: the hub answers that there is no such data set or that it may not be read.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(path, revision=revision, timeout=_HUB_TIMEOUT)
    except GatedRepoError as error:
        raise DataError(
            f"{path} asks for an agreement on the hub first", hint="accept it there, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"there is no data set {path}: no such local file or folder, and none on the hub",
            hint="a private data set needs `hf auth login`",
        ) from error
    except HfHubHTTPError as error:
        return f"the hub refused ({root_cause(error)})"
    except Exception as error:  # the HTTP library's own, which differs between versions
        return f"the hub cannot be reached ({root_cause(error)})"
    return None


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
