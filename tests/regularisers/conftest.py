from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.model import FlowMixture

MakeBatch = Callable[..., Batch]


@pytest.fixture
def step_batch() -> MakeBatch:
    """A batch of eight unlabelled rows and three labelled ones as a student sees them."""

    def make(student: FlowMixture, *, rows: int = 8, epoch: float = 10.0, temperature: float = 1.5) -> Batch:
        generator = torch.Generator().manual_seed(5)
        weak = torch.randn(rows, 2, generator=generator)
        strong = weak + 0.3 * torch.randn(rows, 2, generator=generator)
        labelled = torch.randn(3, 2, generator=generator)
        seen: dict[str, Latents] = {
            name: student(x) for name, x in (("labelled", labelled), ("strong", strong))
        }
        return Batch(
            labelled=labelled,
            labels=torch.tensor([0, 1, 0]),
            weak=weak,
            strong=strong,
            student=seen,
            temperature=temperature,
            step=0,
            epoch=epoch,
            generator=generator,
            guide=torch.full_like(seen["strong"].class_log_prob.detach(), 0.5),
        )

    return make
