"""Gaussian mixture of the latents, with one or several components per class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from flowgmm_cli.mixture.background import Background

MIN_SCALE = 1e-3  # of a component, as a share of its initial standard deviation


def log_normal(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    r"""Log-densities :math:`\log N(z_n; \mu_m, \mathrm{diag}(\sigma_m^2))` of all rows n and Gaussians m.

    Squared distances are expanded to :math:`|z|^2 - 2 z \mu_m + |\mu_m|^2`. That takes one matrix product and
    no `(N, M, D)` numbers, but loses digits where a row is much nearer to a mean than to the origin. In
    float64 the loss is smaller than the spacing of float32 numbers there. MPS has no float64; on it the
    expansion is about the centre of the means, in the dtype of `z`.

    Args:
        z: rows `(N, D)`.
        means: `(M, D)`.
        scales: standard deviations, `(M, D)`, `(M, 1)`, `(1, D)` or `(1, 1)`.

    Returns:
        `(N, M)`, in the dtype of `z`.
    """
    dtype, features = z.dtype, z.shape[1]
    if z.device.type == "mps":
        centre = means.detach().mean(0)
        z, means = z - centre, means - centre
    else:
        z, means, scales = z.double(), means.double(), scales.double()
    precision = scales.square().reciprocal()
    log_volume = (features // scales.shape[1]) * scales.log().sum(1) + 0.5 * features * math.log(2 * math.pi)
    if scales.shape[1] == 1:
        distances = torch.addmm(means.square().sum(1), z, means.T, alpha=-2)
        distances = distances.add_(z.square().sum(1, keepdim=True)) * precision.T
    else:
        weighted = precision * means
        distances = torch.addmm((weighted * means).sum(1), z, weighted.T, alpha=-2)
        distances = distances.add_(z.square() @ precision.T)
    return distances.mul_(-0.5).sub_(log_volume).to(dtype)


class GaussianMixture(nn.Module):
    r"""Mixture of K classes of C Gaussians with isotropic or diagonal covariances in D dimensions.

    .. math:: p(z) = \textstyle\sum_k \pi_k \sum_c w_{kc} \,
              N(z_{1..d}; \mu_{kc}, \mathrm{diag}(\sigma_{kc}^2)) \; N(z_{d+1..D}; 0, 1)

    (Izmailov et al., 2020, section 3.1, have C = 1 and d = D.) Log-densities are computed by matrix products
    over all K C components, in float32 at least, also under autocast.

    Args:
        means: `(K C, d)`, class by class.
        components: Gaussians of each class, C.
        features: length of a latent vector, D; None for d. The dimensions beyond d are standard normal.
        scale: initial standard deviation of every component.
        diagonal: one standard deviation per dimension instead of one for all.
        shared: the same standard deviations for all components.
        weights: class weights `(K,)` of any sum; None for equal weights.
        learn_means: make the means a parameter instead of a buffer.
        learn_scales: likewise the standard deviations.
        learn_weights: likewise the class weights.
        learn_component_weights: likewise the weights within each class.
        learn_rest: learn mean and standard deviation of the dimensions beyond d too.

    Examples:
        >>> import torch
        >>> mixture = GaussianMixture(torch.tensor([[-2.0, 0.0], [2.0, 0.0]]))
        >>> z, classes = mixture.sample(5, torch.Generator().manual_seed(0))
        >>> mixture.class_log_prob(z).shape
        torch.Size([5, 2])
    """

    means: Tensor
    raw_scales: Tensor
    raw_log_weights: Tensor
    raw_log_component_weights: Tensor

    def __init__(
        self,
        means: Tensor,
        *,
        components: int = 1,
        features: int | None = None,
        scale: float = 1.0,
        diagonal: bool = False,
        shared: bool = False,
        weights: Tensor | None = None,
        learn_means: bool = True,
        learn_scales: bool = True,
        learn_weights: bool = False,
        learn_component_weights: bool = True,
        learn_rest: bool = False,
    ) -> None:
        super().__init__()
        if means.ndim != 2 or components < 1 or len(means) % components:
            raise ValueError(
                f"means must have the shape (classes * {components}, features), got {tuple(means.shape)}"
            )
        if scale <= 0:
            raise ValueError(f"need scale > 0, got {scale}")
        count, dims = means.shape
        self.components = components
        self.features = dims if features is None else features
        if self.features < dims:
            raise ValueError(f"means of {dims} dimensions do not fit latents of {self.features}")
        # Without a minimum the likelihood is unbounded: a component could shrink onto a single row.
        self.min_scale = MIN_SCALE * scale
        shape = (1 if shared else count, dims if diagonal else 1)
        # By the exponential, steps of the optimiser are relative, in any unit of the latents.
        raw_scales = torch.full(shape, math.log(scale - self.min_scale), dtype=means.dtype)
        raw_log_weights = torch.zeros(count // components, dtype=means.dtype)
        self._register("means", means.detach().clone(), learned=learn_means)
        self._register("raw_scales", raw_scales, learned=learn_scales)
        self._register("raw_log_weights", raw_log_weights, learned=learn_weights)
        if components > 1:
            raw_within = torch.zeros(self.classes, components, dtype=means.dtype)
            self._register("raw_log_component_weights", raw_within, learned=learn_component_weights)
        rest = self.features - dims
        self.rest = Background(rest, learn=learn_rest, dtype=means.dtype) if rest else None
        if weights is not None:
            self.set_weights(weights)

    @property
    def classes(self) -> int:
        """Number of classes, K."""
        return self.means.shape[0] // self.components

    @property
    def dims(self) -> int:
        """Number of latent dimensions that carry the classes, d; they are the first dimensions."""
        return self.means.shape[1]

    @property
    def scales(self) -> Tensor:
        """Standard deviations of the components, `(K C, d)`, `(K C, 1)`, `(1, d)` or `(1, 1)`."""
        return self.min_scale + self.raw_scales.exp()

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the class weights, `(K,)`; the weights sum to 1."""
        return torch.log_softmax(self.raw_log_weights, dim=0)

    @property
    def log_component_weights(self) -> Tensor:
        """Logarithms of the components' weights within their class, `(K, C)`; rows of weights sum to 1."""
        if self.components == 1:
            return self.raw_log_weights.new_zeros(self.classes, 1)
        return torch.log_softmax(self.raw_log_component_weights, dim=1)

    @property
    def component_classes(self) -> Tensor:
        """Class of each component, int64 `(K C,)`."""
        return torch.arange(len(self.means), device=self.means.device) // self.components

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the components in all D dimensions, two `(K C, D)`."""
        means, scales = self.means, self.scales.expand_as(self.means)
        if self.rest is None:
            return means, scales
        mean, scale = (moment.expand(len(means), -1).to(means) for moment in self.rest.moments())
        return torch.cat([means, mean], dim=1), torch.cat([scales, scale], dim=1)

    @torch.no_grad()
    def set_weights(self, weights: Tensor) -> None:
        """Set the class weights to `weights` `(K,)`, positive and of any sum."""
        if weights.shape != (self.classes,) or not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"need {self.classes} positive finite class weights, got {weights.tolist()}")
        self.raw_log_weights.copy_(torch.log(weights / weights.sum()))

    @torch.no_grad()
    def set_component_weights(self, weights: Tensor) -> None:
        """Set the weights within each class to `weights` `(K, C)`, positive and with rows of any sum."""
        shape = (self.classes, self.components)
        if weights.shape != shape or not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"need positive finite weights of the shape {shape}, got {weights.tolist()}")
        if self.components > 1:
            self.raw_log_component_weights.copy_(torch.log(weights / weights.sum(1, keepdim=True)))

    def component_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log N_{kc}(z)` of every component in all D dimensions: `(batch, D)` to `(batch, K C)`."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(dtype)
            log_prob = log_normal(z[:, : self.dims], self.means.to(dtype), self.scales.to(dtype))
            if self.rest is None:
                return log_prob
            return log_prob + self.rest.log_prob(z[:, self.dims :])[:, None]

    def conditional_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log p(z \mid k) = \log \sum_c w_{kc} N_{kc}(z)`, `(batch, K)`."""
        log_prob = self.component_log_prob(z)
        if self.components == 1:
            return log_prob
        within = log_prob.reshape(-1, self.classes, self.components)
        return torch.logsumexp(within + self.log_component_weights.to(log_prob.dtype), dim=2)

    def class_log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log \pi_k + \log p(z \mid k)`, the joint log-density of class and latent: `(batch, K)`."""
        conditional = self.conditional_log_prob(z)
        return conditional + self.log_weights.to(conditional.dtype)

    def log_prob(self, z: Tensor) -> Tensor:
        r""":math:`\log p(z)`, `(batch,)`."""
        return torch.logsumexp(self.class_log_prob(z), dim=1)

    def posterior(self, z: Tensor, temperature: float = 1.0) -> Tensor:
        r""":math:`p(k \mid z)`, `(batch, K)`, with the joint log-density divided by `temperature`."""
        return torch.softmax(self.class_log_prob(z) / temperature, dim=1)

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator, classes: Tensor | None = None, *, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Draw latents `(n, D)` and their classes `(n,)`.

        `classes` int64 `(n,)` gives the class of each draw; None draws them by the class weights.
        `temperature` is a factor on the standard deviations; 0 gives the means. Random numbers are drawn on
        the generator's device and then moved: a generator on the CPU gives the same sample on every device.
        """
        source, device = generator.device, self.means.device
        if classes is None:
            classes = _draw_categories(self.log_weights.exp().to(source), n, generator)
        if classes.shape != (n,):
            raise ValueError(f"classes must have the shape ({n},), got {tuple(classes.shape)}")
        classes = classes.to(device)
        component = classes * self.components
        if self.components > 1:
            within = self.log_component_weights.exp()[classes].to(source)
            component = component + _draw_categories(within, n, generator).to(device)
        noise = torch.randn(n, self.features, generator=generator, device=source, dtype=self.means.dtype)
        noise = noise.to(device)
        scales = self.scales.expand(len(self.means), -1)[component]
        z = self.means[component] + temperature * scales * noise[:, : self.dims]
        if self.rest is not None:
            background = self.rest.transform_noise(noise[:, self.dims :], temperature=temperature)
            z = torch.cat([z, background], dim=1)
        return z, classes

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        rows, columns = self.raw_scales.shape
        components = f", components={self.components}" if self.components > 1 else ""
        dims = f", dims={self.dims}" if self.rest is not None else ""
        kind = "diagonal" if columns == self.dims > 1 else "isotropic"
        shared = ", shared" if rows == 1 < len(self.means) else ""
        sizes = f"classes={self.classes}{components}, features={self.features}{dims}"
        return f"{sizes}, covariance={kind}{shared}"

    def _register(self, name: str, value: Tensor, *, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)


def _draw_categories(probabilities: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draw int64 `(n,)` with `probabilities` `(M,)`, the same for all draws, or `(n, M)`."""
    uniform = torch.rand(n, generator=generator, device=probabilities.device, dtype=probabilities.dtype)
    cumulative = probabilities.cumsum(-1)
    if probabilities.ndim == 1:
        index = torch.searchsorted(cumulative, uniform, right=True)
    else:
        index = torch.searchsorted(cumulative, uniform[:, None], right=True)[:, 0]
    return index.clamp(max=probabilities.shape[-1] - 1)  # the last sum may be a little below 1
