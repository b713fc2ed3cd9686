"""From encoded images to pixels of one shape: in memory, from a decoded copy, or decoded when read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.images.copies import Copy, CopyPlace, CopyWriter
from flowgmm_cli.data.images.decode import UnreadableError, header
from flowgmm_cli.data.images.pictures import Pictures
from flowgmm_cli.data.images.pool import in_order
from flowgmm_cli.data.images.read import decoding_store, reason, try_decode
from flowgmm_cli.data.images.rule import Channels, Header, ImageRule, Resize, choose_rule
from flowgmm_cli.data.images.store import PixelStore, of_array
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Positions = npt.NDArray[np.int64]

_LISTED = 8  # damaged files that a message names


@dataclass(frozen=True)
class Wanted:
    """What images are to become, and what may be done for it.

    Attributes:
        channels: grey or colour; `auto` = grey where all are.
        size: (height, width); None where all have the same.
        resize: see `ImageRule`.
        on_corrupt: what becomes of one that cannot be read: it is an error, or it is left out with a note.
        memory: most bytes of pixels to keep in memory.
        cache: when decoded pixels are kept on disk; `auto` = where they are too many for the memory.
    """

    channels: Channels = "auto"
    size: tuple[int, int] | None = None
    resize: Resize = "error"
    on_corrupt: Literal["error", "skip"] = "error"
    memory: int = 2 * 2**30
    cache: Literal["auto", "never", "always"] = "auto"


@dataclass(frozen=True)
class Loaded:
    """Pixels.

    Attributes:
        pixels: uint8 `(N, height, width)` or `(N, height, width, 3)`.
        kept: which of the images they are, int64 `(N,)`; all, but for damaged ones that are left out.
        notes: what the user should know.
    """

    pixels: Bytes | PixelStore
    kept: Positions
    notes: tuple[str, ...]


def load_pictures(pictures: Pictures, wanted: Wanted, context: DataContext) -> Loaded:
    """Decode every image once, and keep the pixels where they fit.

    Raises:
        DataError: images are damaged, differ in size though they may not, or none is left.
    """
    place = None
    if wanted.cache != "never":
        settings = repr((wanted.channels, wanted.size, wanted.resize, wanted.on_corrupt))
        place = CopyPlace(context, where=pictures.where, content=pictures.signature(), rule=settings)
        if (copy := place.find()) is not None:
            return _of_copy(copy, wanted)
    faults: dict[int, str] = {}
    headers = _headers(pictures, context, faults)
    if not headers:
        raise _damaged(faults, pictures, left=0)
    named = [(pictures.names[index], one) for index, one in headers.items()]
    rule = choose_rule(
        named, where=pictures.where, channels=wanted.channels, size=wanted.size, resize=wanted.resize
    )
    return _decoded(pictures, np.array(list(headers), dtype=np.int64), rule, faults, wanted, place, context)


def _headers(pictures: Pictures, context: DataContext, faults: dict[int, str]) -> dict[int, Header]:
    def one(index: int) -> Header | str:
        try:
            return header(pictures.content(index))
        except (UnreadableError, OSError) as error:
            return reason(error)

    found = {}
    shown = in_order(one, len(pictures), lambda done, n: context.progress(done, n, "looking at images"))
    for index, header_or_fault in enumerate(shown):
        if isinstance(header_or_fault, str):
            faults[index] = header_or_fault
        else:
            found[index] = header_or_fault
    return found


def _decoded(
    pictures: Pictures,
    candidates: Positions,
    rule: ImageRule,
    faults: dict[int, str],
    wanted: Wanted,
    place: CopyPlace | None,
    context: DataContext,
) -> Loaded:
    shape = (len(candidates), *rule.shape)
    fits = int(np.prod(shape)) <= wanted.memory
    notes: list[str] = []
    writer = None
    if place is not None and (wanted.cache == "always" or not fits):
        writer = _start(place, shape, notes)
    target = writer.pixels if writer is not None else np.empty(shape, np.uint8) if fits else None
    try:
        changes, bad = _fill(pictures, candidates, rule, target, context)
        faults |= bad
        if faults and (wanted.on_corrupt == "error" or len(bad) == len(candidates)):
            raise _damaged(faults, pictures, left=len(candidates) - len(bad))
        rows = np.flatnonzero([index not in bad for index in candidates.tolist()])
        kept = candidates[rows]
        notes += [f"{count:,} of {len(kept):,} images: {what}" for what, count in sorted(changes.items())]
        notes += _left_out(faults, pictures)
        if writer is not None and place is not None:
            copy = writer.finish(kept, rows, notes)
            if not fits:
                context.note(f"decoded images are kept in {place.folder}")
            return _of_copy(copy, wanted)
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise
    if target is not None:
        return Loaded(target if len(rows) == len(target) else target[rows], kept, tuple(notes))
    notes.append("images are decoded each time they are read, since their pixels do not fit in data.memory")
    return Loaded(decoding_store(pictures, kept, rule), kept, tuple(notes))


def _start(place: CopyPlace, shape: tuple[int, ...], notes: list[str]) -> CopyWriter | None:
    try:
        return place.start(shape)
    except OSError as error:
        notes.append(
            f"decoded images are not kept: {place.folder.parent} cannot be written ({error.strerror})"
        )
        return None


def _fill(
    pictures: Pictures, candidates: Positions, rule: ImageRule, target: Bytes | None, context: DataContext
) -> tuple[Counter[str], dict[int, str]]:
    """Decode into `target`; return how often what was changed, and the faults by position."""
    changes: Counter[str] = Counter()
    faults: dict[int, str] = {}
    results = in_order(
        lambda at: try_decode(pictures, int(candidates[at]), rule),
        len(candidates),
        lambda done, n: context.progress(done, n, "decoding images"),
    )
    for at, found in enumerate(results):
        if isinstance(found, tuple):
            changes.update(found[1])
            if target is not None:
                target[at] = found[0]
        else:
            faults[int(candidates[at])] = reason(found)
    return changes, faults


def _of_copy(copy: Copy, wanted: Wanted) -> Loaded:
    fits = copy.pixels.nbytes <= wanted.memory
    return Loaded(np.array(copy.pixels) if fits else of_array(copy.pixels), copy.kept, copy.notes)


def _damaged(faults: Mapping[int, str], pictures: Pictures, *, left: int) -> DataError:
    listed = [f"{pictures.names[index]}: {faults[index]}" for index in sorted(faults)[:_LISTED]]
    if len(faults) > _LISTED:
        listed.append(f"and {len(faults) - _LISTED:,} more")
    return DataError(
        f"{pictures.where}: {len(faults):,} of {len(pictures):,} images cannot be read"
        if left
        else f"{pictures.where}: no image can be read",
        details=listed,
        hint="make these files again" + (", or leave them out: data.on_corrupt=skip" if left else ""),
    )


def _left_out(faults: Mapping[int, str], pictures: Pictures) -> Sequence[str]:
    if not faults:
        return []
    listed = [f"{pictures.names[index]} ({faults[index]})" for index in sorted(faults)[:3]]
    more = f" and {len(faults) - 3:,} more" if len(faults) > 3 else ""
    count = f"{len(faults):,} of {len(pictures):,} images"
    return [f"{count} cannot be read and are left out: {', '.join(listed)}{more}"]
