r"""FlowGMM: a normalizing flow whose latent space is a Gaussian mixture, one component or several per class.

.. math:: p(x) = \textstyle\sum_k \pi_k N_k(f(x)) \, |\det \partial f / \partial x|, \qquad
          p(k \mid x) = \pi_k N_k(f(x)) \big/ \textstyle\sum_j \pi_j N_j(f(x))

(Izmailov et al., 2020, equations 2 and 3.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Latents, iterate_batches
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.unknown_head import UnknownHead

_BLOCK = 2**22  # entries of a temporary tensor; 32 MiB


class Model(nn.Module):
    """Base of a trained FlowGMM or an ensemble: everything follows from `parts` and `forward`.

    Attributes:
        temperature: divisor of class log-densities in calibrated posteriors, a scalar.
        noise: share of labels that calibrated posteriors assume to be drawn at random, a scalar.
    """

    temperature: Tensor
    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("noise", torch.zeros(()))

    @property
    @abstractmethod
    def parts(self) -> tuple[FlowMixture, ...]:
        """The flows with their mixtures: itself, or the members of an ensemble."""

    @abstractmethod
    def forward(self, x: Tensor) -> Latents:
        """Compute latents and densities of rows `(N, *shape)`."""

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator, classes: Tensor | None = None, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Draw rows `(n, *shape)` and their classes `(n,)`, each row from a random part.

        See `GaussianMixture.sample` for the arguments; the figures of the paper use `temperature` 0.25.
        """
        if n < 0:
            raise ValueError(f"the number of rows is {n}, it must be at least 0")
        parts, device = self.parts, generator.device
        index = (
            torch.randint(len(parts), (n,), generator=generator, device=device) if len(parts) > 1 else None
        )
        rows, labels = [], []
        for part in parts:
            z, k = part.mixture.sample(n, generator, classes, temperature=temperature)
            rows.append(part.flow.inverse(z))
            labels.append(k)
        if index is None:
            return rows[0], labels[0]
        index = index.to(labels[0].device)
        position = torch.arange(n, device=index.device)
        return torch.stack(rows)[index, position], torch.stack(labels)[index, position]

    def log_prob(self, x: Tensor) -> Tensor:
        """`log p(x)` in nats, `(N,)`."""
        latents: Latents = self(x)
        return latents.log_prob()

    def class_log_prob(self, x: Tensor) -> Tensor:
        """`log p(x, k)` in nats, `(N, K)`."""
        latents: Latents = self(x)
        return latents.class_log_prob + latents.log_det[:, None]

    def posterior(self, x: Tensor) -> Tensor:
        """Calibrated `p(k | x)`, `(N, K)`; see `log_posterior`."""
        return self.log_posterior(self(x)).exp()

    def log_posterior(self, latents: Latents) -> Tensor:
        r"""Calibrated `log p(k | x)` from latents.

        .. math:: \log\big((1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T) + \epsilon / K\big)

        with `temperature` T and `noise` epsilon: `(N, K)` on the device of the latents, float64 where that
        exists.
        """
        log_joint = latents.class_log_prob
        parts = list(iterate_batches(len(log_joint), max(1, _BLOCK // log_joint.shape[1]))) or [slice(0)]
        return torch.cat([self.calibrate(log_joint[part]) for part in parts])

    def calibrate(self, log_joint: Tensor) -> Tensor:
        """Return calibrated `log p(k | x)` of joint log-densities `(N, K)`, see `log_posterior`."""
        log_joint = log_joint if log_joint.device.type == "mps" else log_joint.double()
        log_posterior = torch.log_softmax(log_joint / self.temperature.to(log_joint.device), dim=1)
        noise = self.noise.to(log_posterior)
        uniform = (noise / log_joint.shape[1]).log()  # -inf without noise, which changes no bit
        return torch.logaddexp(log_posterior + torch.log1p(-noise), uniform)

    @property
    def unknown(self) -> int:
        """Number of unknown kinds that the model knows of, M."""
        head = self.parts[0].head
        return 0 if head is None else head.count

    @torch.no_grad()
    def class_prior(self) -> Tensor:
        """Class weights `(K,)` with sum 1; the mean over the parts."""
        return torch.stack([part.mixture.log_weights.exp() for part in self.parts]).mean(0)

    def embed(self, x: Tensor) -> Tensor:
        """Latent vectors `(N, D)`."""
        latents: Latents = self(x)
        return latents.z


class FlowMixture(Model):
    """FlowGMM of transformed rows: a flow and a mixture.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back (`flowgmm_cli.api.Flow`).
        mixture: the latent distribution.
        head: gives rows their log-odds of an unknown kind; None if there are no such kinds.

    Examples:
        >>> from flowgmm_cli.flows.realnvp import RealNVP
        >>> flow = RealNVP(2, hidden=16, generator=torch.Generator().manual_seed(0))
        >>> model = FlowMixture(flow, GaussianMixture(torch.tensor([[-2.0, 0.0], [2.0, 0.0]])))
        >>> model.posterior(torch.randn(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(self, flow: nn.Module, mixture: GaussianMixture, head: UnknownHead | None = None) -> None:
        super().__init__()
        self.flow: Any = flow
        self.mixture = mixture
        self.head = head

    @property
    def parts(self) -> tuple[FlowMixture, ...]:
        """Itself."""
        return (self,)

    def forward(self, x: Tensor) -> Latents:
        """Compute latents and densities of rows `(N, *shape)`."""
        z, log_det = self.flow(x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        log_odds = None if self.head is None else self.head(x)
        return Latents(z, log_det, self.mixture.class_log_prob(z), log_odds)


class Ensemble(Model):
    r"""FlowGMMs of different initialisations with averaged log-densities.

    .. math:: \log p(x, k) = \frac{1}{M} \textstyle\sum_m \log p_m(x, k)

    This is the logarithmic pool of the members (Genest and Zidek, 1986): the density of a row or class is
    high only where it is high for all members, while the mean of densities follows the most confident member.
    Its integral is at most 1, so `log_prob` is never above the normalised density. Latents are those of the
    first member.

    Args:
        members: at least one; all of the same rows and classes.
    """

    def __init__(self, members: Sequence[FlowMixture]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def parts(self) -> tuple[FlowMixture, ...]:
        """The members."""
        return tuple(member for member in self.members if isinstance(member, FlowMixture))

    def forward(self, x: Tensor) -> Latents:
        """Compute latents and averaged densities of rows `(N, *shape)`."""
        latents: list[Latents] = [member(x) for member in self.parts]
        log_det = latents[0].log_det
        joint = [member.class_log_prob + (member.log_det - log_det)[:, None] for member in latents]
        # all members have the same head
        return Latents(latents[0].z, log_det, torch.stack(joint).mean(0), latents[0].unknown_log_odds)
