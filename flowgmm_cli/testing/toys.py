"""A small model, and the rows of a training step with its outputs for them."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping

import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.flows.layers.linear import LULinear
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture


def toy_model(features: int = 4, classes: int = 3) -> FlowMixture:
    """Make a linear flow and a mixture, both with parameters; the classes lie on the first axis, 4 apart."""
    flow, generator = LULinear(features), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    means = torch.zeros(classes, features)
    means[:, 0] = 4.0 * (torch.arange(classes) - (classes - 1) / 2)
    return FlowMixture(flow, GaussianMixture(means, learn_means=True, learn_scales=True))


class RecordingMapping(UserDict[str, Latents]):
    """The student's latents by view; `keys_read` has all names that were looked up, also missing ones."""

    def __init__(self, latents: Mapping[str, Latents]) -> None:
        self.keys_read: set[str] = set()
        super().__init__(latents)

    def __getitem__(self, name: str) -> Latents:
        self.keys_read.add(name)
        return super().__getitem__(name)


def toy_batch(
    model: FlowMixture,
    reads: frozenset[str],
    *,
    labelled: int = 5,
    unlabelled: int = 12,
    epoch: float = 50.0,
    seed: int = 0,
) -> Batch:
    """Make a training step's rows, with the student's latents of labelled rows and views in `reads`."""
    numbers = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        rows, true = model.sample(labelled + unlabelled, numbers)
    weak = rows[labelled:]
    strong = weak + 0.3 * torch.randn(weak.shape, generator=numbers)
    views = {"labelled": rows[:labelled], "weak": weak, "strong": strong}
    latents = {name: model(x) for name, x in views.items() if name == "labelled" or name in reads}
    return Batch(
        **views,
        labels=true[:labelled],
        student=latents,
        temperature=1.5,
        step=1000,
        epoch=epoch,
        generator=torch.Generator().manual_seed(seed + 1),
    )
