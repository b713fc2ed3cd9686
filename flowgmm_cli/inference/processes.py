"""Rows scored by several processes: each has the model, pieces of rows go out and come back in order.

For what one process cannot do side by side: texts, whose encoders hold the interpreter, and several GPUs.
Numbers on a CPU are as fast in the threads of one process, see `workers`.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.schema import Chunk, OnError, RowReader
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.inference.scoring import Scored, Task, find_device, moved, pieces, score
from flowgmm_cli.inference.workers import results
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


@dataclass(frozen=True)
class _Wanted:
    """A `Task` as it is sent to a process, which loads the model by itself."""

    folder: Path
    scores: tuple[str, ...]
    latents: bool
    inputs: bool
    offline: bool
    on_error: OnError
    name: str
    device: str
    threads: int


def score_by(
    processes: int,
    folder: Path,
    trained: TrainedModel,
    reader: RowReader,
    *,
    scores: Sequence[str] = (),
    latents: bool = False,
    inputs: bool = False,
    context: DataContext | None = None,
    on_error: OnError = "keep",
    device: str | None = None,
) -> Iterator[Scored]:
    """Score rows with several processes; every row of the input comes out once, in order.

    On GPUs each process has one of its own, as far as there are enough.

    Args:
        processes: how many; 1 scores here.
        folder: the run whose model it is.
        trained, reader, scores, latents, inputs, context, on_error, device: see `score`.

    Raises:
        RunFailedError: a process has been killed.
        FlowgmmError: as for `score`.
    """
    context = context or DataContext()
    if processes == 1:
        yield from score(
            trained,
            reader,
            scores=scores,
            latents=latents,
            inputs=inputs,
            context=context,
            on_error=on_error,
            device=device,
        )
        return
    wanted = _Wanted(
        folder.absolute(),
        tuple(scores),
        latents,
        inputs,
        context.offline,
        on_error,
        reader.name,
        find_device(device or "auto").type,
        max(1, torch.get_num_threads() // processes),
    )
    # a process that torch has begun to work in cannot be forked
    surroundings = multiprocessing.get_context("spawn")
    number = surroundings.Value("i", 0)
    pool = ProcessPoolExecutor(
        processes, mp_context=surroundings, initializer=_begin, initargs=(wanted, number)
    )
    try:
        yield from results(
            (pool.submit(_work, piece) for piece in pieces(reader, trained)), ahead=2 * processes
        )
    except BrokenProcessPool as error:
        raise RunFailedError(
            "a process that scored rows has been killed; this machine may have run out of memory",
            hint=f"fewer than --processes {processes}",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_tasks: list[Task] = []  # of this process, once it has begun


def _begin(wanted: _Wanted, number: Synchronized[int]) -> None:
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asked for the work ends it
    torch.set_num_threads(wanted.threads)
    threadpool_limits(limits=wanted.threads, user_api="blas")
    with number.get_lock():
        place = number.value
        number.value += 1
    device = torch.device(wanted.device)
    if device.type == "cuda":
        device = torch.device("cuda", place % torch.cuda.device_count())
    context = DataContext(offline=wanted.offline, streaming=True)
    trained = moved(TrainedModel.load(wanted.folder, context=context), device)
    _tasks.append(
        Task(trained, wanted.scores, wanted.latents, wanted.inputs, context, wanted.on_error, wanted.name)
    )


def _work(piece: Chunk) -> Scored:
    return _tasks[0].whole(piece)
