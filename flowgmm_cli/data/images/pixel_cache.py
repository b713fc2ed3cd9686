"""Decoded pixels cached on disk, so that images are decoded once and not in every epoch.

An entry is a folder with `pixels.npy` and `about.json`. It is written under a temporary name first, so an
existing entry is complete; a new entry replaces those of earlier versions of the files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.array_types import Bytes, Positions
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.data.images.lazy_pixels import LazyPixels

_PIXELS, _ABOUT = "pixels.npy", "about.json"
_FORMAT = "1"  # increased when the same files would be decoded to other pixels
_SPARE_BYTES = 2**30  # free space that is left on the disk


@dataclass(frozen=True)
class LoadedPixels:
    """Pixels of images.

    Attributes:
        pixels: uint8 `(N, height, width)` or `(N, height, width, 3)`; memory-mapped in a cache entry.
        kept: positions of the images, int64 `(N,)`; all but the damaged ones that are left out.
        notes: for the user.
    """

    pixels: Bytes | LazyPixels
    kept: Positions
    notes: tuple[str, ...]


class PixelCache:
    """The place of an entry, which need not exist yet.

    Args:
        context: names the cache folder of the user.
        where: origin of the images, usually a path.
        content: digest of the files.
        settings: all other settings that determine the pixels.
    """

    def __init__(self, context: DataContext, *, where: str, content: str, settings: str) -> None:
        base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
        self._files = _digest(content)
        origin = Path(where).expanduser()
        self._parent = base / "pixels" / _digest(str(origin.resolve()) if origin.exists() else where)
        self.folder = self._parent / f"{self._files}-{_digest(_FORMAT + settings)}"

    def load(self) -> LoadedPixels | None:
        """Return the entry if there is a complete, undamaged one."""
        try:
            about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            pixels = np.load(self.folder / _PIXELS, mmap_mode="r", allow_pickle=False)
            kept = np.array(about["kept"], dtype=np.int64)
            notes = tuple(str(note) for note in about["notes"])
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None
        valid = pixels.dtype == np.uint8 and len(pixels) == len(kept)
        return LoadedPixels(pixels, kept, notes) if valid else None

    def create(self, shape: tuple[int, ...]) -> PixelCacheWriter:
        """Begin an entry of `(N, *shape)` pixels. Raises `OSError` without the right or the space."""
        self._parent.mkdir(parents=True, exist_ok=True)
        needed = int(np.prod(shape)) + _SPARE_BYTES
        if shutil.disk_usage(self._parent).free < needed:
            raise OSError(28, "too little space on the disk")
        return PixelCacheWriter(self, Path(tempfile.mkdtemp(dir=self._parent, suffix=".tmp")), shape)

    def remove_outdated(self) -> None:
        """Remove the entries of earlier versions of the files."""
        for other in self._parent.iterdir():
            if not other.name.startswith(self._files) and other.suffix != ".tmp":
                shutil.rmtree(other, ignore_errors=True)


class PixelCacheWriter:
    """An entry that is being written; the array `pixels` takes the images."""

    def __init__(self, cache: PixelCache, folder: Path, shape: tuple[int, ...]) -> None:
        self._cache = cache
        self._folder = folder
        self.pixels: Bytes = np.lib.format.open_memmap(
            folder / _PIXELS, mode="w+", dtype=np.uint8, shape=shape
        )

    def finish(self, kept: Positions, rows: Positions, notes: Sequence[str]) -> LoadedPixels:
        """Move the entry to its final name; `rows` of `pixels` hold the images at the positions `kept`."""
        if len(rows) != len(self.pixels):  # damaged images leave gaps
            compact = np.lib.format.open_memmap(
                self._folder / f"{_PIXELS}.new", mode="w+", dtype=np.uint8,
                shape=(len(rows), *self.pixels.shape[1:]),
            )  # fmt: skip
            for index, row in enumerate(rows.tolist()):
                compact[index] = self.pixels[row]
            self.pixels = compact
            (self._folder / f"{_PIXELS}.new").replace(self._folder / _PIXELS)
        self.pixels.flush()  # type: ignore[attr-defined]  # a memmap
        about = {"kept": kept.tolist(), "notes": list(notes)}
        (self._folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        try:
            self._folder.replace(self._cache.folder)
        except OSError:  # an entry exists: a damaged one, or another process was faster
            if (existing := self._cache.load()) is not None:
                self.discard()
                return existing
            shutil.rmtree(self._cache.folder)
            self._folder.replace(self._cache.folder)
        self._cache.remove_outdated()
        return self._cache.load() or LoadedPixels(self.pixels, kept, tuple(notes))

    def discard(self) -> None:
        """Remove the unfinished entry."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
