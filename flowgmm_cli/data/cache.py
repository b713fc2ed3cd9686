"""The user's cache: vectors of texts and images, and results of passes over rows larger than memory.

A file is whole or absent, and its checksums show damage. Nothing is ever unpickled. Vectors have a folder
for each encoder (a digest of its `cache_key`), with files of the digests of items and their vectors. The
results of a table, or of a folder of images, have a folder of their own; a file name contains a digest of the
files, their sizes and times of modification, and a digest of the key, so changed files or another key miss
the cache. A result may contain rows of the data set.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from flowgmm_cli.api import DataContext, Encoder, iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.feature_file import FeatureFile
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.encoders.joint import JointEncoder
from flowgmm_cli.files import atomic_write, load_json, read_npz, remove_leftovers

Arrays = Mapping[str, Array]
"""Name -> array of numbers, or of strings and None (dtype object)."""

Items = Any
"""A list of texts; or images, uint8 `(N, height, width[, 3])` or `LazyPixels`."""

_CHUNK, _CHUNK_IMAGES = 2048, 256  # texts or images between two reports of progress
_PART = 65_536  # items in one file
_NUMBERS, _TEXTS = "numbers ", "texts "
MAX_FILES = {".npz": 24, ".features": 2}
"""Maximum number of results and of feature files of a table; the newest stay."""
MAX_FEATURE_FILES = 4
"""Maximum number of feature files of all tables."""
_FORMAT = "8"  # changes when the same key and files give other results


def user_cache_dir() -> Path:
    """Return `$FLOWGMM_CACHE_DIR`, else the user's cache folder for flowgmm (`~/.cache/flowgmm` on Linux)."""
    if folder := os.environ.get("FLOWGMM_CACHE_DIR"):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("flowgmm", appauthor=False)


def cache_folder(context: DataContext, name: str) -> Path:
    """Return a folder of the user's cache, which need not exist."""
    return (Path(context.cache_dir) if context.cache_dir else user_cache_dir()) / name


def write_arrays(path: Path, arrays: Arrays) -> None:
    """Write arrays to a file. Raises `OSError` if it cannot be written."""
    stored: dict[str, Array] = {}
    for name, array in arrays.items():
        if array.dtype == object:
            stored[_TEXTS + name] = np.frombuffer(json.dumps(array.tolist()).encode(), dtype=np.uint8)
        else:
            stored[_NUMBERS + name] = array
    with atomic_write(path) as stream:
        np.savez(stream, **stored)  # type: ignore[arg-type]


def read_arrays(path: Path) -> Arrays | None:
    """Return the arrays of a file; None if it is missing or damaged."""
    arrays: dict[str, Array] = {}
    for name, array in (stored := read_npz(path) or {}).items():
        if name.startswith(_TEXTS):
            try:
                array = np.array(load_json(array.tobytes()), dtype=object)
            except ValueError:
                return None
        arrays[name.removeprefix(_TEXTS).removeprefix(_NUMBERS)] = array
    return arrays if stored else None


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Sort files by the time of their last use. Raises `OSError` if another process removes one."""
    return sorted(paths, key=lambda path: -path.stat().st_atime)


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
        with suppress(OSError):  # another process may remove the same files
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
    with suppress(OSError):
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


def encode(encoder: Encoder, items: Items, context: DataContext) -> npt.NDArray[np.float32]:
    """Return the vectors of texts or images, `(N, dim)`, each distinct item encoded at most once, ever.

    A cache that cannot be written costs a note. Nothing is kept or looked up of a stream of items: each chunk
    would have to read the whole cache. Each part of a `JointEncoder` has its own cache.
    """
    if isinstance(encoder, JointEncoder):
        return encoder.join([encode(part, items, context) for part in encoder.parts])
    key = None if context.streaming else encoder.cache_key()
    digests = [digest for batch in iterate_batches(len(items), _CHUNK) for digest in _digests(items[batch])]
    first: dict[bytes, int] = {}  # position of each distinct item
    for position, digest in enumerate(digests):
        first.setdefault(digest, position)
    folder = None
    if key is not None:
        folder = cache_folder(context, "embeddings") / blake2b(key.encode(), digest_size=16).hexdigest()
    vectors = _encode_distinct(encoder, items, first, folder, context)
    row = {digest: row for row, digest in enumerate(first)}
    return vectors[[row[digest] for digest in digests]]


def _digests(items: Items) -> list[bytes]:
    """Return a digest of each text or image."""
    cells = np.asarray(items) if isinstance(items, LazyPixels) else items
    whole = [f"{cell.shape}".encode() + cell.tobytes() for cell in cells if isinstance(cell, np.ndarray)]
    whole = whole or [str(cell).encode("utf-8", "surrogatepass") for cell in cells]
    return [blake2b(data, digest_size=16).digest() for data in whole]


def _encode_distinct(
    encoder: Encoder, items: Items, first: Mapping[bytes, int], folder: Path | None, context: DataContext
) -> npt.NDArray[np.float32]:
    """Return the vectors of the items at the positions `first`, by their digests, in this order."""
    digests, places = list(first), np.array(list(first.values()), dtype=np.int64)
    vectors = np.empty((len(first), encoder.dim), dtype=np.float32)
    missing = dict(zip(digests, range(len(first)), strict=True))
    for keys, known in _parts(folder, encoder.dim) if folder is not None else ():
        if not missing:
            break
        if keys.tobytes() == b"".join(digests):  # the items as they were when it was written
            return known
        hits = [
            (row, at) for at, digest in enumerate(map(bytes, keys)) if (row := missing.pop(digest, -1)) >= 0
        ]
        if hits:
            rows, found = np.array(hits).T
            vectors[rows] = known[found]

    fresh = np.array(list(missing.values()), dtype=np.int64)
    is_text = isinstance(items, list)
    what, size = ("encoding texts", _CHUNK) if is_text else ("encoding images", _CHUNK_IMAGES)
    for batch in iterate_batches(len(fresh), size):
        context.progress(batch.start, len(fresh), what)
        chosen = places[fresh[batch]]
        vectors[fresh[batch]] = encoder.encode([items[at] for at in chosen] if is_text else items[chosen])
    if len(fresh):
        context.progress(len(fresh), len(fresh), what)
    if folder is not None and len(fresh):
        try:
            for batch in iterate_batches(len(fresh), _PART):
                joined = b"".join(digests[row] for row in fresh[batch])
                path = folder / f"{blake2b(joined, digest_size=16).hexdigest()}.npz"
                part = {"keys": np.frombuffer(joined, dtype=np.uint8).reshape(-1, 16)}
                write_arrays(path, part | {"vectors": vectors[fresh[batch]]})
        except OSError as error:
            context.note(f"vectors are not kept: {folder} cannot be written ({error.strerror})")
    return vectors


def _parts(folder: Path, dim: int) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]]:
    """Yield digests `(n, 16)` and vectors `(n, dim)` of the sound files of a folder, newest first."""
    try:
        files = newest_first(folder.glob("*.npz"))
    except OSError:
        return
    for file in files:
        part = read_arrays(file)
        if part is not None and part.keys() == {"keys", "vectors"} and part["vectors"].shape[1:] == (dim,):
            yield part["keys"], part["vectors"]
