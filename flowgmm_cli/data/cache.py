"""The user's cache: arrays in files, and embeddings of texts by content.

A file is whole or absent, and its checksums show damage. Nothing is ever unpickled. Embeddings have one
folder per encoder (a digest of its `cache_key`), with files of the digests of texts and their vectors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs

from flowgmm_cli.api import DataContext, Encoder, iterate_batches
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.files import atomic_write, load_json, read_npz

Arrays = Mapping[str, Array]
"""Name -> array of numbers, or of strings and None (dtype object)."""

_CHUNK = 2048  # texts between two reports of progress
_PART = 65_536  # texts in one file
_NUMBERS, _TEXTS = "numbers ", "texts "


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
    with atomic_write(path) as stream:
        np.savez(stream, **dict(_to_numbers(arrays)))  # type: ignore[arg-type]


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


def _to_numbers(arrays: Arrays) -> Iterator[tuple[str, Array]]:
    for name, array in arrays.items():
        if array.dtype == object:
            yield _TEXTS + name, np.frombuffer(json.dumps(array.tolist()).encode(), dtype=np.uint8)
        else:
            yield _NUMBERS + name, array


def encode(encoder: Encoder, texts: Sequence[str], context: DataContext) -> npt.NDArray[np.float32]:
    """Return the texts' vectors `(N, dim)`, each distinct text encoded at most once, ever.

    A cache that cannot be written costs a note. Nothing is kept or looked up of a stream of texts: each chunk
    would have to read the whole cache.
    """
    key = None if context.streaming else encoder.cache_key()
    distinct = list(dict.fromkeys(texts))
    folder = None
    if key is not None:
        folder = cache_folder(context, "embeddings") / blake2b(key.encode(), digest_size=16).hexdigest()
    vectors = _encode_distinct(encoder, distinct, folder, context)
    position = {text: row for row, text in enumerate(distinct)}
    return vectors[[position[text] for text in texts]]


def _encode_distinct(
    encoder: Encoder, texts: Sequence[str], folder: Path | None, context: DataContext
) -> npt.NDArray[np.float32]:
    vectors = np.empty((len(texts), encoder.dim), dtype=np.float32)
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    missing = dict(zip(digests, range(len(texts)), strict=True))
    for keys, known in _parts(folder, encoder.dim) if folder is not None else ():
        if not missing:
            break
        if keys.tobytes() == b"".join(digests):  # the texts as they were when it was written
            return known
        hits = [
            (row, at) for at, digest in enumerate(map(bytes, keys)) if (row := missing.pop(digest, -1)) >= 0
        ]
        if hits:
            rows, places = np.array(hits).T
            vectors[rows] = known[places]

    fresh = np.array(list(missing.values()), dtype=np.int64)
    for batch in iterate_batches(len(fresh), _CHUNK):
        context.progress(batch.start, len(fresh), "encoding texts")
        vectors[fresh[batch]] = encoder.encode([texts[row] for row in fresh[batch]])
    if len(fresh):
        context.progress(len(fresh), len(fresh), "encoding texts")
    if folder is not None and len(fresh):
        try:
            for batch in iterate_batches(len(fresh), _PART):
                joined = b"".join(digests[row] for row in fresh[batch])
                path = folder / f"{blake2b(joined, digest_size=16).hexdigest()}.npz"
                part = {"keys": np.frombuffer(joined, dtype=np.uint8).reshape(-1, 16)}
                write_arrays(path, part | {"vectors": vectors[fresh[batch]]})
        except OSError as error:
            context.note(f"vectors of texts are not kept: {folder} cannot be written ({error.strerror})")
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
