"""Rows that stand in for those from elsewhere, made of the run's own rows, by kind.

Of vectors: held-out rows with half of their features from other rows (`corrupted`), with noise as wide as the
training rows (`scattered`), and 1.5 times as far from the mean (`magnified`).

Of images under a flow of their pixels: half of the pixels from another image (`corrupted`), two quarters from
another image (`patched`), and blurred (`smoothed`). Such a flow sees any noise at once and says so with every
score, while it takes smooth images for likelier than its own (Nalisnick et al., 2019): what matters is which
scores are not fooled by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Latents, ScoreInputs
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.model import Model
from flowgmm_cli.trained_model import encode
from flowgmm_cli.views.degradations import gaussian_blur

_ROWS = 1000  # stand-ins of each kind: an AUROC to about a percent
_SMOOTH = 1 / 32  # standard deviation of the blur, as a share of an image's longer side
_REACH = 3  # of the blur, in standard deviations


def vector_stand_ins(
    train: ScoreInputs, held_out: ScoreInputs, model: Model, generator: np.random.Generator
) -> dict[str, ScoreInputs]:
    """Stand-ins in the flow's input space."""
    made = {}
    for kind, make in _VECTORS.items():
        index = torch.from_numpy(generator.integers(len(held_out), size=_ROWS))
        x = make(train, held_out.x[index], generator)
        if isinstance(model.parts[0].flow, FlatFlow):  # beyond black and white there are no pixels
            x = x.clamp(train.x.min(), train.x.max())
        # what the transforms add to `log p` is that of the row a stand-in is made of, near enough
        made[kind] = from_latents(x, encode(model, x), transforms_log_det(held_out)[index], model)
    return made


def image_stand_ins(
    train: Tensor,
    held_out: Tensor,
    encode_images: Callable[[Tensor], ScoreInputs],
    generator: np.random.Generator,
) -> dict[str, ScoreInputs]:
    """Stand-ins made of pixels.

    Args:
        train: training images, `(N, height, width)` or `(N, height, width, channels)`.
        held_out: others of that form.
        see_images: how the model sees images of that form.
        generator: source of randomness.
    """
    made = {}
    for kind, make in _IMAGES.items():
        mine = generator.integers(len(held_out), size=min(_ROWS, max(len(held_out), len(train))))
        theirs = generator.integers(len(train), size=len(mine))
        images = make(held_out[torch.from_numpy(mine)], train[torch.from_numpy(theirs)], generator)
        made[kind] = encode_images(images)
    return made


def transforms_log_det(rows: ScoreInputs) -> Tensor:
    """What the transforms add to `log p`, `(N,)`."""
    return rows.log_density - rows.latents.log_prob().double()


def from_latents(x: Tensor, latents: Latents, transforms_log_det: Tensor, model: Model) -> ScoreInputs:
    """Rows `(N, D)` as scores see them, without their pixels."""
    density = latents.log_prob().double() + transforms_log_det
    return ScoreInputs(x, latents, model.log_posterior(latents).double(), density)


# --- of vectors ---------------------------------------------------------------------------------------------


def _corrupted(train: ScoreInputs, x: Tensor, generator: np.random.Generator) -> Tensor:
    others = torch.from_numpy(generator.integers(len(train), size=x.shape))
    swapped = torch.from_numpy(generator.random(x.shape) < 0.5)
    return torch.where(swapped, train.x.gather(0, others), x)


def _scattered(train: ScoreInputs, x: Tensor, generator: np.random.Generator) -> Tensor:
    noise = torch.from_numpy(generator.standard_normal(x.shape)).float()
    return x + noise * train.x.std(0, unbiased=False)


def _magnified(train: ScoreInputs, x: Tensor, generator: np.random.Generator) -> Tensor:
    return train.x.mean(0) + 1.5 * (x - train.x.mean(0))


_VECTORS: Mapping[str, Callable[[ScoreInputs, Tensor, np.random.Generator], Tensor]] = {
    "corrupted": _corrupted,
    "scattered": _scattered,
    "magnified": _magnified,
}


# --- of images `(n, height, width[, channels])` -------------------------------------------------------------


def _mixed_pixels(mine: Tensor, theirs: Tensor, generator: np.random.Generator) -> Tensor:
    swapped = torch.from_numpy(generator.random(mine.shape) < 0.5)
    return torch.where(swapped, theirs, mine)


def _patched(mine: Tensor, theirs: Tensor, generator: np.random.Generator) -> Tensor:
    made, down, across = mine.clone(), mine.shape[1] // 2, mine.shape[2] // 2
    made[:, :down, :across] = theirs[:, :down, :across]
    made[:, down:, across:] = theirs[:, down:, across:]
    return made


def _smoothed(mine: Tensor, theirs: Tensor, generator: np.random.Generator) -> Tensor:
    images = (mine.unsqueeze(1) if mine.ndim == 3 else mine.movedim(3, 1)).float()
    sigma = max(1.0, _SMOOTH * max(images.shape[-2:]))
    blurred = gaussian_blur(images, torch.full((len(images),), sigma), radius=round(_REACH * sigma))
    if not mine.is_floating_point():
        blurred = blurred.round()  # to grey levels: fractions would tell
    return (blurred.squeeze(1) if mine.ndim == 3 else blurred.movedim(1, 3)).to(mine.dtype)


_IMAGES: Mapping[str, Callable[[Tensor, Tensor, np.random.Generator], Tensor]] = {
    "corrupted": _mixed_pixels,
    "patched": _patched,
    "smoothed": _smoothed,
}
