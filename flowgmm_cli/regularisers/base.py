"""Base class of the regularisers that grow at the start of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.specs import RampConfig

ConfigT = TypeVar("ConfigT", bound=RampConfig)


class RampRegulariser(ABC, Generic[ConfigT]):
    """A term of the loss, times a linear ramp over the first epochs."""

    name: ClassVar[str]
    reads: frozenset[str] = frozenset({"strong"})

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the term at full weight, a scalar; 0 without rows."""

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{name: scalar}`."""
        ramp = linear_ramp(batch.epoch, self.config.ramp_epochs)
        return {self.name: ramp * self.loss(model, teacher, batch)}


def linear_ramp(epoch: float, length: float) -> float:
    """Grow linearly from 0 to 1 over `length` epochs; 1 at once if `length` is 0.

    >>> linear_ramp(0.0, 3.0), linear_ramp(1.5, 3.0), linear_ramp(9.0, 3.0), linear_ramp(0.0, 0.0)
    (0.0, 0.5, 1.0, 1.0)
    """
    return 1.0 if length <= 0 else min(1.0, epoch / length)


def mean_of_sum(total: Tensor, rows: int) -> Tensor:
    """Divide the sum over rows by their number; 0 without rows, where their mean would be NaN."""
    return total / max(1, rows)
