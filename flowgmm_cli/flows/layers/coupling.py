"""Affine coupling on the two halves of a vector (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, zero_log_det
from flowgmm_cli.flows.layers.conditioner import Conditioner
from flowgmm_cli.flows.layers.scale_shift import scale_and_shift, scale_of


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Views of the first and second half of `(batch, features)`; of an odd length the first has one more."""
    middle = (x.shape[1] + 1) // 2
    return x[:, :middle], x[:, middle:]


class AffineCoupling(Bijection):
    r"""Scale and shift one half of the vector by a function of the other.

    .. math:: z_a = x_a, \quad z_b = x_b \, e^{s} + t, \quad (s, t) = \mathrm{net}(x_a), \quad
              \log|\det| = \textstyle\sum s

    (Dinh et al., 2017, eq. 4 and 5.) The log-scale is soft-clipped, :math:`s = l \tanh(\hat s / l)`, which
    bounds the condition number and keeps a gradient everywhere. One network yields both s and t. The layer
    starts as the identity.

    Args:
        features: length of the vector, at least 2.
        flip: change the first half (given the second) instead of the second.
        hidden: width of the network's hidden layers.
        depth: number of its hidden layers.
        scale_limit: the bound l on the absolute log-scale.
        dropout: share of the network's units dropped in training, see `Conditioner`.
        generator: seeds the weights, on the CPU.
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
        super().__init__()
        if features < 2:
            raise ValueError(f"a coupling needs at least 2 features, got {features}")
        self.features = features
        self.flip = flip
        self.scale_limit = scale_limit
        changed = (features + 1) // 2 if flip else features // 2
        self.net = Conditioner(
            features - changed,
            2 * changed,
            hidden=hidden,
            depth=depth,
            dropout=dropout,
            generator=generator,
        )

    def couple(self, kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed half and the log-determinant `(batch,)`, given the kept half."""
        return scale_and_shift(self.net(kept), changed, self.scale_limit)

    def uncouple(self, kept: Tensor, changed: Tensor) -> Tensor:
        """Undo `couple`."""
        scale, shift = scale_of(self.net(kept), self.scale_limit)
        return (changed - shift) * torch.exp(-scale)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape, with the log-determinant."""
        first, second = halves(x)
        if self.flip:
            first, log_det = self.couple(second, first)
        else:
            second, log_det = self.couple(first, second)
        return torch.cat([first, second], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        first, second = halves(z)
        if self.flip:
            first = self.uncouple(second, first)
        else:
            second = self.uncouple(first, second)
        return torch.cat([first, second], dim=1)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}, flip={self.flip}, scale_limit={self.scale_limit}"


class CouplingStack(Bijection):
    """Affine couplings one after the other whose halves swap roles.

    The vector is divided once and joined once, so that no feature is copied in between: the stack costs what
    its matrix products cost.

    Args:
        features: length of the vector, at least 2.
        couplings: how many.
        flip: let the first coupling change the first half.
        hidden, depth, scale_limit, dropout, generator: see `AffineCoupling`.
    """

    def __init__(
        self,
        features: int,
        *,
        couplings: int,
        flip: bool = False,
        hidden: int = 512,
        depth: int = 2,
        scale_limit: float = 1.0,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.couplings = torch.nn.ModuleList(
            AffineCoupling(
                features,
                flip=flip ^ bool(index % 2),
                hidden=hidden,
                depth=depth,
                scale_limit=scale_limit,
                dropout=dropout,
                generator=generator,
            )
            for index in range(couplings)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape, with the log-determinant."""
        first, second = halves(x)
        total = zero_log_det(x)
        for coupling in self._typed():
            if coupling.flip:
                first, log_det = coupling.couple(second, first)
            else:
                second, log_det = coupling.couple(first, second)
            total = total + log_det
        return torch.cat([first, second], dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        first, second = halves(z)
        for coupling in reversed(self._typed()):
            if coupling.flip:
                first = coupling.uncouple(second, first)
            else:
                second = coupling.uncouple(first, second)
        return torch.cat([first, second], dim=1)

    def _typed(self) -> list[AffineCoupling]:
        return [coupling for coupling in self.couplings if isinstance(coupling, AffineCoupling)]
