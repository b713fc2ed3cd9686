"""The model of the benchmark in other libraries: the same couplings, a closed-form mixture, the same loss.

Each is built as in the documentation of its library, with the fastest of several choices. One pass computes
the loss of labelled and unlabelled rows, and the optimiser is fused, which is faster than most users' code.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from shapes import CLIP_NORM, LEARNING_RATE, UNLABELLED_WEIGHT, Rows, Shape
from torch import Tensor, nn


class Peer(nn.Module, ABC):
    """A flow of another library with a mixture of unit Gaussians.

    Args:
        flow: the module of the library.
        means: `(K, D)`, learned.
    """

    def __init__(self, flow: nn.Module, means: Tensor) -> None:
        super().__init__()
        self.flow = flow
        self.means = nn.Parameter(means.clone())

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return latents `(N, D)` and log-determinants `(N,)`."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Map latents back to rows."""

    def densities(self, z: Tensor) -> Tensor:
        r"""Compute :math:`\log N(z; \mu_k, 1)`, `(N, K)`."""
        distances = torch.cdist(z, self.means).square()
        return -0.5 * (distances + z.shape[1] * math.log(2 * math.pi))

    def loss(self, rows: Rows) -> Tensor:
        """Negative log-likelihood of labelled rows with their class and of unlabelled rows."""
        z, log_det = self.encode(torch.cat([rows.labelled, rows.unlabelled]))
        log_densities, labelled = self.densities(z), len(rows.labels)
        joint = log_densities[:labelled].gather(1, rows.labels[:, None])[:, 0] + log_det[:labelled]
        marginal = (
            torch.logsumexp(log_densities[labelled:], 1) - math.log(len(self.means)) + log_det[labelled:]
        )
        return -(joint.mean() + UNLABELLED_WEIGHT * marginal.mean())

    def score(self, x: Tensor) -> Tensor:
        """Compute `log p(x)`, `(N,)`."""
        z, log_det = self.encode(x)
        return torch.logsumexp(self.densities(z), 1) - math.log(len(self.means)) + log_det

    def sample(self, n: int) -> Tensor:
        """Draw rows `(n, D)`."""
        component = torch.randint(len(self.means), (n,))
        return self.decode(self.means[component] + torch.randn(n, self.means.shape[1]))


def create_step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Create a function that takes one optimiser step: gradient, clipping, fused AdamW."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        torch.autograd.backward(loss())
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimiser.step()

    return step


def zuko_peer(shape: Shape, rows: Rows) -> Peer:
    """`zuko.flows.RealNVP`."""
    import zuko

    class Zuko(Peer):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.flow().transform.call_and_ladj(x)  # type: ignore[no-any-return]

        def decode(self, z: Tensor) -> Tensor:
            return self.flow().transform.inv(z)  # type: ignore[no-any-return]

    hidden = (shape.hidden, shape.hidden)
    flow = zuko.flows.RealNVP(shape.features, transforms=shape.couplings, hidden_features=hidden)
    return Zuko(flow, rows.means)


def nflows_peer(shape: Shape, rows: Rows) -> Peer:
    """`nflows.transforms.AffineCouplingTransform` with a plain network."""
    from nflows.transforms import AffineCouplingTransform, CompositeTransform

    class Network(nn.Sequential):
        def __init__(self, inputs: int, outputs: int) -> None:
            hidden = shape.hidden
            first = (nn.Linear(inputs, hidden), nn.ReLU(inplace=True))
            second = (nn.Linear(hidden, hidden), nn.ReLU(inplace=True))
            super().__init__(*first, *second, nn.Linear(hidden, outputs))

        def forward(self, x: Tensor, context: Any = None) -> Tensor:
            return super().forward(x)  # type: ignore[no-any-return]

    class Nflows(Peer):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.flow(x)  # type: ignore[no-any-return]

        def decode(self, z: Tensor) -> Tensor:
            return self.flow.inverse(z)[0]  # type: ignore[no-any-return, operator]

    layers = []
    for index in range(shape.couplings):
        mask = torch.ones(shape.features)
        mask[: shape.features // 2] = -1
        layers.append(AffineCouplingTransform(-mask if index % 2 else mask, Network))
    return Nflows(CompositeTransform(layers), rows.means)


def normflows_peer(shape: Shape, rows: Rows) -> Peer:
    """`normflows.flows.AffineCouplingBlock`, halves swapped in between."""
    import normflows

    class Normflows(Peer):
        def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
            total: Any = 0
            for layer in reversed(self.flow):  # type: ignore[call-overload]
                x, log_det = layer.inverse(x)
                total = total + log_det
            return x, total

        def decode(self, z: Tensor) -> Tensor:
            for layer in self.flow:  # type: ignore[attr-defined]
                z, _ = layer(z)
            return z

    half, layers = shape.features // 2, []
    for _ in range(shape.couplings):
        sizes = [half, shape.hidden, shape.hidden, 2 * (shape.features - half)]
        layers.append(normflows.flows.AffineCouplingBlock(normflows.nets.MLP(sizes, init_zeros=True)))
        layers.append(normflows.flows.Permute(shape.features, mode="swap"))
    return Normflows(nn.ModuleList(layers), rows.means)


PEERS: dict[str, Callable[[Shape, Rows], Peer]] = {
    "zuko": zuko_peer,
    "nflows": nflows_peer,
    "normflows": normflows_peer,
}


def available_peers() -> list[str]:
    """Names of the libraries that can be imported."""
    return [name for name in PEERS if find_spec(name) is not None]
