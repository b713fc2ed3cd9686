"""Results of passes over rows larger than memory, in the user's cache: arrays, and the feature file.

The results of a table, or of a folder of images, are in a folder of its own. A file name contains a digest
of the files, their sizes and times of modification, and a digest of the key: changed files or another key
miss the cache. A result may contain rows of the data set. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import Arrays, cache_folder, newest_first, read_arrays, write_arrays
from flowgmm_cli.data.store import FeatureFile
from flowgmm_cli.files import remove_leftovers

MAX_FILES = {".npz": 24, ".features": 2}
"""Maximum number of results and of feature files of a table; the newest stay."""
MAX_FEATURE_FILES = 4
"""Maximum number of feature files of all tables."""
_FORMAT = "8"  # changes when the same key and files give other results


class TableCache:
    """Folder of a table in the user's cache.

    Args:
        context: names the cache folder; receives notes.
        where: path of the table.
        files: objects with a distinct `repr`: path, size and time of modification of each file.
    """

    def __init__(self, context: DataContext, where: str, files: Iterable[object]) -> None:
        self._context = context
        self.folder = cache_folder(context, "features") / digest([str(Path(where).expanduser().absolute())])
        self._files = digest(files)

    def path(self, key: Sequence[object], suffix: str) -> Path:
        """Return the file of the result for a key: arrays, and objects with a distinct `repr`."""
        return self.folder / f"{self._files}-{digest([_FORMAT, *key])}{suffix}"

    def load_or_compute(self, key: Sequence[object], compute: Callable[[], Arrays]) -> Arrays:
        """Return the cached result for a key and the same files, or else `compute()`.

        A cache that cannot be written causes a note, but no error.
        """
        if (cached := self.load(key)) is not None:
            return cached
        result = compute()
        self.save(key, result)
        return result

    def load(self, key: Sequence[object]) -> Arrays | None:
        """Return the cached result for a key; None if it is missing or damaged, which a note says."""
        path = self.path(key, ".npz")
        if (cached := read_arrays(path)) is not None:
            touch(path)
        elif path.exists():
            self._note_damage(path)
        return cached

    def open_features(self, path: Path) -> FeatureFile | None:
        """Open a feature file; None if it is missing or damaged, which a note says."""
        try:
            file = FeatureFile(path)
        except OSError:
            return None
        except ValueError:
            self._note_damage(path)
            return None
        touch(path)
        return file

    def _note_damage(self, path: Path) -> None:
        self._context.note(f"{path} in the cache is damaged, and is written again")

    def save(self, key: Sequence[object], result: Arrays) -> None:
        """Cache a result; a folder that cannot be written causes a note."""
        try:
            write_arrays(self.path(key, ".npz"), result)
        except OSError as error:
            self._context.note(
                f"statistics of all rows are not cached: {self.folder} cannot be written ({error.strerror})"
            )
        self.remove_old()

    def remove_old(self) -> None:
        """Remove the results of earlier versions of the files, and the oldest beyond the maximum numbers."""
        with contextlib.suppress(OSError):  # another process may remove the same files
            old = {path for path in self.folder.glob("*.*") if not path.name.startswith((self._files, "."))}
            for suffix, most in MAX_FILES.items():
                old |= set(newest_first(self.folder.glob(f"{self._files}*{suffix}"))[most:])
            old |= set(newest_first(self.folder.parent.glob("*/*.features"))[MAX_FEATURE_FILES:])
            for path in old:
                path.unlink(missing_ok=True)
            for folder in self.folder.parent.iterdir():
                remove_leftovers(folder)


def touch(path: Path) -> None:
    """Mark a file as used, which is no change: the newest stay."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def digest(parts: Iterable[object]) -> str:
    """Return a hex digest of arrays, and of objects with a distinct `repr`."""
    total = blake2b(digest_size=12)
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype.str}{part.shape}".encode())
            total.update(np.ascontiguousarray(part).data)
        else:
            total.update(repr(part).encode("utf-8", "surrogatepass"))
        total.update(b"\0")
    return total.hexdigest()
