"""Means set anew from the latents once, when training has warmed up (`prior.means: latent`)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.mixture.clusters import component_responsibilities
from flowgmm_cli.mixture.init import means_from_responsibilities
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.sampler import TrainingRows

_ROWS = 20_000  # enough for means to a hundredth of a standard deviation
_CHUNK = 4096


def warm_up_steps(epochs: float | None, *, per_epoch: int, steps: int) -> int:
    """After how many steps the means are set anew: at most half of all, so that a short training has a rest.

    The folds of a calibration, for instance, train for a share of the epochs. 0, never, for no epochs (None)
    and in a single step.
    """
    if epochs is None:
        return 0
    return min(max(1, round(epochs * per_epoch)), steps // 2)


@torch.no_grad()
def set_latent_means(
    model: FlowMixture,
    teacher: FlowMixture,
    optimiser: torch.optim.Optimizer,
    rows: TrainingRows,
    *,
    temperature: float,
    seed: int,
) -> None:
    """Set the means of both models to the class means of their latents.

    Each labelled row counts for its class, each other row for all classes by the tempered posterior of the
    teacher, the steadier of the two. Both models get means of the same rows in the same shares, but each of
    its own latents: the teacher's flow lags behind the student's, and means of the one would lie beside the
    latents of the other. With several components, each class is divided by k-means of the teacher's latents.

    The optimiser forgets the momentum of the means, which points away from where they were; it keeps their
    mean squared gradient, without which the next steps would be several times too long.

    All of it depends on the weights and the seed alone, so a resumed run does the same.

    Args:
        model: the student.
        teacher: its average.
        optimiser: of the student.
        rows: all training rows.
        temperature: divisor of class log-probabilities.
        seed: of the run.
    """
    randomness = generator(seed, "init", 1)
    model.eval()  # no dropout
    index = _some(rows)
    labels = rows.labels[index]
    latents, shares = _see(teacher, rows.x[index], temperature)
    seen = labels >= 0
    shares[seen] = torch.nn.functional.one_hot(labels[seen], shares.shape[1]).to(shares)
    split = component_responsibilities(latents, shares, teacher.mixture.components, randomness)
    state = randomness.get_state()
    for one in (model, teacher):
        z = latents if one is teacher else _see(model, rows.x[index], temperature)[0]
        mixture = one.mixture
        start = means_from_responsibilities(
            z,
            split,
            classes=mixture.classes,
            scale=float(teacher.mixture.scales.mean()),
            generator=randomness.set_state(state),
        )
        mixture.means.copy_(start.means)
        mixture.set_component_weights(start.component_weights.to(mixture.means))
    model.train()
    moments = optimiser.state.get(model.mixture.means, {})
    if "exp_avg" in moments:
        moments["exp_avg"].zero_()


def _some(rows: TrainingRows) -> Tensor:
    """Positions of all labelled rows and of enough others, evenly from the whole."""
    others = (rows.labels < 0).nonzero().flatten()
    return torch.cat([rows.labelled, others[:: max(1, -(-len(others) // _ROWS))]])


def _see(model: FlowMixture, x: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The latents that carry the mixture `(N, d)` and the tempered posteriors `(N, K)`, in chunks."""
    latents = [model(x[part]) for part in iterate_batches(len(x), _CHUNK)]
    z = torch.cat([one.z for one in latents])
    log_prob = torch.cat([one.class_log_prob for one in latents])
    return z[:, : model.mixture.dims], torch.softmax(log_prob / temperature, dim=1)
