"""Device, precision and the global settings of torch."""

from __future__ import annotations

import os
import time
import timeit
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from flowgmm_cli.errors import UsageError

Precision = Literal["fp32", "bf16"]

_MIN_SPEED_UP = 1.3  # of bf16, to be chosen
_MIN_FLOPS_FOR_THREADS = 4e9  # of a step, some 20 ms of one thread
_MIN_FEATURES = 8  # for bf16; with fewer, rounding costs more than it saves


@dataclass(frozen=True)
class Engine:
    """Device and precision of training.

    Attributes:
        device: device of all tensors of a step.
        precision: precision of matrix products in networks; log-determinants and the mixture stay in float32.
    """

    device: torch.device
    precision: Precision

    def autocast(self) -> AbstractContextManager[object]:
        """Autocast to bfloat16, if that is the precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def describe(self) -> str:
        """Describe both for people, such as `cpu, bf16`."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return ", ".join(part for part in (str(self.device), name, self.precision) if part)


def find_device(
    name: str, *, option: str = "run.device=", names: Sequence[str] = ("auto", "cpu", "cuda", "mps")
) -> torch.device:
    """Return the device of that name; `auto` is the first available of `cuda`, `mps` and `cpu`.

    Where a launcher has set LOCAL_RANK, each process gets a GPU of its own.

    Args:
        name: one of `names`.
        option: how the user sets the name, for messages.
        names: names to choose from.

    Raises:
        UsageError: the name is unknown, or there is no such device.
    """
    if name not in names:
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        raise UsageError(f"{option}{name} is no device: take {listed}", hint=f"{option}auto")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there and kind in names)
    if not available[name]:
        raise UsageError(
            f"{option}{name}, but this machine has no such device that torch can use",
            hint=f"`{option}auto` takes the best one there is; `flowgmm doctor` shows it",
        )
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(name, int(rank)) if name == "cuda" and rank else torch.device(name)


def create_engine(*, device: str, precision: str, features: int) -> Engine:
    """Choose device and precision.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        precision: `auto`, `fp32` or `bf16`.
        features: D; very short vectors stay in fp32 under `auto`.

    Raises:
        UsageError: the device is not there.
    """
    place = find_device(device)
    if precision == "auto":
        precision = "bf16" if features >= _MIN_FEATURES and bf16_is_faster(place) else "fp32"
    return Engine(place, "bf16" if precision == "bf16" else "fp32")


def bf16_is_faster(device: torch.device) -> bool:
    """Measure, in a few milliseconds, if bfloat16 matrix products are clearly faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    wide = torch.ones(1024, 512)
    square = torch.ones(512, 512)
    slow = _best_time(wide, square)
    return slow > _MIN_SPEED_UP * _best_time(wide.bfloat16(), square.bfloat16())


def _best_time(a: Tensor, b: Tensor) -> float:
    """Return processor seconds of a matrix product on one thread, the least of several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(timeit.repeat(lambda: torch.mm(a, b), timer=time.thread_time, number=1, repeat=6))
    finally:
        torch.set_num_threads(threads)


@contextmanager
def limit_threads(engine: Engine, flops: float) -> Iterator[None]:
    """Use one thread inside the block if a step is small.

    Threads wait for each other after every layer; in small steps that costs more than a second processor
    gains, and much more on a busy machine. The choice depends on the size alone, so that every run makes the
    same one. OMP_NUM_THREADS, if set, decides instead.

    Args:
        engine: only a CPU is concerned.
        flops: floating-point operations of a step.
    """
    before = torch.get_num_threads()
    if engine.device.type == "cpu" and flops < _MIN_FLOPS_FOR_THREADS and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def allow_tf32(engine: Engine, on: bool) -> Iterator[None]:
    """Allow TF32 in float32 matrix products of a GPU inside the block, if `on`."""
    before = torch.get_float32_matmul_precision()
    if on and engine.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def deterministic(on: bool) -> Iterator[None]:
    """Use deterministic algorithms inside the block, where torch has them.

    torch would then also fill uninitialised memory, hundreds of times a step; nothing reads it here.
    """
    memory: Any = torch.utils.deterministic
    # `use_deterministic_algorithms` would import torch's compiler, which takes a second
    before, fills = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn" if on else "default")
    memory.fill_uninitialized_memory = fills and not on
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        memory.fill_uninitialized_memory = fills
