"""Devices and number formats, on accelerate."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from flowgmm_cli.devices import find_device

Precision = Literal["fp32", "bf16"]

_WORTH_IT = 1.3  # how much faster bf16 must be to be chosen
_WORTH_SHARING = 4e9  # floating-point operations of a step, some 20 ms of one thread
_SMALL = 8  # features below which rounding costs more than it saves


@dataclass(frozen=True)
class Engine:
    """Where and how the arithmetic is done.

    Attributes:
        device: of all tensors of a step.
        precision: of matrix products in networks; log-determinants and the mixture stay in float32.
    """

    device: torch.device
    precision: Precision

    def autocast(self) -> AbstractContextManager[object]:
        """Matrix products in bfloat16, if that is the precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def describe(self) -> str:
        """For people, such as `cpu, bf16`."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else ""
        return ", ".join(part for part in (str(self.device), name, self.precision) if part)


def make_engine(*, device: str, precision: str, features: int) -> Engine:
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
        precision = "bf16" if features >= _SMALL and bf16_pays(place) else "fp32"
    return Engine(place, "bf16" if precision == "bf16" else "fp32")


def bf16_pays(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are clearly faster here, by a measurement of a few milliseconds."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    wide = torch.ones(1024, 512)
    square = torch.ones(512, 512)
    slow = _best_time(wide, square)
    return slow > _WORTH_IT * _best_time(wide.bfloat16(), square.bfloat16())


def _best_time(a: Tensor, b: Tensor) -> float:
    """Seconds of a product on one thread, by its own clock, which stands still while it has to wait."""
    times, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(6):
            start = time.thread_time()
            a @ b
            times.append(time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return min(times)


@contextmanager
def suitable_threads(engine: Engine, operations: float) -> Iterator[None]:
    """Use one thread inside the block if a step is too small to be worth sharing out.

    Threads have to wait for each other after every layer; for small steps that costs more than the second
    processor brings, and many times more on a busy machine. The choice depends on the size alone, so that it
    is the same on every run. OMP_NUM_THREADS, if set, decides instead.

    Args:
        engine: where the work is done; only a CPU is concerned.
        operations: floating-point operations of a step.
    """
    before = torch.get_num_threads()
    if engine.device.type == "cpu" and operations < _WORTH_SHARING and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def rounded_products(engine: Engine, on: bool) -> Iterator[None]:
    """Let float32 matrix products of a GPU round their factors to TF32 inside the block, if `on`."""
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

    torch would then also fill all fresh memory, in case something reads it before it is written; nothing
    here does, and it is hundreds of fills a step.
    """
    memory: Any = torch.utils.deterministic
    # not `use_deterministic_algorithms`, which imports all of torch's compiler, a second of every run
    before, fills = torch.get_deterministic_debug_mode(), memory.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("warn" if on else "default")
    memory.fill_uninitialized_memory = fills and not on
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        memory.fill_uninitialized_memory = fills
