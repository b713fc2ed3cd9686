"""A cache on disk of the vectors of images, by the digest of the image file.

A folder for each model holds parts: npy files of records `(digest of the image's file, vector)`. A part is
named by the digest of its own bytes and written under another name first: a damaged or unfinished one is
never taken for a part, and two processes may write at once. Nothing is ever unpickled.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import DataContext

Vector = npt.NDArray[np.float32]


def digest(content: bytes) -> bytes:
    """Return the key of an image's vector."""
    return blake2b(content, digest_size=16).digest()


class Cache:
    """The vectors of a model.

    Args:
        context: the cache folder; without one, or when streaming, nothing is cached.
        key: everything but the image that determines its vector.
    """

    def __init__(self, context: DataContext, key: str) -> None:
        keep = bool(context.cache_dir) and not context.streaming
        name = blake2b(key.encode(), digest_size=16).hexdigest()
        self._folder = Path(context.cache_dir, "image_features", name) if keep else None
        self._note = context.note

    def read(self) -> dict[bytes, Vector]:
        """Read all cached vectors."""
        vectors: dict[bytes, Vector] = {}
        if self._folder is None:
            return vectors
        try:
            files = sorted(self._folder.glob("*.npy"))
        except OSError:
            return vectors
        for file in files:
            try:
                content = file.read_bytes()
                if file.stem != digest(content).hex():
                    continue
                part = np.load(io.BytesIO(content), allow_pickle=False)
            except (OSError, ValueError, EOFError):
                continue
            if part.dtype.names == ("key", "vector"):
                vectors.update(zip(part["key"].tolist(), part["vector"], strict=True))
        return vectors

    def write(self, vectors: Mapping[bytes, Vector]) -> None:
        """Write vectors; a folder that cannot be written only causes a note."""
        if self._folder is None or not vectors:
            return
        dim = len(next(iter(vectors.values())))
        part = np.empty(len(vectors), dtype=[("key", "V16"), ("vector", "<f4", (dim,))])
        part["key"] = np.array(list(vectors), dtype="V16")
        part["vector"] = np.stack(list(vectors.values()))
        buffer = io.BytesIO()
        np.save(buffer, part, allow_pickle=False)
        content = buffer.getvalue()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                Path(temporary).replace(self._folder / f"{digest(content).hex()}.npy")
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            self._note(f"vectors of images are not kept: {self._folder} cannot be written ({error.strerror})")
            self._folder = None
