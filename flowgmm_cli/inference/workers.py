"""Pieces of work side by side, with results in order.

Each worker has one thread for its arithmetic: that is faster than many threads for each layer of a small
network, and on a busy machine, where threads would wait for each other, many times faster.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


def run_in_order(jobs: Iterable[Callable[[], Result]], *, workers: int, threads: int = 1) -> Iterator[Result]:
    """Carry out jobs and yield their results in the order of the jobs.

    Jobs are taken from the iterable by the caller's thread, a few more than there are workers, so that memory
    does not grow with their number. An error in a job comes out in its place; what follows is given up.

    Args:
        jobs: work without arguments.
        workers: how many are at work at once.
        threads: threads of torch for what the iterable itself does.
    """
    with _threads(threads), _pool(workers) as pool:
        yield from iterate_results(map(pool.submit, jobs), ahead=2 * workers)


def iterate_results(futures: Iterable[Future[Result]], *, ahead: int) -> Iterator[Result]:
    """The results of futures in their order; up to `ahead` of them are made beyond the one waited for."""
    waiting: deque[Future[Result]] = deque()
    try:
        for future in futures:
            waiting.append(future)
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    from threadpoolctl import threadpool_limits

    gc.freeze()  # what has been imported is no garbage, and looking through it again and again takes time
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(workers, thread_name_prefix="rows", initializer=_begin) as pool,
    ):
        try:
            yield pool
        finally:
            gc.unfreeze()


def _begin() -> None:
    torch.set_num_threads(1)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
