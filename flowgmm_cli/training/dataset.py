"""Batches of training rows, by step number."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.data.block_shuffle import BlockShuffle
from flowgmm_cli.data.tensors import Tensors, copy_to
from flowgmm_cli.seeds import derive_seed, generator
from flowgmm_cli.training.distributed import Distributed

Pool = Literal["all", "unlabelled"]
"""Rows that unlabelled batches are drawn from; the labels of `all` are not used."""


class Sampler:
    """Batches by step number: unlabelled rows in a new random order each epoch, labelled rows in each step.

    An epoch takes whole batches only; the rows left over differ from epoch to epoch. Positions depend on the
    seed and the step alone, so that a resumed run needs no state. Of rows larger than memory each process
    reads its share, see `flowgmm_cli.data.block_shuffle`.

    A step has `batch_size` unlabelled rows over all processes, at most the pool, and `labelled_batch_size`
    labelled ones, at most all.

    Attributes:
        labelled_rows: positions of the labelled rows, `(L,)`.
        pool: positions of the rows in memory that unlabelled batches are drawn from, `(P,)`.
    """

    def __init__(
        self,
        rows: Tensors,
        *,
        batch_size: int,
        labelled_batch_size: int,
        seed: int,
        pool: Pool = "all",
        group: Distributed | None = None,
    ) -> None:
        self.rows, self.seed, self.group = rows, seed, group or Distributed()
        is_labelled = rows.labels >= 0
        self.labelled_rows = is_labelled.nonzero().flatten()
        in_pool = torch.ones_like(is_labelled) if pool == "all" else ~is_labelled
        self.pool = in_pool.nonzero().flatten()
        self._shuffle: BlockShuffle | None = None
        if (store := rows.store) is not None:  # labelled rows only if they are in the pool
            left_out, ranks = store.left_out, (self.group.rank, self.group.world_size)
            if pool == "unlabelled":
                left_out = np.union1d(left_out, store.resident[self.labelled_rows.cpu().numpy()])
            self._shuffle = BlockShuffle(store, left_out, seed=seed, rank=ranks[0], world_size=ranks[1])
        size = len(self.pool if self._shuffle is None else self._shuffle)
        self.batch_size = min(batch_size, size)
        self.labelled_batch_size = min(labelled_batch_size, len(self.labelled_rows))
        if self.batch_size:
            self.steps_per_epoch = size // self.batch_size
        else:
            self.steps_per_epoch = -(-len(self.labelled_rows) // max(1, self.labelled_batch_size))
        self._epoch = -1
        self._order = self.pool

    def batch(self, step: int, *, whole: bool = False) -> tuple[Tensors, Tensors]:
        """Read the labelled and the unlabelled rows of a step: the share of this process.

        With `whole` it reads all rows of the step, if they are in memory.

        Raises:
            DataError: rows on the disk cannot be read.
        """
        group = Distributed() if whole else self.group
        labelled = self.rows[group.shard(self.labelled(step))]
        if self._shuffle is not None and self.batch_size and self.rows.store is not None:
            epoch, within = divmod(step, self.steps_per_epoch)
            rows = self._shuffle.batch(epoch, within * self.batch_size, self.batch_size)
            return labelled, self.rows.store.to_tensors(copy_to(self.rows.labels.device, rows))
        return labelled, self.rows[group.shard(self.unlabelled(step))]

    def labelled(self, step: int) -> Tensor:
        """Positions of the labelled rows of a step."""
        labelled = self.labelled_rows
        if self.labelled_batch_size == len(labelled):
            return labelled
        order = torch.randperm(len(labelled), generator=generator(self.seed, "labelled", step))
        return labelled[order[: self.labelled_batch_size].to(labelled.device)]

    def unlabelled(self, step: int) -> Tensor:
        """Positions of the unlabelled rows of a step, if all rows are in memory."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(len(self.pool), generator=generator(self.seed, "order", epoch))
            self._order = self.pool[order.to(self.pool.device)]
            self._epoch = epoch
        return self._order[within * self.batch_size : (within + 1) * self.batch_size]

    def close(self) -> None:
        """Stop reading ahead; the sampler can still be used."""
        if self._shuffle is not None:
            self._shuffle.close()


def step_generator(device: torch.device, seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Random numbers of a step on a device, different in each process."""
    seed = derive_seed(seed, "step", step)
    return torch.Generator(device).manual_seed(derive_seed(seed, "rank", rank) if rank else seed)
