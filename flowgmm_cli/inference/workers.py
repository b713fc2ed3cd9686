"""Jobs in parallel threads or processes, with results in the order of the jobs."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from flowgmm_cli.errors import RunFailedError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_in_threads(
    jobs: Iterable[Callable[[], Result]], *, workers: int, threads: int = 1
) -> Iterator[Result]:
    """Run jobs and yield their results in the order of the jobs.

    The caller's thread takes jobs from the iterable, a few more than there are workers, so memory does not
    grow with their number. An error in a job is raised in its place; later jobs are cancelled. Each worker
    computes with one thread: for small networks that is faster than many threads in each layer, and many
    times faster on a busy machine, where the threads of a layer wait for each other. The iterable itself has
    `threads` torch threads.
    """
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with (
            threadpool_limits(limits=1, user_api="blas"),
            ThreadPoolExecutor(workers, "rows", torch.set_num_threads, (1,)) as pool,
        ):
            yield from _iterate_results(map(pool.submit, jobs), ahead=2 * workers)
    finally:
        torch.set_num_threads(before)


def run_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], *, processes: int, initializer: tuple[Any, ...]
) -> Iterator[Result]:
    """Apply a picklable function to items in new processes and yield the results in the order of the items.

    `initializer` is a function with arguments; each process calls it once, with its rank from 0 before them.

    Raises:
        RunFailedError: a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork once it has threads
    ranks = context.SimpleQueue()
    for rank in range(processes):
        ranks.put(rank)
    pool = ProcessPoolExecutor(processes, context, _initialize, (ranks, *initializer))
    try:
        yield from _iterate_results((pool.submit(function, item) for item in items), ahead=2 * processes)
    except BrokenProcessPool as error:
        raise RunFailedError(
            "a process that scored rows was killed; this machine may have run out of memory",
            hint=f"use fewer than --processes {processes}",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _initialize(ranks: Any, initializer: Callable[..., None], *args: Any) -> None:
    initializer(ranks.get(), *args)


def _iterate_results(futures: Iterable[Future[Result]], *, ahead: int) -> Iterator[Result]:
    """Yield the results of futures in order; at most `ahead` futures are started beyond the awaited one."""
    pending: deque[Future[Result]] = deque()
    try:
        for future in futures:
            pending.append(future)
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
