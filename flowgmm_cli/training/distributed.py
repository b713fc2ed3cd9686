"""Data-parallel training: the process group, its collectives, and errors of a lost peer.

Every process takes an equal share of the labelled and unlabelled rows of each batch and has its own random
numbers. `DistributedDataParallel` averages the gradients. The main process (rank 0) alone writes and prints.
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from flowgmm_cli.errors import FlowgmmError, LostProcessError, RunFailedError, UsageError
from flowgmm_cli.processes import is_main_process, world_size

# of errors because a message could not be sent or received
_MESSAGES = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
_TIMEOUT = timedelta(hours=6)  # the main process may encode texts while the others wait
_LAST_WORDS = timedelta(seconds=60)
_EXIT_CODE = "exit_code_of_main_process"


@dataclass(frozen=True)
class Distributed:
    """This process among those that train together; by default it is the only one.

    `device` is that of messages and, on GPUs, of this process; None for a single process.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device | None = None

    @property
    def is_main_process(self) -> bool:
        """True for rank 0."""
        return self.rank == 0

    def shard(self, index: Tensor) -> Tensor:
        """Share of this process in a batch, `index[rank::world_size]`, equally long in every process.

        As in `torch.utils.data.DistributedSampler`, the first rows are taken twice where the number of rows
        is not a multiple of the number of processes.
        """
        rows = len(index)
        if self.world_size == 1 or not rows:
            return index
        end = rows + -rows % self.world_size
        return index[torch.arange(self.rank, end, self.world_size, device=index.device) % rows]

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, in place."""
        if self.world_size > 1:
            with translate_errors():
                distributed.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Rows of all processes `(world_size * n, ...)`, given `(n, ...)` in each."""
        if self.world_size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with translate_errors():
            distributed.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of the main process; one message for each dtype."""
        if self.world_size == 1:
            return
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            group = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            with translate_errors():
                distributed.broadcast(flat, src=0)
            parts = flat.split_with_sizes([tensor.numel() for tensor in group])
            for tensor, part in zip(group, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def broadcast_text(self, text: str) -> str:
        """Text of the main process, sent as bytes."""
        if self.world_size == 1:
            return text
        data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        length = torch.tensor([len(data)], device=self.device)
        with translate_errors():
            distributed.broadcast(length, src=0)
            data = data if self.is_main_process else data.new_empty(int(length))
            distributed.broadcast(data, src=0)
        return bytes(data.tolist()).decode()

    def barrier(self) -> None:
        """Wait until every process has come to this point."""
        self.all_reduce(torch.zeros(1, device=self.device))

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Run the block in the main process, then in one process of each other machine, then in the rest.

        The later ones find the files that an earlier one has downloaded or computed.
        """
        turn = 0 if self.is_main_process else 1 if self.local_rank == 0 else 2
        for _ in range(turn):
            self.barrier()
        yield
        for _ in range(2 - turn):
            self.barrier()


@contextmanager
def init_process_group(device: str) -> Iterator[Distributed]:
    """Join the other processes of the run, if there are any, and leave them at the end.

    Raises:
        LostProcessError: the other processes do not answer.
        UsageError: there are more processes on this machine than GPUs.
    """
    if world_size() == 1:
        yield Distributed()
        return
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and local_size > torch.cuda.device_count():
        raise UsageError(
            f"{local_size} processes are to share {torch.cuda.device_count()} GPUs of this machine",
            hint="as many processes as GPUs, or run.device=cpu",
        )
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size))
    backend, place = "gloo", torch.device("cpu")
    if on_gpu:
        backend, place = "nccl", torch.device("cuda", local_rank)
        torch.cuda.set_device(place)
    with translate_errors():
        store, rank, size = next(rendezvous("env://", timeout=_TIMEOUT))
        own_store = PrefixStore("flowgmm", store)
        distributed.init_process_group(backend, timeout=_TIMEOUT, world_size=size, rank=rank, store=own_store)
    try:
        yield Distributed(rank, size, local_rank, place)
    except BaseException as error:
        if is_main_process():
            code = error.exit_code if isinstance(error, FlowgmmError) else RunFailedError.exit_code
            atexit.register(_announce_end, store, code)  # after its error has been printed
        elif isinstance(error, LostProcessError):
            error.exit_code = _wait_for_main_process(store)
        if not on_gpu:  # NCCL would wait for peers that may be gone
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()


def _announce_end(store: Any, code: int) -> None:
    with suppress(RuntimeError):  # peers that are gone need no answer
        store.set(_EXIT_CODE, str(code))


def _wait_for_main_process(store: Any) -> int:
    """Let the main process print its error, and return its exit code.

    As soon as one process ends, the launcher ends all others, and the run ends with the code of the first.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(RuntimeError):
        store.wait([_EXIT_CODE], _LAST_WORDS)
        return int(store.get(_EXIT_CODE))
    return LostProcessError.exit_code


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of torch's collectives in the block into `LostProcessError`."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or any(text in str(error) for text in _MESSAGES):
            raise LostProcessError("another process of this run is gone") from error
        raise
