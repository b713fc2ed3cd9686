"""Scale and shift of each feature or channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det


class ElementwiseAffine(Bijection):
    r"""Learned scale and shift of each feature, initially the identity.

    .. math:: z = (x - t) \, e^{s}

    The shift comes first so that a narrow feature far from the origin keeps its digits. The features of
    images `(batch, channels, height, width)` are their channels.

    Args:
        features: length of the vector, or number of channels.

    Examples:
        >>> import torch
        >>> z, log_det = ElementwiseAffine(3)(torch.ones(2, 3))
        >>> log_det
        tensor([0., 0.], grad_fn=<AddBackward0>)
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features, ...)` to the same shape; the log-determinant is the same for every row."""
        pixels = x.shape[2:].numel()
        z = (x - self._broadcast(self.shift, x)) * self._broadcast(self.log_scale, x).exp()
        return z, zero_log_det(x) + pixels * self.log_scale.sum()

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        return z * torch.exp(-self._broadcast(self.log_scale, z)) + self._broadcast(self.shift, z)

    def _broadcast(self, parameter: Tensor, x: Tensor) -> Tensor:
        return parameter.reshape(-1, *[1] * (x.dim() - 2))


class ActNorm(ElementwiseAffine):
    """Scale and shift of each feature, initialised to standardise a first batch.

    Activation normalisation (Kingma and Dhariwal, 2018, section 3.1). `initialise` is a separate call, so
    that `forward` never changes the module and can be compiled. A buffer records that it has happened, so a
    loaded model is not initialised again.
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set scale and shift so that the rows `x` `(batch, features, ...)` get mean 0 and variance 1.

        Statistics of images are taken over rows and pixels. A feature that is constant in `x` is only
        centred. Without rows, and from the second call on, nothing happens.
        """
        if self.initialised or not len(x):
            return
        x = x.cpu().double()  # not every device has float64
        dims = [0, *range(2, x.dim())]
        mean, std = x.mean(dims), x.std(dims, correction=0)
        # Rounding gives a constant feature a tiny spread, by which nothing should be divided.
        constant = std <= 1e-6 * mean.abs().clamp(min=1e-6)
        self.log_scale.copy_(-std.masked_fill(constant, 1.0).log())
        self.shift.copy_(mean)
        self.initialised.fill_(True)


@torch.no_grad()
def initialise_actnorms(module: nn.Module, x: Tensor) -> Tensor:
    """Initialise every `ActNorm` of a layer or a sequence of layers from its input; return its output."""
    if isinstance(module, Sequential):
        for layer in module.layers:
            x = initialise_actnorms(layer, x)
        return x
    if isinstance(module, ActNorm):
        module.initialise(x)
    z: Tensor = module(x)[0]
    return z
