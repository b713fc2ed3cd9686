"""Batches of training rows, by step number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm_cli.data.large.stream import EpochReader
from flowgmm_cli.data.lazy_dataset import RowStore
from flowgmm_cli.data.row_tensors import RowTensors
from flowgmm_cli.seeds import derive_seed, generator
from flowgmm_cli.training.distributed import Distributed


@dataclass(frozen=True)
class StepInput:
    """Rows of one step, on the device, before any view; see `flowgmm_cli.api.Batch`."""

    labelled: RowTensors
    labels: Tensor
    unlabelled: RowTensors
    step: int
    epoch: float


@dataclass(frozen=True)
class TrainingRows:
    """All rows of a training, on its device.

    Attributes:
        labels: int64 `(N,)`, -1 where unlabelled.
        labelled: positions of the labelled rows, `(L,)`.
        pool: positions of the rows that unlabelled batches are drawn from, `(P,)`.
    """

    tensors: RowTensors
    labels: Tensor
    labelled: Tensor
    pool: Tensor

    @property
    def x(self) -> RowStore:
        """Rows after the transforms, `(N, D)`."""
        return self.tensors.x


class Sampler:
    """Batches by step number: unlabelled rows in a new random order each epoch, labelled rows in each step.

    An epoch takes whole batches only; the rows left over differ from epoch to epoch. Positions depend on the
    seed and the step alone, so that a resumed run needs no state. For a table larger than memory an epoch is
    a pass over all of its rows, see `flowgmm_cli.data.large.shuffle`.

    A step has `batch_size` unlabelled rows over all processes, at most the pool, and `labelled_batch_size`
    labelled ones, at most all.
    """

    def __init__(self, rows: TrainingRows, *, batch_size: int, labelled_batch_size: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self._stream = _shuffle_stream(rows, seed)
        pool = len(rows.pool if self._stream is None else self._stream)
        self.batch_size = min(batch_size, pool)
        self.labelled_batch_size = min(labelled_batch_size, len(rows.labelled))
        if self.batch_size:
            self.steps_per_epoch = pool // self.batch_size
        else:
            self.steps_per_epoch = -(-len(rows.labelled) // max(1, self.labelled_batch_size))
        self._epoch = -1
        self._order = rows.pool

    def batch(self, step: int, group: Distributed | None = None) -> StepInput:
        """Read the share of a process of the rows of a step; all of them without a group.

        Raises:
            DataError: rows on the disk cannot be read.
        """
        group = group or Distributed()
        labelled = group.shard(self.labelled(step))
        if self._stream is not None and self.batch_size:
            unlabelled = self._read_stream(self._stream, step)
            if group.world_size > 1:
                unlabelled = unlabelled[group.shard(torch.arange(len(unlabelled)))]
        else:
            unlabelled = self.rows.tensors[group.shard(self.unlabelled(step))]
        tensors, labels = self.rows.tensors[labelled], self.rows.labels[labelled]
        return StepInput(tensors, labels, unlabelled, step, epoch=step / self.steps_per_epoch)

    def labelled(self, step: int) -> Tensor:
        """Positions of the labelled rows of a step."""
        labelled = self.rows.labelled
        if self.labelled_batch_size == len(labelled):
            return labelled
        order = torch.randperm(len(labelled), generator=generator(self.seed, "labelled", step))
        return labelled[order[: self.labelled_batch_size].to(labelled.device)]

    def unlabelled(self, step: int) -> Tensor:
        """Positions of the unlabelled rows of a step, if all rows are in memory."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(len(self.rows.pool), generator=generator(self.seed, "order", epoch))
            self._order = self.rows.pool[order.to(self.rows.pool.device)]
            self._epoch = epoch
        return self._order[within * self.batch_size : (within + 1) * self.batch_size]

    def close(self) -> None:
        """Stop reading ahead; the sampler can still be used."""
        if self._stream is not None:
            self._stream.close()

    def _read_stream(self, stream: EpochReader, step: int) -> RowTensors:
        epoch, within = divmod(step, self.steps_per_epoch)
        start = within * self.batch_size
        parts = stream.rows(epoch, start, start + self.batch_size)
        x, *inputs = (part.to(self.rows.labels.device) for part in parts)
        return RowTensors(x, inputs[0] if inputs else None)


def step_generator(device: torch.device, seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Random numbers of a step on a device, different in each process."""
    seed = derive_seed(seed, "step", step)
    return torch.Generator(device).manual_seed(derive_seed(seed, "rank", rank) if rank else seed)


def _shuffle_stream(rows: TrainingRows, seed: int) -> EpochReader | None:
    """Rows of a table larger than memory in random order, labelled ones only if they are in the pool."""
    stream = rows.tensors.stream
    if stream is None:
        return None
    takes_all = len(rows.pool) == len(rows.labels)
    return stream.shuffle(seed, without=None if takes_all else rows.labelled.cpu().numpy())
