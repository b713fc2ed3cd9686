"""A small model with known results, and its inputs and outputs for losses and scores."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Batch, Latents, ScoreInputs
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture


class ToyFlow(nn.Module):
    """Multiplies each feature by a learned factor and rotates the first two by a learned angle."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.linspace(-0.2, 0.2, features))
        self.angle = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents and log-determinants."""
        z = self._rotate(x * self.log_scale.exp(), self.angle)
        return z, self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return self._rotate(z, -self.angle) * (-self.log_scale).exp()

    def _rotate(self, x: Tensor, angle: Tensor) -> Tensor:
        if x.shape[1] < 2:
            return x
        first, second, rest = x[:, :1], x[:, 1:2], x[:, 2:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([cos * first - sin * second, sin * first + cos * second, rest], dim=1)


def toy_model(features: int = 4, classes: int = 3) -> FlowMixture:
    """Make a flow and a mixture, both with parameters; the classes lie on the first axis, 4 apart."""
    means = torch.zeros(classes, features)
    means[:, 0] = 4.0 * (torch.arange(classes) - (classes - 1) / 2)
    return FlowMixture(ToyFlow(features), GaussianMixture(means, learn_means=True, learn_scales=True))


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


@torch.no_grad()
def toy_score_inputs(model: FlowMixture, x: Tensor, *, images: bool = False) -> ScoreInputs:
    """Make the score inputs of rows `(N, D)`, with `images` of D = 4 x 4 pixels."""
    latents: Latents = model(x)
    pixels = x.reshape(len(x), 4, 4).sigmoid() if images else None
    return ScoreInputs(x, latents, model.log_posterior(latents), latents.log_prob().double(), pixels)


def take_rows(rows: ScoreInputs, index: Any) -> ScoreInputs:
    """Return some of the rows."""
    return ScoreInputs(
        rows.x[index],
        rows.latents.rows(index),
        rows.log_posterior[index],
        rows.log_density[index],
        None if rows.images is None else rows.images[index],
    )
