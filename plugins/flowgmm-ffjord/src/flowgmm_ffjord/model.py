r"""FFJORD (Grathwohl et al., 2019): rows follow a learned velocity.

.. math:: z = x + \int_0^T f(x(t), t) \, dt, \qquad
          \log \left| \det \frac{\partial z}{\partial x} \right|
          = \int_0^T \mathrm{tr} \frac{\partial f}{\partial x(t)} \, dt
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from flowgmm_cli.api import RecipeError, RunFailedError
from flowgmm_ffjord.noise import random_signs, row_keys, tensor_key
from flowgmm_ffjord.plugin import FfjordConfig
from flowgmm_ffjord.velocity import Moment, Velocity

_EXACT_TRAINING = 8  # features up to which the Jacobian costs little more than a direction
_EXACT_EVALUATION = 64
_EQUAL_STEPS = {"euler", "midpoint", "heun3", "rk4"}

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class PathEnergies:
    """Integrals along the path of each row, both `(N,)`.

    Attributes:
        kinetic: of the squared speed.
        jacobian: of the squared Frobenius norm of the velocity's Jacobian.
    """

    kinetic: Tensor
    jacobian: Tensor


class Ffjord(nn.Module):
    """A continuous flow of vectors.

    Args:
        features: D.
        config: network, solver and trace.
        generator: seeds the weights, on the CPU.
    """

    probes: Tensor

    def __init__(self, features: int, config: FfjordConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.features = features
        self.config = config
        self.velocity = Velocity(features, hidden=config.hidden, depth=config.depth, generator=generator)
        drawn = torch.randint(0, 2, (config.eval_probes, 1, features), generator=generator)
        self.register_buffer("probes", 2.0 * drawn - 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`, at least float32.

        Raises:
            RunFailedError: the solver gives up.
        """
        x = _at_least_float32(x)
        directions = self._directions(x)

        def change(time: Tensor, state: State) -> State:
            moment = self.velocity(time)
            speed, derivatives = moment(state[0])
            return speed, _jacobian_trace(moment, derivatives, directions)

        z, log_det = self._solve(change, (x, x.new_zeros(len(x))))
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Map latents `(N, D)` back to rows `(N, D)`. Raises `RunFailedError` if the solver gives up."""
        z = _at_least_float32(z)
        results: State = self._solve(
            lambda time, state: (self.velocity(time)(state[0])[0],), (z,), backwards=True
        )
        return results[0]

    def path_energies(self, x: Tensor) -> PathEnergies:
        """Integrate the penalties of `rnode` along the paths of rows `(N, D)`."""
        x = _at_least_float32(x)
        directions = self._directions(x)
        zeros = x.new_zeros(len(x))

        def change(time: Tensor, state: State) -> State:
            moment = self.velocity(time)
            speed, derivatives = moment(state[0])
            return speed, speed.square().sum(1), _jacobian_norm(moment, derivatives, directions)

        _, kinetic, jacobian = self._solve(change, (x, zeros, zeros))
        return PathEnergies(kinetic, jacobian)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}, method={self.config.method}"

    def _directions(self, x: Tensor) -> Tensor | None:
        """Directions `(P, N or 1, D)` along which traces are estimated; None for exact ones."""
        limit = _EXACT_TRAINING if self.training else _EXACT_EVALUATION
        if self.config.trace == "exact" or (self.config.trace == "auto" and self.features <= limit):
            return None
        if self.training:
            rows = row_keys(x) ^ tensor_key(self.velocity.weights[-1])
            return random_signs(rows, self.features).to(x.dtype)[None]
        return self.probes.to(x.dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator] # the solver's control flow depends on values
    def _solve(
        self, change: Callable[[Tensor, State], State], start: State, *, backwards: bool = False
    ) -> State:
        x, config = start[0], self.config
        if not len(x):  # without rows a solver has no error estimate
            return tuple(tensor.clone() for tensor in start)
        ends = [config.time, 0.0] if backwards else [0.0, config.time]
        equal = config.method in _EQUAL_STEPS
        options: dict[str, Any] = (
            {"step_size": config.time / config.steps} if equal else {"max_num_steps": config.max_steps}
        )
        settings: dict[str, Any] = {
            "method": config.method,
            "rtol": config.rtol,
            "atol": config.atol,
            "options": options,
        }
        solve = odeint
        if config.adjoint and torch.is_grad_enabled():
            solve = odeint_adjoint
            settings["adjoint_params"] = tuple(
                tensor for tensor in self.velocity.parameters() if tensor.requires_grad
            )
        try:
            with torch.autocast(x.device.type, enabled=False):
                path = solve(change, start, torch.tensor(ends, dtype=x.dtype, device=x.device), **settings)
        except AssertionError as error:  # raised by torchdiffeq
            raise RunFailedError(
                f"the solver {config.method} of `ffjord` gave up: {error}",
                hint="lower train.lr, add the regulariser `rnode`, loosen rtol and atol, or take method: rk4",
            ) from error
        return tuple(tensor[-1] for tensor in path)


def _jacobian_trace(moment: Moment, derivatives: list[Tensor], directions: Tensor | None) -> Tensor:
    if directions is None:
        return moment.jacobian(derivatives).diagonal(dim1=1, dim2=2).sum(1)
    results = [
        (moment.pull_back(v.expand(len(derivatives[0]), -1), derivatives) * v).sum(1) for v in directions
    ]
    return torch.stack(results).mean(0)


def _jacobian_norm(moment: Moment, derivatives: list[Tensor], directions: Tensor | None) -> Tensor:
    if directions is None:
        return moment.jacobian(derivatives).square().sum((1, 2))
    results = [
        moment.pull_back(v.expand(len(derivatives[0]), -1), derivatives).square().sum(1) for v in directions
    ]
    return torch.stack(results).mean(0)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def build(config: FfjordConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> Ffjord:
    """Build the flow for rows of `shape` `(D,)`.

    Raises:
        RecipeError: the rows are not vectors.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise RecipeError(f"`ffjord` takes vectors, but a row of this data has the shape {tuple(shape)}")
    return Ffjord(shape[0], config, generator=generator)
