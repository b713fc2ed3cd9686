"""Cost of flowgmm as a function of one size at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from library import Library, Precision
from shapes import Rows, Shape
from timing import CLOCKS, Contender, repeat, time_in_rounds

from flowgmm_cli.trained_model import encode

BASE = Shape("base", 128, 1024, hidden=256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Axis:
    """One size that grows.

    Attributes:
        what: the work and the size.
        sizes: in ascending order.
        contenders: returns the contenders of a size.
    """

    what: str
    sizes: tuple[int, ...]
    contenders: Callable[[int], list[Contender]]


def steps(key: str) -> Callable[[int], list[Contender]]:
    """Create contenders of an axis: training steps with the default losses and another `key`."""

    def make(size: int) -> list[Contender]:
        shape = replace(BASE, **{key: size})  # type: ignore[arg-type]
        shape = replace(shape, labelled=max(shape.labelled, shape.classes))
        rows = Rows.draw(shape)
        return [Library(shape, rows, "default", precision).steps() for precision in PRECISIONS]

    return make


def scoring(size: int) -> list[Contender]:
    """Create the contender of an axis: latents and densities of many rows, as in `eval` and `predict`."""
    rows = Rows.draw(BASE)
    model = Library(BASE, rows, "default", "fp32").model().eval()
    x = rows.unlabelled.repeat(-(-size // BASE.batch), 1)[:size]

    @torch.no_grad()
    def work() -> None:
        encode(model, x)

    return [repeat("flowgmm, fp32", work)]


AXES = (
    Axis("training step, rows in a batch", (64, 256, 1024, 4096, 16384), steps("batch")),
    Axis("training step, features", (16, 64, 256, 1024), steps("features")),
    Axis("training step, classes", (2, 16, 64, 256, 1024), steps("classes")),
    Axis("training step, couplings", (2, 4, 8, 16), steps("couplings")),
    Axis("training step, hidden units", (64, 128, 256, 512, 1024), steps("hidden")),
    Axis("scoring, rows", (1_000, 10_000, 100_000), scoring),
)


def scaling(*, threads: int, rounds: int, clock: str, axes: Sequence[Axis] = AXES) -> list[dict[str, Any]]:
    """Measure seconds along every axis, and the exponent of their growth between neighbouring sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [_measure_axis(axis, rounds=rounds, clock=CLOCKS[clock]) for axis in axes]
    finally:
        torch.set_num_threads(before)


def _measure_axis(axis: Axis, *, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    for size in axis.sizes:
        for name, times in time_in_rounds(axis.contenders(size), rounds=rounds, clock=clock).items():
            # nothing is compared within a round, and other programs disturb the minimum least
            seconds.setdefault(name, []).append(min(times))
    return {
        "what": axis.what,
        "sizes": list(axis.sizes),
        "otherwise": BASE.describe(),
        "seconds": seconds,
        "growth": {name: growth(axis.sizes, times) for name, times in seconds.items()},
    }


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> list[float | None]:
    """Exponent between each point and its predecessor: 1 = linear; None for the first."""
    exponents: list[float | None] = [None]
    for index in range(1, len(sizes)):
        exponents.append(
            math.log(seconds[index] / seconds[index - 1]) / math.log(sizes[index] / sizes[index - 1])
        )
    return exponents
