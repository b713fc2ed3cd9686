r"""FlowGMM: a normalizing flow whose latent space is a Gaussian mixture, one component or several per class.

.. math:: p(x) = \textstyle\sum_k \pi_k N_k(f(x)) \, |\det \partial f / \partial x|, \qquad
          p(k \mid x) = \pi_k N_k(f(x)) \big/ \textstyle\sum_j \pi_j N_j(f(x))

(Izmailov et al., 2020, equations 2 and 3.)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Latents
from flowgmm_cli.mixture.gaussian import GaussianMixture


class Model(nn.Module):
    """What a trained run offers of transformed rows, one FlowMixture or several; all follows from `forward`.

    Attributes:
        temperature: divisor of class log-densities in calibrated posteriors, a scalar.
        noise: share of labels that calibrated posteriors take for drawn at random, a scalar.
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
        """The flows with their mixtures that it consists of."""

    @abstractmethod
    def forward(self, x: Tensor) -> Latents:
        """See rows `(N, *shape)`."""

    @abstractmethod
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        classes: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw rows and their classes.

        Args:
            n: how many.
            generator: source of randomness.
            classes: int64 `(n,)`; None draws them by the class weights.
            temperature: factor on the components' standard deviations; the paper's figures use 0.25.

        Returns:
            Rows `(n, *shape)` and classes `(n,)`.
        """

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
        r"""Calibrated `log p(k | x)` of rows already seen.

        .. math:: \log\big((1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T) + \epsilon / K\big)

        with `temperature` T and `noise` epsilon: `(N, K)` on the device of the latents, float64 where that
        has such numbers.
        """
        log_joint = latents.class_log_prob
        log_joint = log_joint if log_joint.device.type == "mps" else log_joint.double()
        log_posterior = torch.log_softmax(log_joint / self.temperature.to(log_joint.device), dim=1)
        noise = self.noise.to(log_posterior)
        uniform = (noise / log_joint.shape[1]).log()  # -inf without noise, which leaves every bit as it is
        return torch.logaddexp(log_posterior + torch.log1p(-noise), uniform)

    @torch.no_grad()
    def class_prior(self) -> Tensor:
        """Weights of the classes `(K,)`, with sum 1; of several parts the mean."""
        return torch.stack([part.mixture.log_weights.exp() for part in self.parts]).mean(0)

    def embed(self, x: Tensor) -> Tensor:
        """Latent vectors `(N, D)`."""
        latents: Latents = self(x)
        return latents.z


class FlowMixture(Model):
    """The FlowGMM of transformed rows: a flow and a mixture.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back (`flowgmm_cli.api.Flow`).
        mixture: the latent distribution.
    """

    def __init__(self, flow: nn.Module, mixture: GaussianMixture) -> None:
        super().__init__()
        self.flow = flow
        self.mixture = mixture

    @property
    def parts(self) -> tuple[FlowMixture, ...]:
        """Itself."""
        return (self,)

    def forward(self, x: Tensor) -> Latents:
        """See rows `(N, *shape)` through the flow and the mixture."""
        z, log_det = self.flow(x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return Latents(z, log_det, self.mixture.class_log_prob(z))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        classes: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw latents from the mixture and map them back; see `Model.sample`."""
        z, classes = self.mixture.sample(n, generator, classes, temperature=temperature)
        return self.flow.inverse(z), classes  # type: ignore[operator]


class Ensemble(Model):
    r"""Differently started FlowGMMs as one, their log-densities averaged.

    .. math:: \log p(x, k) = \frac{1}{M} \textstyle\sum_m \log p_m(x, k)

    The logarithmic pool of the members (Genest and Zidek, 1986): a row is dense, or of a class, where all of
    them say so, while in the mean of their densities the boldest would speak alone. Its integral is at most
    1, so `log_prob` is never above the normalised density.

    Latents are those of the first member, whose densities the others correct.

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
        """See rows `(N, *shape)` through every member."""
        seen: list[Latents] = [member(x) for member in self.parts]
        log_det = seen[0].log_det
        joint = torch.stack([one.class_log_prob + (one.log_det - log_det)[:, None] for one in seen])
        return Latents(seen[0].z, log_det, joint.mean(0))

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        classes: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw each row from a member chosen at random; see `Model.sample`."""
        chosen = torch.randint(len(self.parts), (n,), generator=generator, device=generator.device)
        drawn = [member.sample(n, generator, classes, temperature=temperature) for member in self.parts]
        index = chosen.to(drawn[0][1].device), torch.arange(n, device=drawn[0][1].device)
        return torch.stack([x for x, _ in drawn])[index], torch.stack([k for _, k in drawn])[index]
