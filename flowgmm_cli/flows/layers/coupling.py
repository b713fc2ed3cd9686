"""Coupling layers: one half of the features is mapped, given the other half."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det
from flowgmm_cli.flows.layers.conditional import ConditionalFactory, log_scale_and_shift
from flowgmm_cli.flows.layers.networks import Conditioner


def split_halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Views of both halves of `(batch, features, ...)`; of an odd number the first half has one more."""
    middle = (x.shape[1] + 1) // 2
    return x[:, :middle], x[:, middle:]


class Coupling(Bijection):
    """Base of the coupling layers (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.2).

    Args:
        features: number of features or channels, at least 2.
        flip: map the first half, given the second, instead of the second.
    """

    def __init__(self, features: int, *, flip: bool) -> None:
        super().__init__()
        if features < 2:
            raise ValueError(f"a coupling needs at least 2 features or channels, got {features}")
        self.features = features
        self.flip = flip

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of features that are given and of those that are mapped."""
        first, second = (self.features + 1) // 2, self.features // 2
        return (second, first) if self.flip else (first, second)

    @abstractmethod
    def transform(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map the half `x`, given the other half; returns z and the log-determinant `(batch,)`."""

    @abstractmethod
    def inverse_transform(self, z: Tensor, context: Tensor) -> Tensor:
        """Invert `transform`."""

    def forward_halves(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map two halves; returns both and the log-determinant `(batch,)`."""
        if self.flip:
            first, log_det = self.transform(first, second)
        else:
            second, log_det = self.transform(second, first)
        return first, second, log_det

    def inverse_halves(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Invert `forward_halves`."""
        if self.flip:
            return self.inverse_transform(first, second), second
        return first, self.inverse_transform(second, first)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features, ...)` to the same shape, with the log-determinant."""
        first, second, log_det = self.forward_halves(*split_halves(x))
        return torch.cat([first, second], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        return torch.cat(self.inverse_halves(*split_halves(z)), dim=1)


class AffineCoupling(Coupling):
    r"""Scale and shift of one half of a vector by a function of the other half.

    .. math:: z_a = x_a, \quad z_b = x_b \, e^{s} + t, \quad (s, t) = \mathrm{net}(x_a), \quad
              \log|\det| = \textstyle\sum s

    (Dinh et al., 2017, eq. 4 and 5.) The log-scale is soft-clipped, :math:`s = l \tanh(\hat s / l)`, which
    bounds the condition number and keeps a gradient everywhere. The layer starts as the identity.

    Args:
        features: length of the vector, at least 2.
        flip: map the first half, given the second, instead of the second.
        hidden: width of the network's hidden layers.
        depth: number of its hidden layers.
        scale_limit: the bound l on the absolute log-scale.
        dropout: of the network, see `Conditioner`.
        generator: draws the weights, on the CPU.

    Examples:
        >>> import torch
        >>> coupling = AffineCoupling(4, hidden=8, generator=torch.Generator().manual_seed(0))
        >>> x = torch.randn(2, 4)
        >>> z, log_det = coupling(x)
        >>> torch.equal(coupling.inverse(z), x)
        True
    """

    def __init__(
        self,
        features: int,
        *,
        flip: bool = False,
        hidden: int = 512,
        depth: int = 2,
        scale_limit: float = 1.0,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__(features, flip=flip)
        self.scale_limit = scale_limit
        inputs, outputs = self.sizes
        self.net = Conditioner(
            inputs, 2 * outputs, hidden=hidden, depth=depth, dropout=dropout, generator=generator
        )

    def transform(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map the half `x`, given the other half; returns z and the log-determinant `(batch,)`."""
        log_scale, shift = log_scale_and_shift(self.net(context), self.scale_limit)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale.sum(1)

    def inverse_transform(self, z: Tensor, context: Tensor) -> Tensor:
        """Invert `transform`."""
        log_scale, shift = log_scale_and_shift(self.net(context), self.scale_limit)
        return (z - shift) * torch.exp(-log_scale)


class CouplingStack(Bijection):
    """Affine couplings whose halves swap roles.

    The vector is split and concatenated only once, so the features are not copied between couplings: the
    stack costs its matrix products.

    Args:
        couplings: of the same number of features, first to last.
    """

    def __init__(self, couplings: Iterable[AffineCoupling]) -> None:
        super().__init__()
        self.couplings: Any = nn.ModuleList(couplings)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape, with the log-determinant."""
        first, second = split_halves(x)
        total = zero_log_det(x)
        for coupling in self.couplings:
            first, second, log_det = coupling.forward_halves(first, second)
            total = total + log_det
        return torch.cat([first, second], dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        first, second = split_halves(z)
        for coupling in reversed(self.couplings):
            first, second = coupling.inverse_halves(first, second)
        return torch.cat([first, second], dim=1)


class ImageCoupling(Coupling):
    """Map of one half of the channels of an image, given the other half.

    This is the channel mask of Dinh et al. (2017, section 3.4) and, after a `Squeeze`, also the checkerboard
    mask. The paper's checkerboard couplings run their networks on whole images with half of the pixels
    masked, and discard half of the output; on the squeezed image nothing is masked or discarded.

    Args:
        channels: at least 2; of an odd number the first half has one more.
        flip: map the first half, given the second, instead of the second.
        couple: builds the map, from the numbers of channels that are given and mapped.
    """

    def __init__(self, channels: int, *, flip: bool = False, couple: ConditionalFactory) -> None:
        super().__init__(channels, flip=flip)
        self.couple = couple(*self.sizes)

    def transform(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map the half `x`, given the other half; returns z and the log-determinant `(batch,)`."""
        z, log_slope = self.couple(x, context)
        return z, log_slope.flatten(1).sum(1)

    def inverse_transform(self, z: Tensor, context: Tensor) -> Tensor:
        """Invert `transform`."""
        return self.couple.inverse(z, context)
