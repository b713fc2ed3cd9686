"""Which rows a step sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm_cli.data.large.stream import EpochReader
from flowgmm_cli.data.lazy_dataset import RowStore
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.viewing import Forms


@dataclass(frozen=True)
class TrainingRows:
    """Training rows on the device.

    Attributes:
        forms: the rows in every form that views start from.
        labels: int64 `(N,)`, -1 where unlabelled.
        labelled: positions of the labelled rows, `(L,)`.
        pool: positions that unlabelled batches are drawn from, `(P,)`.
    """

    forms: Forms
    labels: Tensor
    labelled: Tensor
    pool: Tensor

    @property
    def x(self) -> RowStore:
        """The rows as they are, `(N, D)`."""
        return self.forms.x


class Sampler:
    """Batches by step number: unlabelled rows in a new random order each epoch, labelled rows in each step.

    A pass takes whole batches only; the rows left over differ from pass to pass. Positions depend on the
    seed and the step alone. Of a table larger than memory, a pass is over all of its rows, in an order that
    is random among the rows of a buffer and among its pieces, see `flowgmm_cli.data.large.shuffle`.

    Args:
        rows: all rows.
        batch_size: unlabelled rows in a step, at most the pool.
        labelled_batch_size: labelled rows in a step, at most all.
        seed: fixes the order.
    """

    def __init__(self, rows: TrainingRows, *, batch_size: int, labelled_batch_size: int, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self._draw = _draw_of(rows, seed)
        pool = len(rows.pool if self._draw is None else self._draw)
        self.batch_size = min(batch_size, pool)
        self.labelled_batch_size = min(labelled_batch_size, len(rows.labelled))
        if self.batch_size:
            self.steps_per_epoch = pool // self.batch_size
        else:
            self.steps_per_epoch = -(-len(rows.labelled) // max(1, self.labelled_batch_size))
        self._epoch = -1
        self._order = rows.pool

    def batch(self, step: int) -> tuple[Tensor, Tensor | Forms]:
        """Positions of the labelled and the unlabelled rows of a step; of a stream, the latter themselves.

        Raises:
            DataError: rows of a stream cannot be read.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        if self._draw is not None and self.batch_size:
            forms = self._draw.rows(epoch, within * self.batch_size, (within + 1) * self.batch_size)
            x, *inputs = (form.to(self.rows.labels.device) for form in forms)
            return self._labelled(step), Forms(x, inputs[0] if inputs else None)
        if epoch != self._epoch:
            order = torch.randperm(len(self.rows.pool), generator=generator(self.seed, "order", epoch))
            self._order = self.rows.pool[order.to(self.rows.pool.device)]
            self._epoch = epoch
        unlabelled = self._order[within * self.batch_size : (within + 1) * self.batch_size]
        return self._labelled(step), unlabelled

    def close(self) -> None:
        """Read no further ahead; the sampler can still be used."""
        if self._draw is not None:
            self._draw.close()

    def _labelled(self, step: int) -> Tensor:
        labelled = self.rows.labelled
        if self.labelled_batch_size == len(labelled):
            return labelled
        draw = torch.randperm(len(labelled), generator=generator(self.seed, "labelled", step))
        return labelled[draw[: self.labelled_batch_size].to(labelled.device)]


def _draw_of(rows: TrainingRows, seed: int) -> EpochReader | None:
    """The rows of a table larger than memory that unlabelled batches are drawn from, as `pool` says."""
    stream = rows.forms.stream
    if stream is None:
        return None
    every = len(rows.pool) == len(rows.labels)
    return stream.shuffle(seed, without=None if every else rows.labelled.cpu().numpy())
