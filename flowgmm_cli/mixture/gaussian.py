"""The latent Gaussian mixture, one component per class, in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowgmm_cli.mixture.specs import GMMConfig

EXACT = "donot_use_mm_for_euclid_dist"  # cdist by differences, not by the expansion


class GaussianMixture(nn.Module):
    r"""A mixture of K Gaussians with isotropic or diagonal covariances in D dimensions.

    .. math:: p(z) = \textstyle\sum_k \pi_k \, N(z; \mu_k, \mathrm{diag}(\sigma_k^2))

    (Izmailov et al., 2020, section 3.1.) Everything is computed by matrix products, in float32 at least, also
    under autocast.

    Args:
        means: `(K, D)`.
        scale: standard deviation of every component at the start.
        diagonal: one standard deviation per dimension instead of one for all.
        shared: the same standard deviations for all components.
        weights: class weights `(K,)` of any sum; None for equal ones.
        learn_means: make the means a parameter instead of a buffer.
        learn_scales: likewise the standard deviations.
        learn_weights: likewise the weights.
        floor: what no standard deviation goes below, as a share of `scale`: without one the likelihood is
            unbounded (a component that shrinks onto one row).
    """

    means: Tensor
    raw_scales: Tensor
    raw_log_weights: Tensor

    def __init__(
        self,
        means: Tensor,
        *,
        scale: float = 1.0,
        diagonal: bool = False,
        shared: bool = False,
        weights: Tensor | None = None,
        learn_means: bool = True,
        learn_scales: bool = True,
        learn_weights: bool = False,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        if means.ndim != 2:
            raise ValueError(f"means must have the shape (classes, features), got {tuple(means.shape)}")
        if scale <= 0 or not 0 < floor < 1:
            raise ValueError(f"need scale > 0 and 0 < floor < 1, got {scale} and {floor}")
        classes, features = means.shape
        self.floor = floor * scale
        shape = (1 if shared else classes, features if diagonal else 1)
        # scale = floor + exp(raw): a step of the optimiser is relative, whatever the unit of the latent.
        raw_scales = torch.full(shape, math.log(scale - self.floor), dtype=means.dtype)
        raw_log_weights = torch.zeros(classes, dtype=means.dtype)
        self._register("means", means.detach().clone(), learned=learn_means)
        self._register("raw_scales", raw_scales, learned=learn_scales)
        self._register("raw_log_weights", raw_log_weights, learned=learn_weights)
        if weights is not None:
            self.set_weights(weights)

    @property
    def classes(self) -> int:
        """Number of components, K."""
        return self.means.shape[0]

    @property
    def features(self) -> int:
        """Length of a latent vector, D."""
        return self.means.shape[1]

    @property
    def scales(self) -> Tensor:
        """Standard deviations, `(K, D)`, `(K, 1)`, `(1, D)` or `(1, 1)`."""
        return self.floor + self.raw_scales.exp()

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the class weights, `(K,)`; the weights sum to 1."""
        return torch.log_softmax(self.raw_log_weights, dim=0)

    @torch.no_grad()
    def set_weights(self, weights: Tensor) -> None:
        """Replace the class weights by `weights` `(K,)`, positive and of any sum."""
        if weights.shape != (self.classes,) or not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"need {self.classes} positive finite class weights, got {weights.tolist()}")
        self.raw_log_weights.copy_(torch.log(weights / weights.sum()))

    def component_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log N(z; \mu_k, \mathrm{diag}(\sigma_k^2))` for all k: `(batch, D)` to `(batch, K)`.

        The textbook expansion :math:`|z|^2 - 2 z \mu_k + |\mu_k|^2` loses every digit of a small distance far
        from the origin. Here it is taken about the mean nearest to the row, which keeps all of its terms
        about as small as the distances themselves:
        with :math:`r = z - c`, :math:`|z - \mu_k|^2 = |r|^2 + 2 r (c - \mu_k) + |c - \mu_k|^2`.
        """
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            z, means, scales = z.to(dtype), self.means.to(dtype), self.scales.to(dtype)
            # The result depends neither on the origin nor on the centres: no gradient passes through them.
            fixed = means.detach()
            origin = fixed.mean(0)
            nearest = _nearest(z.detach() - origin, fixed - origin)
            residual = z - fixed[nearest]
            means, centres = means - origin, fixed - origin
            centre = centres[nearest]
            precision = scales.square().reciprocal()
            if scales.shape[1] == 1:
                own = residual.square().sum(1, keepdim=True)
                lean = (residual * centre).sum(1, keepdim=True) - residual @ means.T
                offset = torch.cdist(centres, means, compute_mode=EXACT).square()[nearest]
                quadratic = (own + 2 * _without(lean, nearest) + offset) * precision.T
                log_volume = self.features * scales.log().sum(1)
            else:
                own = residual.square() @ precision.T
                lean = (residual * centre) @ precision.T - residual @ (precision * means).T
                offset = ((centres[:, None] - means).square() * precision).sum(2)[nearest]
                quadratic = own + 2 * _without(lean, nearest) + offset
                log_volume = scales.log().sum(1)
            return -0.5 * (quadratic + self.features * math.log(2 * math.pi)) - log_volume

    def class_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log \pi_k + \log N_k(z)`, the joint density of class and latent: `(batch, K)`."""
        joint = self.component_log_prob(z)
        return joint + self.log_weights.to(joint.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log p(z)`, `(batch,)`."""
        return torch.logsumexp(self.class_log_prob(z), dim=1)

    def posterior(self, z: Tensor, temperature: float = 1.0) -> Tensor:
        r""":math:`p(k \mid z)`, `(batch, K)`, with the joint log-density divided by `temperature`."""
        return torch.softmax(self.class_log_prob(z) / temperature, dim=1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        generator: torch.Generator,
        classes: Tensor | None = None,
        *,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Draw latents and their classes.

        Random numbers come from the generator's device and are then moved, so that a generator on the CPU
        gives the same draw on every device.

        Args:
            n: how many.
            generator: source of randomness.
            classes: int64 `(n,)`, the class of each draw; None draws them by the class weights.
            temperature: factor on the standard deviations; 0 gives the means.

        Returns:
            Latents `(n, D)` and classes `(n,)`.
        """
        source, device = generator.device, self.means.device
        if classes is None:
            shares = self.log_weights.exp().cumsum(0).to(source)
            uniform = torch.rand(n, generator=generator, device=source, dtype=shares.dtype)
            classes = torch.searchsorted(shares, uniform, right=True).clamp(max=self.classes - 1)
        if classes.shape != (n,):
            raise ValueError(f"classes must have the shape ({n},), got {tuple(classes.shape)}")
        classes = classes.to(device)
        noise = torch.randn(n, self.features, generator=generator, device=source, dtype=self.means.dtype)
        scales = self.scales.expand(self.classes, -1)[classes]
        return self.means[classes] + temperature * scales * noise.to(device), classes

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        rows, columns = self.raw_scales.shape
        kind = "diagonal" if columns == self.features > 1 else "isotropic"
        shared = ", shared" if rows == 1 < self.classes else ""
        return f"classes={self.classes}, features={self.features}, covariance={kind}{shared}"

    def _register(self, name: str, value: Tensor, *, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)


def _nearest(z: Tensor, means: Tensor) -> Tensor:
    """Index of the mean nearest to each row, up to rounding: any near one will do as a centre."""
    return torch.addmm(means.square().sum(1), z, means.T, alpha=-2).argmin(1)


def _without(lean: Tensor, nearest: Tensor) -> Tensor:
    """Set the entries `lean[n, nearest[n]]`, 0 up to rounding, to exactly 0, and keep their gradient."""
    error = lean.detach().gather(1, nearest[:, None])
    return lean.scatter_add(1, nearest[:, None], -error)


def build(config: GMMConfig, *, means: Tensor, weights: Tensor | None = None) -> GaussianMixture:
    """Make the mixture that starts at `means` `(K, D)`, with class weights `weights` `(K,)`.

    For the two see `flowgmm_cli.mixture.means.initial_means` and
    `flowgmm_cli.mixture.weights.initial_weights`; to load a state, any means of the right shape will do.
    """
    return GaussianMixture(
        means,
        scale=config.scale,
        diagonal=config.covariance == "diagonal",
        shared=config.shared_covariance,
        weights=weights,
        learn_means=config.learn_means,
        learn_scales=config.learn_scales,
    )
