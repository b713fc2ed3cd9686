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
    """The network at one time: an ordinary network with these weights.

    Attributes:
        weights: matrices of the layers, first to last.
        biases: their biases.
    """

    weights: list[Tensor]
    biases: list[Tensor]

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Velocities `(N, D)` of rows `(N, D)`, and the slopes of the hidden layers."""
        slopes = []
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = torch.tanh(F.linear(x, weight, bias))
            slopes.append(1 - x.square())
        return F.linear(x, self.weights[-1], self.biases[-1]), slopes

    def jacobian(self, slopes: list[Tensor]) -> Tensor:
        """The Jacobian of each row, `(N, D, D)`."""
        jacobian = slopes[0][:, :, None] * self.weights[0]
        for weight, slope in zip(self.weights[1:-1], slopes[1:], strict=True):
            jacobian = slope[:, :, None] * (weight @ jacobian)
        return self.weights[-1] @ jacobian

    def pull_back(self, v: Tensor, slopes: list[Tensor]) -> Tensor:
        """The product of `v` `(N, D)` with the Jacobian of each row, from the left: `(N, D)`."""
        for weight, slope in zip(reversed(self.weights[1:]), reversed(slopes), strict=True):
            v = (v @ weight) * slope
        return v @ self.weights[0]


class Velocity(nn.Module):
    """A network of a row and the time, 0 everywhere at first.

    In each layer the time sets a gate on what comes out and a shift of it, as in the layers `concatsquash` of
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
        """The network at a time, a scalar."""
        weights, biases = [], []
        for weight, bias, (slope, height, shift) in zip(self.weights, self.biases, self.gates, strict=True):
            gate = torch.sigmoid(slope * time + height)
            weights.append(gate[:, None] * weight)
            biases.append(gate * bias + shift * time)
        return Moment(weights, biases)
