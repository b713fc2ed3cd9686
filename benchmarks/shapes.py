"""Sizes of the models, their random rows, and the matrix products of a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import Contender, repeat
from torch import Tensor
from torch.nn import functional as F

UNLABELLED_WEIGHT = 0.6
LEARNING_RATE = 1e-4
CLIP_NORM = 100.0


@dataclass(frozen=True)
class Shape:
    """Sizes of the model and of the batch.

    Attributes:
        name: name in tables.
        features: D.
        batch: unlabelled rows in a step.
        labelled: labelled rows in a step.
        classes: K.
        couplings: number of couplings.
        hidden: width of the two hidden layers of each coupling.
    """

    name: str
    features: int
    batch: int
    labelled: int = 200
    classes: int = 4
    couplings: int = 6
    hidden: int = 512

    def describe(self) -> str:
        """Format the sizes in one line."""
        rows = f"D = {self.features:,}, batch {self.batch:,} + {self.labelled:,}, {self.classes} classes"
        return f"{self.name}: {rows}, {self.couplings} couplings of {self.hidden}"


SHAPES = (
    Shape("text", 384, 1024),
    Shape("table", 16, 256, classes=2),
    Shape("wide", 1024, 1024, classes=10),
    Shape("large batch", 64, 8192, classes=10),
    Shape("small batch", 128, 64, labelled=20),
    Shape("many classes", 128, 1024, labelled=256, classes=256),
)
TINY = (Shape("tiny", 6, 16, labelled=4, classes=2, couplings=2, hidden=8),)


@dataclass(frozen=True)
class Rows:
    """Random rows: `labelled` `(L, D)` with `labels` `(L,)`, `unlabelled` `(B, D)`, and `means` `(K, D)`."""

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor
    means: Tensor

    @classmethod
    def draw(cls, shape: Shape) -> Rows:
        """Draw the rows of a shape, the same for every contender."""
        generator = torch.Generator().manual_seed(0)
        return cls(
            torch.randn(shape.labelled, shape.features, generator=generator),
            torch.arange(shape.labelled) % shape.classes,
            torch.randn(shape.batch, shape.features, generator=generator),
            torch.randn(shape.classes, shape.features, generator=generator) * 0.56,
        )

    def to(self, device: torch.device) -> Rows:
        """Copy the rows to a device."""
        return Rows(*(value.to(device) for value in vars(self).values()))


def products(shape: Shape, dtype: torch.dtype) -> Callable[[], None]:
    """Create a function of only the matrix products of a step, with gradients: a lower bound of its time.

    There is no bias, no activation and one set of inputs, and the results are discarded. The first coupling
    needs no gradient of its input.
    """
    rows, half, hidden = shape.batch + shape.labelled, shape.features // 2, shape.hidden
    sizes = [(half, hidden), (hidden, hidden), (hidden, 2 * (shape.features - half))]
    weights = [[torch.randn(b, a).to(dtype) for a, b in sizes] for _ in range(shape.couplings)]
    inputs = [torch.randn(rows, a).to(dtype) for a, _ in sizes]
    grads = [torch.randn(rows, b).to(dtype) for _, b in sizes]

    def work() -> None:
        for stack in weights:
            for x, weight in zip(inputs, stack, strict=True):
                F.linear(x, weight)
        for index, stack in enumerate(weights):
            for layer, (x, weight, grad) in enumerate(zip(inputs, stack, grads, strict=True)):
                if index or layer:
                    torch.mm(grad, weight)
                torch.mm(grad.T, x)

    return work


def floors(shape: Shape) -> list[Contender]:
    """Create contenders that only compute the products."""
    return [
        repeat(f"matrix products, {name}", products(shape, dtype))
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    ]


def operations(shape: Shape) -> float:
    """Count the floating-point operations of the products."""
    half, hidden = shape.features // 2, shape.hidden
    first = half * hidden
    weights = shape.couplings * (first + hidden * hidden + hidden * 2 * (shape.features - half))
    return 2.0 * (shape.batch + shape.labelled) * (3 * weights - first)
