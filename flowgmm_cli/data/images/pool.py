"""Work on many images at once: Pillow lets other threads run while it decodes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

Result = TypeVar("Result")

_FEW = 4  # so few are done sooner than threads are started
_AT_ONCE = 256  # results that wait for their turn
_WARNINGS = Lock()  # filters of warnings belong to the whole process


def workers() -> int:
    """Threads to use: one for each processor that this process may use, 16 at most.

    >>> 1 <= workers() <= 16
    True
    """
    usable = getattr(os, "sched_getaffinity", None)
    return min(16, len(usable(0)) if usable is not None else os.cpu_count() or 1)


def in_order(
    work: Callable[[int], Result],
    count: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Result]:
    """Yield `work(0)` to `work(count - 1)` in that order, however long each takes.

    Pillow warns of oddities within files that leave the pixels as they are; these are not shown.

    Args:
        work: is called from several threads.
        count: how many there are.
        progress: `progress(done, count)`, now and then.
    """
    if count <= _FEW:
        for index in range(count):
            yield _quietly(work, range(index, index + 1))[0]
        return
    with ThreadPoolExecutor(workers(), thread_name_prefix="images") as pool:
        for start in range(0, count, _AT_ONCE):
            progress(start, count)
            yield from _quietly(work, range(start, min(start + _AT_ONCE, count)), pool)
    progress(count, count)


def _quietly(
    work: Callable[[int], Result], indices: range, pool: ThreadPoolExecutor | None = None
) -> list[Result]:
    with _WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        return list((pool.map if pool is not None else map)(work, indices))
