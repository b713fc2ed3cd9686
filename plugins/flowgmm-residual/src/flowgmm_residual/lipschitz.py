r"""Networks with a guaranteed Lipschitz constant, and their Jacobians in closed form.

A matrix is divided by an upper bound of its largest singular value where that is above the allowed one. The
bound is the Gram iteration of Delattre et al. (2023): with :math:`G_0 = W W^\top` and
:math:`G_{t+1} = G_t G_t`,

.. math:: \sigma_{max}(W) \le \|G_t\|_F^{1 / 2^{t + 1}}

It is power iteration on all vectors at once, by squaring. Power iteration on one vector approaches the norm
from below and carries that vector from step to step; this bound holds after any number of iterations, needs
no state, and is right in the averaged teacher, in a copy and after a resume.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ITERATIONS = 6  # at most r^(1 / 256) too large for a matrix of rank r: 2 % for r = 128


def spectral_bound(weight: Tensor, iterations: int = _ITERATIONS) -> Tensor:
    """An upper bound of the largest singular value of a matrix, differentiable; a scalar."""
    gram = weight @ weight.mT if weight.shape[0] <= weight.shape[1] else weight.mT @ weight
    tiny = torch.finfo(weight.dtype).tiny ** 0.5  # under the root: its gradient at 0 is then 0
    log_scale = gram.new_zeros(())
    for _ in range(iterations):
        norm = (gram.square().sum() + tiny).sqrt()
        gram = gram / norm
        gram = gram @ gram
        log_scale = 2 * (log_scale + norm.log())
    log_norm = log_scale + (gram.square().sum() + tiny).sqrt().log()
    bound: Tensor = (log_norm / 2 ** (iterations + 1)).exp()
    return bound


class LipSwish(nn.Module):
    r""":math:`x \, \mathrm{sigmoid}(\beta x) / 1.1`, of Lipschitz constant below 1 (Chen et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Values and slopes, both of the shape of `x`."""
        beta = F.softplus(self.beta)
        gate = torch.sigmoid(beta * x)
        value = x * gate
        return value / 1.1, (gate + beta * value * (1 - gate)) / 1.1


class LipschitzNetwork(nn.Module):
    """A network from `(N, D)` to `(N, D)`, of Lipschitz constant at most `bound`; 0 everywhere at first.

    Its weights are divided as needed once a pass (`weights`) and handed to the other methods.

    Args:
        features: D.
        hidden: width of the hidden layers.
        depth: number of hidden layers.
        bound: of the Lipschitz constant in the Euclidean norm, shared out evenly among the layers.
        generator: seeds the weights, on the CPU.
    """

    def __init__(
        self, features: int, *, hidden: int, depth: int, bound: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        sizes = [features, *[hidden] * depth, features]
        self.bound = bound ** (1 / (depth + 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        for before, after in pairwise(sizes):
            limit = 1 / math.sqrt(before)
            draw = torch.empty(after, before + 1).uniform_(-limit, limit, generator=generator)
            self.matrices.append(nn.Parameter(draw[:, 1:].clone()))
            self.biases.append(nn.Parameter(draw[:, 0].clone()))
        with torch.no_grad():
            self.matrices[-1].zero_()
            self.biases[-1].zero_()
        self.activations = nn.ModuleList(LipSwish() for _ in range(depth))

    def weights(self) -> list[Tensor]:
        """Return the matrices, each scaled so that its norm is below its share of the bound."""
        return [
            matrix / torch.clamp_min(spectral_bound(matrix) / self.bound, 1.0) for matrix in self.matrices
        ]

    def forward(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Values `(N, D)`, and the slopes of each hidden layer for `jacobian` and `pull_back`."""
        derivatives = []
        for weight, bias, activate in zip(weights, self.biases, self.activations, strict=False):
            x, derivative = activate(F.linear(x, weight, bias))
            derivatives.append(derivative)
        return F.linear(x, weights[-1], self.biases[-1]), derivatives

    def jacobian(self, weights: list[Tensor], derivatives: list[Tensor]) -> Tensor:
        """The Jacobian of each row, `(N, D, D)`."""
        jacobian = derivatives[0][:, :, None] * weights[0]
        for weight, derivative in zip(weights[1:-1], derivatives[1:], strict=True):
            jacobian = derivative[:, :, None] * (weight @ jacobian)
        return weights[-1] @ jacobian

    def pull_back(self, v: Tensor, weights: list[Tensor], derivatives: list[Tensor]) -> Tensor:
        """The product of `v` `(N, D)` with the Jacobian of each row, from the left: `(N, D)`."""
        for weight, derivative in zip(reversed(weights[1:]), reversed(derivatives), strict=True):
            v = (v @ weight) * derivative
        return v @ weights[0]
