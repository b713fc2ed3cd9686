r"""FlowGMM: a normalizing flow whose latent space is a Gaussian mixture, one component per class.

.. math:: p(x) = \textstyle\sum_k \pi_k N_k(f(x)) \, |\det \partial f / \partial x|, \qquad
          p(k \mid x) = \pi_k N_k(f(x)) \big/ \textstyle\sum_j \pi_j N_j(f(x))

(Izmailov et al., 2020, equations 2 and 3.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Latents
from flowgmm_cli.mixture.gaussian import GaussianMixture


class FlowGMM(nn.Module):
    """The model of transformed rows: flow, mixture, and a temperature for calibrated posteriors.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back (`flowgmm_cli.api.Flow`).
        mixture: the latent distribution.
    """

    temperature: Tensor

    def __init__(self, flow: nn.Module, mixture: GaussianMixture) -> None:
        super().__init__()
        self.flow = flow
        self.mixture = mixture
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Tensor) -> Latents:
        """See rows `(N, *shape)` through the flow and the mixture."""
        z, log_det = self.flow(x)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        return Latents(z, log_det, self.mixture.class_log_prob(z))

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
        """Calibrated `log p(k | x)` of rows already seen: the log-joint divided by the temperature.

        `(N, K)` on the device of the latents, float64 where that has such numbers.
        """
        log_joint = latents.class_log_prob
        log_joint = log_joint if log_joint.device.type == "mps" else log_joint.double()
        return torch.log_softmax(log_joint / self.temperature.to(log_joint.device), dim=1)

    def embed(self, x: Tensor) -> Tensor:
        """Latent vectors `(N, D)`."""
        latents: Latents = self(x)
        return latents.z

    @torch.no_grad()
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
        z, classes = self.mixture.sample(n, generator, classes, temperature=temperature)
        return self.flow.inverse(z), classes  # type: ignore[operator]
