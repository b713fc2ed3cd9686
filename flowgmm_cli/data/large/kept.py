"""What a look at all rows of a table has shown, kept on disk: to look at a terabyte takes most of an hour.

Each look is a file of arrays in a folder of its table. It is named by a digest of the table's files, their
sizes and times of change, and one of what was asked, so that other files or another question find nothing. It
holds the rows that a training keeps in memory, as any copy of a data set does. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.data.large.files import TableFiles
from flowgmm_cli.files import atomic_write

if TYPE_CHECKING:
    import numpy.typing as npt

Arrays = Mapping[str, "npt.NDArray[Any]"]
"""By name: of numbers, or of strings and None (dtype object)."""

MOST = 24
"""Looks at a table that are kept, the newest."""
_FORMAT = "1"  # changes when the same files would show other things
_NUMBERS, _WORDS = "numbers ", "words "


def kept(
    table: TableFiles, context: DataContext, asked: Sequence[object], look: Callable[[], Arrays]
) -> Arrays:
    """`look()`, or what it gave when the same was asked of the same files.

    A cache that cannot be written costs a note and nothing else.

    Args:
        table: the files.
        context: says where this user's caches are.
        asked: all that decides what is seen: arrays, and what `repr` tells apart.
        look: reads the table.
    """
    base = Path(context.cache_dir) if context.cache_dir else user_cache_dir()
    folder = base / "tables" / _digest([str(Path(table.where).expanduser().absolute())])
    files = _digest((str(file.path), file.size, file.changed, file.groups) for file in table.files)
    place = folder / f"{files}-{_digest([_FORMAT, *asked])}.npz"
    if (found := _read(place)) is not None:
        with contextlib.suppress(OSError):
            place.touch()  # it is of use
        return found
    shown = look()
    try:
        with atomic_write(place) as stream:
            np.savez(stream, **dict(_packed(shown)))  # type: ignore[arg-type]
    except OSError as error:
        context.note(
            f"what a look at all rows shows is not kept: {folder} cannot be written ({error.strerror})"
        )
    with contextlib.suppress(OSError):  # another process tidies up
        _tidy(folder, files)
    return shown


def _packed(arrays: Arrays) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, array in arrays.items():
        if array.dtype == object:
            yield _WORDS + name, np.frombuffer(json.dumps(array.tolist()).encode(), dtype=np.uint8)
        else:
            yield _NUMBERS + name, array


def _read(place: Path) -> Arrays | None:
    """What is there; None where there is nothing or it is damaged, which the file's check sums tell."""
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            for name in file.files:
                array = file[name]
                if name.startswith(_WORDS):
                    array = np.array(json.loads(array.tobytes()), dtype=object)
                found[name.removeprefix(_WORDS).removeprefix(_NUMBERS)] = array
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return found


def _tidy(folder: Path, files: str) -> None:
    """Remove looks at files that have changed since, and the oldest of too many."""
    there = sorted(folder.glob("*.npz"), key=lambda place: -place.stat().st_mtime)
    current = [place for place in there if place.name.startswith(files)]
    for place in {*there} - {*current[:MOST]}:
        place.unlink(missing_ok=True)


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
