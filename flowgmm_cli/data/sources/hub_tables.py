"""Read data sets of the Hugging Face hub, and local copies of them, as a table for each split."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import datasets.config
import huggingface_hub.constants
import huggingface_hub.utils
import pyarrow as pa

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import first_line, quote

_HUB_TIMEOUT_SECONDS = 10


@contextmanager
def hub_access(*, offline: bool) -> Iterator[None]:
    """Stop progress bars, logs and telemetry of Hugging Face libraries within this context.

    With `offline` they use only their caches, otherwise the user's environment (`HF_HUB_OFFLINE`) decides.
    """
    # Libraries read the environment on import. These two are imported already and need their constants set;
    # others (transformers) may be imported within this context.
    constants = [(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)]
    constants.append((datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False))
    variables = ["HF_HUB_DISABLE_TELEMETRY"]
    if offline:
        constants += [
            (module, "HF_HUB_OFFLINE", True) for module in (datasets.config, huggingface_hub.constants)
        ]
        variables += ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
    with ExitStack() as stack:
        for module, name, value in constants:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        for name in variables:
            if (before := os.environ.get(name)) is None:
                stack.callback(os.environ.pop, name)
            else:
                stack.callback(os.environ.update, {name: before})
            os.environ[name] = "1"
        for logger in (datasets.utils.logging, huggingface_hub.utils.logging):
            stack.callback(logger.set_verbosity, logger.get_verbosity())
            logger.set_verbosity(logger.CRITICAL)
        if not datasets.are_progress_bars_disabled():
            stack.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        yield


def read_folder(folder: Path, name: str | None) -> dict[str, Table]:
    """Read a local copy of a data set, a folder of files, without changing it."""
    if glob.has_magic(str(folder)):
        raise DataError(
            f"{folder}: `datasets` reads the characters *, ? and [ in a folder's name as patterns",
            hint="rename the folder, or list its files in data.path",
        )
    with TemporaryDirectory(prefix="flowgmm-") as cache, hub_access(offline=True):
        try:
            loaded = datasets.load_dataset(str(folder), name, cache_dir=cache, keep_in_memory=True)
        except Exception as error:  # datasets wraps the errors of its readers
            raise DataError(f"{folder} cannot be read as a data set: {_root_cause(error)}") from error
        return _to_tables(loaded, str(folder))


def read_hub(path: str, name: str | None, revision: str | None, context: DataContext) -> dict[str, Table]:
    """Read a data set of the hub, from the cache if the hub is not reachable."""
    offline = context.offline or datasets.config.HF_HUB_OFFLINE
    unreachable = None if offline else probe(path, revision)
    # If the hub is unreachable, offline mode uses the cache at once, without retries.
    with hub_access(offline=offline or unreachable is not None):
        context.progress(0, 1, f"loading {path}")
        try:
            loaded = datasets.load_dataset(path, name, revision=revision)
        except Exception as error:
            reason = unreachable or ("offline" if offline else _root_cause(error))
            cache = datasets.config.HF_DATASETS_CACHE
            raise DataError(
                f"{reason}, and {path} is neither a local folder nor in the cache ({cache})"
                if offline or unreachable
                else f"{path} cannot be loaded from the hub: {reason}",
                hint="set data.path to a local folder of parquet or csv files, or load it with a network: "
                f"python -c {quote(f'import datasets; datasets.load_dataset({path!r}, {name!r})')}",
            ) from error
        return _to_tables(loaded, path)


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
        return f"the hub refused ({_root_cause(error)})"
    except Exception as error:  # types of the HTTP library, which differ between versions
        return f"the hub cannot be reached ({_root_cause(error)})"
    return None


def _to_tables(loaded: Mapping[str, datasets.Dataset], where: str) -> dict[str, Table]:
    json_type = getattr(datasets, "Json", ())  # since datasets 5
    tables = {}
    for split, dataset in loaded.items():
        data, names = dataset.with_format("arrow")[:], {}
        for index, (name, feature) in enumerate(dataset.features.items()):
            if isinstance(feature, datasets.ClassLabel):
                names[name] = feature.names
            if isinstance(feature, json_type):
                data = data.set_column(index, name, _parse_json(data.column(name)))
        tables[split] = Table(data, names, f"{where} ({split})")
    return tables


def _parse_json(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse JSON cells, the form of a column of mixed types, to plain strings."""
    values = [(cell, None if cell is None else json.loads(cell)) for cell in cells.to_pylist()]
    texts = [value if isinstance(value, str | None) else cell for cell, value in values]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _root_cause(error: BaseException) -> str:
    """Return the first line of the innermost message of a chain of exceptions."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return first_line(error)
