"""The velocity network, with its Jacobian in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Moment:
    """The network at a fixed time: an ordinary network with these weights.

    Attributes:
        weights: matrices of the layers, first to last.
        biases: their biases.
    """

    weights: list[Tensor]
    biases: list[Tensor]

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return velocities `(N, D)` of rows `(N, D)`, and the derivatives of the hidden activations."""
        derivatives = []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.tanh(F.linear(x, weight, bias))
            derivatives.append(1 - x.square())
        return F.linear(x, self.weights[-1], self.biases[-1]), derivatives

    def jacobian(self, derivatives: list[Tensor]) -> Tensor:
        """Return the Jacobian of each row, `(N, D, D)`."""
        jacobian = derivatives[0][:, :, None] * self.weights[0]
        for weight, derivative in zip(self.weights[1:-1], derivatives[1:], strict=True):
            jacobian = derivative[:, :, None] * (weight @ jacobian)
        return self.weights[-1] @ jacobian

    def pull_back(self, v: Tensor, derivatives: list[Tensor]) -> Tensor:
        """Return the product of `v` `(N, D)` with the Jacobian of each row, from the left: `(N, D)`."""
        for weight, derivative in zip(reversed(self.weights[1:]), reversed(derivatives), strict=True):
            v = (v @ weight) * derivative
        return v @ self.weights[0]


class Velocity(nn.Module):
    """A network of a row and the time, 0 everywhere at first.

    In each layer the time determines a gate and a shift of the output, as in the layers `concatsquash` of
    Grathwohl et al. (2019).

    Args:
        features: D.
        hidden: width of the hidden layers.
        depth: number of hidden layers.
        generator: seeds the weights, on the CPU.
    """

    def __init__(self, features: int, *, hidden: int, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [features, *[hidden] * depth, features]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.gates = nn.ParameterList()  # rows: slope and height of the gate, slope of the shift
        for before, after in pairwise(sizes):
            limit = 1 / math.sqrt(before)
            draw = torch.empty(after, before + 1).uniform_(-limit, limit, generator=generator)
            self.weights.append(nn.Parameter(draw[:, 1:].clone()))
            self.biases.append(nn.Parameter(draw[:, 0].clone()))
            self.gates.append(nn.Parameter(torch.empty(3, after).uniform_(-1, 1, generator=generator)))
        with torch.no_grad():
            for last in (self.weights[-1], self.biases[-1], self.gates[-1]):
                last.zero_()

    def forward(self, time: Tensor) -> Moment:
        """Return the network at a time, a scalar."""
        weights, biases = [], []
        for weight, bias, (derivative, height, shift) in zip(
            self.weights, self.biases, self.gates, strict=True
        ):
            gate = torch.sigmoid(derivative * time + height)
            weights.append(gate[:, None] * weight)
            biases.append(gate * bias + shift * time)
        return Moment(weights, biases)
