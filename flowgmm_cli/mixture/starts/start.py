"""What a start is given and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm_cli.errors import DataError


@dataclass(frozen=True)
class StartRows:
    """The latents of the training rows before training; where the flow is the identity, the rows themselves.

    Attributes:
        labelled: rows with a label, `(L, D)`.
        labels: their classes, int64 `(L,)`.
        unlabelled: rows without, `(U, D)`; may be empty.
        classes: number of classes, K.
        dims: how many of the D dimensions carry the mixture, the first ones, d.
    """

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor
    classes: int
    dims: int

    @property
    def one_hot(self) -> Tensor:
        """The labels as shares, float64 `(L, K)`."""
        return torch.nn.functional.one_hot(self.labels, self.classes).double()

    def require_every_class(self) -> None:
        """Raise `DataError` if a class has no labelled row."""
        counts = torch.bincount(self.labels, minlength=self.classes).tolist()
        missing = [k for k, count in enumerate(counts) if not count]
        if missing:
            raise DataError(
                f"no labelled row for {len(missing)} of {self.classes} classes "
                f"(index {', '.join(map(str, missing))})",
                hint="label a row of each class, or start the means elsewhere: prior.means=random",
            )


@dataclass(frozen=True)
class Start:
    """Where a mixture of K classes of C components starts.

    Attributes:
        means: float32 `(K C, d)`, class by class.
        component_weights: positive weights of the components within their class, float32 `(K, C)`.
    """

    means: Tensor
    component_weights: Tensor

    @classmethod
    def even(cls, means: Tensor, *, components: int) -> Start:
        """Equal weights for the components of the means `(K C, d)`."""
        return cls(means.float(), torch.ones(len(means) // components, components))


def subsample(n: int, most: int, generator: torch.Generator) -> Tensor:
    """Ascending positions of at most `most` of `n` rows: int64 `(min(n, most),)`."""
    if n <= most:
        return torch.arange(n)
    return torch.randperm(n, generator=generator)[:most].sort().values


def random_state(generator: torch.Generator) -> int:
    """A seed for scikit-learn, drawn from a generator on the CPU."""
    return int(torch.randint(2**31 - 1, (), generator=generator))
