"""Decoded pixels on disk, so that images are decoded once and not in every epoch.

A copy is a folder with `pixels.npy` and `about.json`. It is written under another name first, so that one
that is there is whole; copies of files that have changed since are removed when a new one is made.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import user_cache_dir

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_PIXELS, _ABOUT = "pixels.npy", "about.json"
_FORMAT = "1"  # changes when the same files would be decoded to other pixels
_SPARE = 2**30  # bytes of the disk that are left free


@dataclass(frozen=True)
class Copy:
    """A copy that is there.

    Attributes:
        pixels: mapped into memory, uint8 `(N, *shape)`.
        kept: which of the images they are.
        notes: what was said when they were decoded.
    """

    pixels: Bytes
    kept: npt.NDArray[np.int64]
    notes: tuple[str, ...]


class CopyPlace:
    """Where a copy is, or would be.

    Args:
        context: says where this user's caches are.
        where: what the images are of, a path as a rule.
        content: digest of the files.
        rule: what else decides the pixels.
    """

    def __init__(self, context: DataContext, *, where: str, content: str, rule: str) -> None:
        base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
        self._files = _digest(content)
        there = Path(where).expanduser()
        self._parent = base / "pixels" / _digest(str(there.resolve()) if there.exists() else where)
        self.folder = self._parent / f"{self._files}-{_digest(_FORMAT + rule)}"

    def find(self) -> Copy | None:
        """The copy, if there is a sound one."""
        try:
            about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            pixels = np.load(self.folder / _PIXELS, mmap_mode="r", allow_pickle=False)
            kept = np.array(about["kept"], dtype=np.int64)
            notes = tuple(str(note) for note in about["notes"])
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None
        sound = pixels.dtype == np.uint8 and len(pixels) == len(kept)
        return Copy(pixels, kept, notes) if sound else None

    def start(self, shape: tuple[int, ...]) -> CopyWriter:
        """Begin a copy of `(N, *shape)` pixels.

        Raises:
            OSError: the folder cannot be written, or has too little space.
        """
        self._parent.mkdir(parents=True, exist_ok=True)
        needed = int(np.prod(shape)) + _SPARE
        if shutil.disk_usage(self._parent).free < needed:
            raise OSError(28, "too little space on the disk")
        return CopyWriter(self, Path(tempfile.mkdtemp(dir=self._parent, suffix=".tmp")), shape)

    def remove_outdated(self) -> None:
        """Remove the copies of the same place whose files were others."""
        for other in self._parent.iterdir():
            if not other.name.startswith(self._files) and other.suffix != ".tmp":
                shutil.rmtree(other, ignore_errors=True)


class CopyWriter:
    """A copy that is being written; `pixels` takes the images."""

    def __init__(self, place: CopyPlace, folder: Path, shape: tuple[int, ...]) -> None:
        self._place = place
        self._folder = folder
        self.pixels: Bytes = np.lib.format.open_memmap(
            folder / _PIXELS, mode="w+", dtype=np.uint8, shape=shape
        )

    def finish(self, kept: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], notes: Sequence[str]) -> Copy:
        """Give the copy its name.

        Args:
            kept: which of the images are good.
            rows: which rows of `pixels` hold them.
            notes: what the user is told.
        """
        if len(rows) != len(self.pixels):  # damaged images leave holes
            shorter = np.lib.format.open_memmap(
                self._folder / f"{_PIXELS}.new", mode="w+", dtype=np.uint8,
                shape=(len(rows), *self.pixels.shape[1:]),
            )  # fmt: skip
            for at, row in enumerate(rows.tolist()):
                shorter[at] = self.pixels[row]
            self.pixels = shorter
            (self._folder / f"{_PIXELS}.new").replace(self._folder / _PIXELS)
        self.pixels.flush()  # type: ignore[attr-defined]  # a memmap
        about = {"kept": kept.tolist(), "notes": list(notes)}
        (self._folder / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        try:
            self._folder.replace(self._place.folder)
        except OSError:  # there is one: a damaged one, or another process was faster
            if (found := self._place.find()) is not None:
                self.abandon()
                return found
            shutil.rmtree(self._place.folder)
            self._folder.replace(self._place.folder)
        self._place.remove_outdated()
        found = self._place.find()
        return found if found is not None else Copy(self.pixels, kept, tuple(notes))

    def abandon(self) -> None:
        """Remove what is there of it."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
