"""Data sets of the Hugging Face hub, or local copies of them, as tables: one for each split."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import datasets.config

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.hub import hub_access
from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.data.sources.tables import Table, from_dataset, read_table, root_cause
from flowgmm_cli.errors import DataError, did_you_mean

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HUB_TIMEOUT = 10  # seconds until the hub counts as unreachable
_FILES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".npz", ".npy", ".gz", ".zip", ".png", ".jpg")


def read_splits(
    path: str | list[str],
    *,
    name: str | None,
    revision: str | None,
    splits: Collection[str],
    train_split: str,
    context: DataContext,
    note: Callable[[str], None],
) -> dict[str, Table]:
    """Read a data set.

    Args:
        path: hub id, hub-style local folder, or local file(s).
        name: its configuration.
        revision: commit, tag or branch on the hub.
        splits: names that the files of a list may begin with.
        train_split: the name of the only split of a single file.
        context: surroundings.
        note: is told what had to be guessed.

    Raises:
        DataError: there is no such thing, or it cannot be read.
    """
    if isinstance(path, list):
        return _files(path, splits, train_split, note)
    local = Path(path).expanduser()
    if local.is_file():
        return _files([path], splits, train_split, note)
    if local.is_dir():
        return _folder(local.resolve(), name)
    if not is_hub_id(path):
        existing_file(path)  # says what is there instead
    return _hub(path, name, revision, context)


def is_hub_id(path: str) -> bool:
    """Whether a path that is not there may be the name of a data set on the hub.

    >>> is_hub_id("ylecun/mnist"), is_hub_id("data/photos/cats"), is_hub_id("mnist.npz")
    (True, False, False)
    """
    return bool(_HUB_ID.fullmatch(path)) and Path(path).suffix not in _FILES


def split_of(tables: Mapping[str, Table], name: str, *, path: object, key: str) -> Table:
    """The table of a split that the recipe's `key` names.

    Raises:
        DataError: there is no such split.
    """
    if name not in tables:
        raise DataError(
            f"{path} has no split `{name}` ({key}){did_you_mean(name, tables)}",
            details=[f"splits: {', '.join(tables)}"],
        )
    return tables[name]


def _files(
    paths: list[str], splits: Collection[str], train_split: str, note: Callable[[str], None]
) -> dict[str, Table]:
    """One file is the training split; of several, each is the split that its name begins with."""
    if len(paths) == 1:
        return {train_split: read_table(paths[0], note=note)}
    tables: dict[str, Table] = {}
    for path in paths:
        stem = existing_file(path).stem
        split = next((name for name in splits if re.match(rf"{re.escape(name)}\b", stem)), None)
        if split is None or split in tables:
            raise DataError(
                f"{path}: which split is this? Of several files each must begin with a split's name",
                details=[f"splits: {', '.join(sorted(splits))}"],
            )
        tables[split] = read_table(path, note=note)
    return tables


def _folder(folder: Path, name: str | None) -> dict[str, Table]:
    if glob.has_magic(str(folder)):
        raise DataError(
            f"{folder}: `datasets` takes the characters *, ? and [ in a folder's name for patterns",
            hint="rename the folder, or list its files in data.path",
        )
    with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
        try:
            loaded = datasets.load_dataset(str(folder), name, cache_dir=cache, keep_in_memory=True)
        except Exception as error:  # datasets wraps whatever its reader raises
            raise DataError(f"{folder} cannot be read as a data set: {root_cause(error)}") from error
        return {split: from_dataset(rows, f"{folder} ({split})") for split, rows in loaded.items()}


def _hub(path: str, name: str | None, revision: str | None, context: DataContext) -> dict[str, Table]:
    offline = context.offline or datasets.config.HF_HUB_OFFLINE
    trouble = None if offline else probe(path, revision)
    # With the hub out of reach its cache may still do, and says so at once instead of after retries.
    with hub_access(offline=offline or trouble is not None):
        context.progress(0, 1, f"loading {path}")
        try:
            loaded = datasets.load_dataset(path, name, revision=revision)
        except Exception as error:
            reason = trouble or ("offline" if offline else root_cause(error))
            cache = datasets.config.HF_DATASETS_CACHE
            raise DataError(
                f"{reason}, and {path} is neither a local folder nor in the cache ({cache})"
                if offline or trouble
                else f"{path} cannot be loaded from the hub: {reason}",
                hint="set data.path to a local folder of parquet or csv files, or run once with a network",
            ) from error
        return {split: from_dataset(rows, f"{path} ({split})") for split, rows in loaded.items()}


def probe(path: str, revision: str | None) -> str | None:
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
