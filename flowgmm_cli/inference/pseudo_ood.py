"""Pseudo-OOD rows: synthetic out-of-distribution rows, made of the run's own rows, by kind.

Vectors: held-out rows with half of their features from other rows (`corrupted`), with noise as wide as the
training rows (`scattered`), and 1.5 times as far from the mean (`magnified`).

Images under a flow of their pixels: half of the pixels from another image (`corrupted`), two quarters from
another image (`patched`), and blurred (`smoothed`). Every score detects noise with such a flow, while the
density rates smooth images higher than its own (Nalisnick et al., 2019); these kinds tell the scores apart.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.model import Model
from flowgmm_cli.trained_model import score_inputs
from flowgmm_cli.views.degradations import gaussian_blur

_MAX_ROWS = 1000  # of each kind, for an AUROC to about a percent
_BLUR = 1 / 32  # standard deviation of the blur, as a share of an image's longer side
_BLUR_RADIUS = 3  # in standard deviations


def pseudo_ood_vectors(
    train: ScoreInputs, held_out: ScoreInputs, model: Model, generator: np.random.Generator
) -> dict[str, ScoreInputs]:
    """Make pseudo-OOD rows in the input space of the flow, by kind."""
    mean, spread = train.x.mean(0), train.x.std(0, unbiased=False)
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "corrupted": lambda x: swap_features(x, train.x, generator),
        "scattered": lambda x: x + torch.from_numpy(generator.standard_normal(x.shape)).float() * spread,
        "magnified": lambda x: mean + 1.5 * (x - mean),
    }
    by_kind = {}
    for kind, make in kinds.items():
        index = torch.from_numpy(generator.integers(len(held_out), size=_MAX_ROWS))
        x = make(held_out.x[index])
        if isinstance(model.parts[0].flow, FlatFlow):  # pixels lie between black and white
            x = x.clamp(train.x.min(), train.x.max())
        # the log-determinant of the transforms is about that of the original row
        by_kind[kind] = score_inputs(model, x, transforms_log_det(held_out)[index])
    return by_kind


def pseudo_ood_images(
    train: Tensor,
    held_out: Tensor,
    encode_images: Callable[[Tensor], ScoreInputs],
    generator: np.random.Generator,
) -> dict[str, ScoreInputs]:
    """Make pseudo-OOD images, by kind, of images `(N, height, width)` or `(N, height, width, channels)`.

    `encode_images` computes the model's outputs for images of that form.
    """

    def mix(own: Tensor, other: Tensor) -> Tensor:
        return torch.where(torch.from_numpy(generator.random(own.shape) < 0.5), other, own)

    kinds: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "corrupted": mix,
        "patched": _patch,
        "smoothed": lambda own, other: _smooth(own),
    }
    by_kind = {}
    for kind, make in kinds.items():
        own = generator.integers(len(held_out), size=min(_MAX_ROWS, max(len(held_out), len(train))))
        other = generator.integers(len(train), size=len(own))
        images = make(held_out[torch.from_numpy(own)], train[torch.from_numpy(other)])
        by_kind[kind] = encode_images(images)
    return by_kind


def transforms_log_det(rows: ScoreInputs) -> Tensor:
    """Log-determinants of the transforms, `(N,)`."""
    return rows.log_density - rows.latents.log_prob().double()


def swap_features(x: Tensor, others: Tensor, generator: np.random.Generator) -> Tensor:
    """Replace half of the features of rows `(N, D)` by those of other rows, each from a row of its own."""
    index = torch.from_numpy(generator.integers(len(others), size=x.shape))
    swapped = torch.from_numpy(generator.random(x.shape) < 0.5)
    return torch.where(swapped, others.gather(0, index), x)


def _patch(own: Tensor, other: Tensor) -> Tensor:
    result, down, across = own.clone(), own.shape[1] // 2, own.shape[2] // 2
    result[:, :down, :across] = other[:, :down, :across]
    result[:, down:, across:] = other[:, down:, across:]
    return result


def _smooth(own: Tensor) -> Tensor:
    images = (own.unsqueeze(1) if own.ndim == 3 else own.movedim(3, 1)).float()
    sigma = max(1.0, _BLUR * max(images.shape[-2:]))
    blurred = gaussian_blur(images, torch.full((len(images),), sigma), radius=round(_BLUR_RADIUS * sigma))
    if not own.is_floating_point():
        blurred = blurred.round()  # grey levels, as in the originals
    return (blurred.squeeze(1) if own.ndim == 3 else blurred.movedim(1, 3)).to(own.dtype)
