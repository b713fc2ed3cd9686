"""Cost of flowgmm against one size at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from library import Library, Precision
from shapes import Rows, Shape
from timing import CLOCKS, Contender, by_turns, repeated

from flowgmm_cli.trained_model import encode

BASE = Shape("base", 128, 1024, hidden=256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Axis:
    """One size that grows.

    Attributes:
        what: the work, and the size.
        sizes: from small to large.
        contenders: those of one size.
    """

    what: str
    sizes: tuple[int, ...]
    contenders: Callable[[int], list[Contender]]


def steps(key: str) -> Callable[[int], list[Contender]]:
    """Training steps with the default losses at the base shape with another size."""

    def make(size: int) -> list[Contender]:
        shape = replace(BASE, **{key: size})  # type: ignore[arg-type]
        shape = replace(shape, labelled=max(shape.labelled, shape.classes))
        rows = Rows.of(shape)
        return [Library(shape, rows, "default", precision).steps() for precision in PRECISIONS]

    return make


def scored(size: int) -> list[Contender]:
    """Latents and densities of many rows, as `eval` and `predict` see them."""
    rows = Rows.of(BASE)
    model = Library(BASE, rows, "default", "fp32").model().eval()
    x = rows.unlabelled.repeat(-(-size // BASE.batch), 1)[:size]

    @torch.no_grad()
    def work() -> None:
        encode(model, x)

    return [repeated("flowgmm, fp32", work)]


AXES = (
    Axis("training step, rows in a batch", (64, 256, 1024, 4096, 16384), steps("batch")),
    Axis("training step, features", (16, 64, 256, 1024), steps("features")),
    Axis("training step, classes", (2, 16, 64, 256, 1024), steps("classes")),
    Axis("training step, couplings", (2, 4, 8, 16), steps("couplings")),
    Axis("training step, hidden units", (64, 128, 256, 512, 1024), steps("hidden")),
    Axis("scoring, rows", (1_000, 10_000, 100_000), scored),
)


def scaling(*, threads: int, rounds: int, clock: str, axes: Sequence[Axis] = AXES) -> list[dict[str, Any]]:
    """Median seconds along every axis, and the power of the size by which they grow from point to point."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [_along(axis, rounds=rounds, clock=CLOCKS[clock]) for axis in axes]
    finally:
        torch.set_num_threads(before)


def _along(axis: Axis, *, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {}
    for size in axis.sizes:
        for name, times in by_turns(axis.contenders(size), rounds=rounds, clock=clock).items():
            # nothing is compared within a round here, and the least is what others disturb least
            seconds.setdefault(name, []).append(min(times))
    return {
        "what": axis.what,
        "sizes": list(axis.sizes),
        "otherwise": BASE.describe(),
        "seconds": seconds,
        "growth": {name: growth(axis.sizes, times) for name, times in seconds.items()},
    }


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> list[float | None]:
    """The exponent between each point and the one before: 1 = linear; None for the first."""
    found: list[float | None] = [None]
    for index in range(1, len(sizes)):
        found.append(
            math.log(seconds[index] / seconds[index - 1]) / math.log(sizes[index] / sizes[index - 1])
        )
    return found
