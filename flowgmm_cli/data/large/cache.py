"""Disk cache of results of a pass over all rows of a table; a pass over a terabyte takes most of an hour.

Each result is an npz file in a folder of its table. Its name contains a digest of the files of the table,
their sizes and times of modification, and a digest of the key: changed files or another key miss the cache.
A result may contain rows of the data set. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.files import atomic_write

Arrays = Mapping[str, Array]
"""Name -> array of numbers, or of strings and None (dtype object)."""

MAX_FILES = 24
"""Maximum number of results per table; the newest stay."""
_FORMAT = "2"  # changes when the same key and files give other results
_NUMBERS, _TEXTS = "numbers ", "texts "


def load_or_compute(
    table: TableFiles, context: DataContext, key: Sequence[object], compute: Callable[[], Arrays]
) -> Arrays:
    """Return the cached result for a key and the same files, or else `compute()`.

    The key is everything that determines the result: arrays, and objects with a distinct `repr`. A cache that
    cannot be written causes a note, but no error.
    """
    base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
    folder = base / "tables" / _digest([str(Path(table.where).expanduser().absolute())])
    files = _digest((str(file.path), file.size, file.modified, file.groups) for file in table.files)
    path = folder / f"{files}-{_digest([_FORMAT, *key])}.npz"
    if (cached := _read(path)) is not None:
        with contextlib.suppress(OSError):
            path.touch()  # the newest files stay
        return cached
    result = compute()
    try:
        with atomic_write(path) as stream:
            np.savez(stream, **dict(_encode(result)))  # type: ignore[arg-type]
    except OSError as error:
        context.note(f"statistics of all rows are not cached: {folder} cannot be written ({error.strerror})")
    with contextlib.suppress(OSError):  # another process may remove the same files
        _remove_old(folder, files)
    return result


def _encode(arrays: Arrays) -> Iterator[tuple[str, Array]]:
    for name, array in arrays.items():
        if array.dtype == object:
            yield _TEXTS + name, np.frombuffer(json.dumps(array.tolist()).encode(), dtype=np.uint8)
        else:
            yield _NUMBERS + name, array


def _read(path: Path) -> Arrays | None:
    """Return the arrays of a file; None if it is missing or its checksums show damage."""
    arrays: dict[str, Array] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in file.files:
                array = file[name]
                if name.startswith(_TEXTS):
                    array = np.array(json.loads(array.tobytes()), dtype=object)
                arrays[name.removeprefix(_TEXTS).removeprefix(_NUMBERS)] = array
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return arrays


def _remove_old(folder: Path, files: str) -> None:
    """Remove the results for earlier versions of the files, and the oldest beyond `MAX_FILES`."""
    paths = sorted(folder.glob("*.npz"), key=lambda path: -path.stat().st_mtime)
    current = [path for path in paths if path.name.startswith(files)]
    for path in {*paths} - {*current[:MAX_FILES]}:
        path.unlink(missing_ok=True)


def _digest(parts: Iterable[object]) -> str:
    total = blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            total.update(repr(part).encode("utf-8", "surrogatepass"))
        total.update(b"\0")
    return total.hexdigest()
