"""Embeddings of texts, kept on disk by content.

A cache holds one folder per encoder (a digest of its `cache_key`) and in it parts: npy files of records
`(digest of the text, vector)`. A part is named by the digest of its own bytes and is written under another
name first, so that a half-written or damaged file is never taken for a part and two processes that write at
the same time do no harm. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from flowgmm_cli.api import DataContext, Encoder, iterate_batches
from flowgmm_cli.files import write_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

_CHUNK = 2048  # texts between two reports of progress
_PART = 65_536  # texts in one file


def user_cache_dir() -> Path:
    """Return `$FLOWGMM_CACHE_DIR`, else the user's cache folder for flowgmm (`~/.cache/flowgmm` on Linux)."""
    if folder := os.environ.get("FLOWGMM_CACHE_DIR"):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("flowgmm", appauthor=False)


def encode(encoder: Encoder, texts: Sequence[str], context: DataContext) -> npt.NDArray[np.float32]:
    """Return the texts' vectors `(N, dim)`, each distinct text encoded at most once, ever.

    A cache that cannot be written costs a note. Nothing is kept or looked up of a stream of texts: each chunk
    would have to read the whole cache.
    """
    key = None if context.streaming else encoder.cache_key()
    distinct = list(dict.fromkeys(texts))
    folder = None
    if key is not None:
        base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
        folder = base / "embeddings" / blake2b(key.encode(), digest_size=16).hexdigest()
    vectors = _encode_distinct(encoder, distinct, folder, context)
    position = {text: row for row, text in enumerate(distinct)}
    return vectors[[position[text] for text in texts]]


def _encode_distinct(
    encoder: Encoder, texts: Sequence[str], folder: Path | None, context: DataContext
) -> npt.NDArray[np.float32]:
    vectors = np.empty((len(texts), encoder.dim), dtype=np.float32)
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    missing = dict(zip(digests, range(len(texts)), strict=True))
    for part in _parts(folder, encoder.dim) if folder is not None else ():
        if not missing:
            break
        if _same_texts(part, digests):  # as they were when it was written
            return np.ascontiguousarray(part["vector"])
        hits = [
            (row, at)
            for at, digest in enumerate(part["key"].tolist())
            if (row := missing.pop(digest, -1)) >= 0
        ]
        if hits:
            rows, places = np.array(hits).T
            vectors[rows] = part["vector"][places]

    fresh = np.array(list(missing.values()), dtype=np.int64)
    for batch in iterate_batches(len(fresh), _CHUNK):
        context.progress(batch.start, len(fresh), "encoding texts")
        vectors[fresh[batch]] = encoder.encode([texts[row] for row in fresh[batch]])
    if len(fresh):
        context.progress(len(fresh), len(fresh), "encoding texts")
    if folder is not None and len(fresh):
        try:
            for batch in iterate_batches(len(fresh), _PART):
                _write_part(folder, [digests[row] for row in fresh[batch]], vectors[fresh[batch]])
        except OSError as error:
            context.note(f"vectors of texts are not kept: {folder} cannot be written ({error.strerror})")
    return vectors


def _same_texts(part: npt.NDArray[np.void], digests: Sequence[bytes]) -> bool:
    return len(part) == len(digests) and part["key"].tobytes() == b"".join(digests)


def _record(dim: int) -> np.dtype[np.void]:
    return np.dtype([("key", "V16"), ("vector", "<f4", (dim,))])


def _parts(folder: Path, dim: int) -> Iterator[npt.NDArray[np.void]]:
    """Yield the sound parts of a folder, newest first; damaged ones are passed over."""
    try:
        files = sorted(folder.glob("*.npy"), key=lambda file: -file.stat().st_mtime)
    except OSError:  # another process may be tidying up
        return
    for file in files:
        try:
            content = file.read_bytes()
            if file.stem != _digest(content):
                continue
            part = np.load(io.BytesIO(content), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            continue
        if part.dtype == _record(dim):
            yield part


def _write_part(folder: Path, digests: Sequence[bytes], vectors: npt.NDArray[np.float32]) -> None:
    part = np.empty(len(digests), dtype=_record(vectors.shape[1]))
    part["key"] = np.array(digests, dtype="V16")
    part["vector"] = vectors
    buffer = io.BytesIO()
    np.save(buffer, part, allow_pickle=False)
    content = buffer.getvalue()
    write_bytes(folder / f"{_digest(content)}.npy", content)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()
