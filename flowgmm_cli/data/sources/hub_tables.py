"""Read data sets of the Hugging Face hub, or local copies of them, as a table for each split."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import datasets.config

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.hub import hub_access
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.data.sources.tables import from_dataset, read_table, root_cause
from flowgmm_cli.data.specs import HfTextConfig
from flowgmm_cli.errors import DataError, did_you_mean

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_HUB_TIMEOUT_SECONDS = 10
_FILE_TYPES = ("csv", "tsv", "parquet", "json", "jsonl", "npz", "npy", "gz", "zip", "png", "jpg")


def read_splits(
    config: HfTextConfig | ImagesConfig,
    context: DataContext,
    note: Callable[[str], None],
    *,
    single_split: str,
    unlabelled_split: str | None = None,
) -> dict[str, Table]:
    """Read the splits of a data set that a configuration names, as `train`, `val`, `test`, `unlabelled`.

    Args:
        config: the path (hub id, hub-style local folder, or local files), revision and names of splits.
        context: offline mode and progress.
        note: receives guesses and a missing test split.
        single_split: the split that a single file holds.
        unlabelled_split: name of a split to read without its labels.
    """
    names = {
        "train": config.train_split,
        "val": config.val_split,
        "test": config.test_split,
        "unlabelled": unlabelled_split,
    }
    tables = _read_all(config, [name for name in names.values() if name], single_split, context, note)
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


def _read_all(
    config: HfTextConfig | ImagesConfig,
    splits: Collection[str],
    single_split: str,
    context: DataContext,
    note: Callable[[str], None],
) -> dict[str, Table]:
    path = config.path
    if isinstance(path, list):
        return _read_files(path, splits, single_split, note)
    local = Path(path).expanduser()
    if local.is_file():
        return _read_files([path], splits, single_split, note)
    if local.is_dir():
        return _read_folder(local.resolve(), config.name)
    if not is_hub_id(path):
        require_file(path)  # raises, with a hint of what exists
    return _read_hub(path, config.name, config.revision, context)


def is_hub_id(path: str) -> bool:
    """Return True if a path that does not exist may be the name of a data set on the hub.

    >>> is_hub_id("ylecun/mnist"), is_hub_id("data/photos/cats"), is_hub_id("mnist.npz")
    (True, False, False)
    """
    return bool(_HUB_ID.fullmatch(path)) and Path(path).suffix.removeprefix(".") not in _FILE_TYPES


def _read_files(
    paths: list[str], splits: Collection[str], single_split: str, note: Callable[[str], None]
) -> dict[str, Table]:
    """Read a single file as one split; several files as the splits that their names begin with."""
    if len(paths) == 1:
        return {single_split: read_table(paths[0], note=note)}
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


def _read_folder(folder: Path, name: str | None) -> dict[str, Table]:
    if glob.has_magic(str(folder)):
        raise DataError(
            f"{folder}: `datasets` reads the characters *, ? and [ in a folder's name as patterns",
            hint="rename the folder, or list its files in data.path",
        )
    with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
        try:
            loaded = datasets.load_dataset(str(folder), name, cache_dir=cache, keep_in_memory=True)
        except Exception as error:  # datasets wraps the errors of its readers
            raise DataError(f"{folder} cannot be read as a data set: {root_cause(error)}") from error
        return {split: from_dataset(rows, f"{folder} ({split})") for split, rows in loaded.items()}


def _read_hub(path: str, name: str | None, revision: str | None, context: DataContext) -> dict[str, Table]:
    offline = context.offline or datasets.config.HF_HUB_OFFLINE
    unreachable = None if offline else probe(path, revision)
    # If the hub is unreachable, offline mode uses the cache at once, without retries.
    with hub_access(offline=offline or unreachable is not None):
        context.progress(0, 1, f"loading {path}")
        try:
            loaded = datasets.load_dataset(path, name, revision=revision)
        except Exception as error:
            reason = unreachable or ("offline" if offline else root_cause(error))
            cache = datasets.config.HF_DATASETS_CACHE
            raise DataError(
                f"{reason}, and {path} is neither a local folder nor in the cache ({cache})"
                if offline or unreachable
                else f"{path} cannot be loaded from the hub: {reason}",
                hint="set data.path to a local folder of parquet or csv files, or run once with a network",
            ) from error
        return {split: from_dataset(rows, f"{path} ({split})") for split, rows in loaded.items()}


def probe(path: str, revision: str | None) -> str | None:
    """Query the hub for a data set; return the reason if it is unreachable, else None."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().dataset_info(path, revision=revision, timeout=_HUB_TIMEOUT_SECONDS)
    except GatedRepoError as error:
        raise DataError(
            f"{path} requires accepting its terms on the hub", hint="accept it there, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise DataError(
            f"there is no data set {path}: no such local file or folder, and none on the hub",
            hint="a private data set needs `hf auth login`",
        ) from error
    except HfHubHTTPError as error:
        return f"the hub refused ({root_cause(error)})"
    except Exception as error:  # types of the HTTP library, which differ between versions
        return f"the hub cannot be reached ({root_cause(error)})"
    return None
