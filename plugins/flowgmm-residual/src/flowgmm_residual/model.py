r"""Residual flows (Behrmann et al., 2019; Chen et al., 2019).

A block maps :math:`z = x + g(x)` with :math:`\mathrm{Lip}(g) < 1`, so that it can be undone, and

.. math:: \log \left| \det \frac{\partial z}{\partial x} \right| = \mathrm{tr} \log (I + J_g)
          = \sum_{k \ge 1} \frac{(-1)^{k+1}}{k} \, \mathrm{tr}(J_g^k)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.api import RecipeError, RunFailedError
from flowgmm_residual.lipschitz import LipschitzNetwork
from flowgmm_residual.noise import mix, random_signs, row_keys, tensor_key, uniform
from flowgmm_residual.plugin import ResidualConfig

_EXACT_TRAINING = 8  # features up to which the Jacobian costs little more than the series
_EXACT_EVALUATION = 64
_ROWS = 1024  # whose Jacobians are held at once


class ResidualBlock(nn.Module):
    """One block `x + g(x)`.

    Args:
        features: D.
        config: sizes, and how the log-determinant is found.
        generator: seeds the weights, on the CPU.
    """

    probes: Tensor

    def __init__(self, features: int, config: ResidualConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.network = LipschitzNetwork(
            features,
            hidden=config.hidden,
            depth=config.depth,
            bound=config.lipschitz,
            generator=generator,
        )
        random_signs = torch.randint(0, 2, (config.eval_probes, features), generator=generator)
        self.register_buffer("probes", 2.0 * random_signs - 1)

    def forward(self, x: Tensor, noise: tuple[Tensor, int] | None = None) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to `(N, D)` and the log-determinant `(N,)`.

        Args:
            x: rows.
            noise: keys of the rows and the key of the number of terms, where the log-determinant is estimated
                anew (`estimates`).
        """
        weights = self.network.weights()
        y, derivatives = self.network(x, weights)
        if noise is not None:
            return x + y, self._roulette(noise, weights, derivatives)
        if self._exact():
            return x + y, self._exact_log_det(weights, derivatives)
        return x + y, self._series(weights, derivatives)

    def estimates(self) -> bool:
        """Return whether the log-determinant is an estimate that needs noise."""
        return self.training and not self._exact()

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward` by the iteration `x = z - g(x)`.

        Raises:
            RunFailedError: it does not converge within `max_iterations`, or `z` is not finite.
        """
        config = self.config
        weights = self.network.weights()
        tolerance = config.tolerance or 16 * torch.finfo(z.dtype).eps
        x, change = z, float("inf")
        moved: Tensor
        for _ in range(config.max_iterations):
            y, _ = self.network(x, weights)
            moved = z - y
            size = 1 + moved.detach().abs().amax(1)
            change = float(((moved - x).detach().abs().amax(1) / size).amax())
            x = moved
            if change <= tolerance:
                return x
            if change != change:
                raise RunFailedError("a residual block cannot be undone: a latent is not a finite number")
        raise RunFailedError(
            f"a residual block is not undone after {config.max_iterations} steps: rows still move by "
            f"{change:.1e} of their size, and {tolerance:.1e} is the tolerance",
            hint="raise `max_iterations` or `tolerance`, or train with a `lipschitz` below "
            f"{config.lipschitz}",
        )

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}, lipschitz={self.config.lipschitz}"

    def _exact(self) -> bool:
        if self.config.log_det == "auto":
            return self.features <= (_EXACT_TRAINING if self.training else _EXACT_EVALUATION)
        return self.config.log_det == "exact"

    def _exact_log_det(self, weights: list[Tensor], derivatives: list[Tensor]) -> Tensor:
        parts = []
        for part in zip(*(torch.split(derivative, _ROWS) for derivative in derivatives), strict=True):
            jacobian = self.network.jacobian(weights, list(part))
            eye = torch.eye(self.features, dtype=jacobian.dtype, device=jacobian.device)
            parts.append(torch.linalg.slogdet(eye + jacobian).logabsdet)
        return torch.cat(parts)

    @torch.compiler.disable  # type: ignore[untyped-decorator] # the number of terms differs between calls
    def _roulette(
        self, noise: tuple[Tensor, int], weights: list[Tensor], derivatives: list[Tensor]
    ) -> Tensor:
        """Unbiased: Hutchinson's traces, the series cut off at random (Chen et al., 2019, theorem 1)."""
        config = self.config
        rows, number = noise
        draw, reached, more = uniform(number), 1.0, 0
        while draw < reached:  # the first further term always, each other with probability `continuation`
            more += 1
            reached *= config.continuation
        v = random_signs(rows, self.features).to(derivatives[0].dtype)
        total, w = v.new_zeros(len(v)), v
        factor = 1.0
        for k in range(1, config.exact_terms + more + 1):
            if k > config.exact_terms + 1:
                factor /= config.continuation
            w = self.network.pull_back(w, weights, derivatives)
            total = total - (-1) ** k * factor / k * (w * v).sum(1)
        return total

    def _series(self, weights: list[Tensor], derivatives: list[Tensor]) -> Tensor:
        """A long series with directions that are the same for every row and every call."""
        total = derivatives[0].new_zeros(len(derivatives[0]))
        for probe in self.probes.to(total.dtype):
            v = probe.expand(len(total), -1)
            w = v
            for k in range(1, self.config.eval_terms + 1):
                w = self.network.pull_back(w, weights, derivatives)
                total = total - (-1) ** k / k * (w * v).sum(1)
        return total / len(self.probes)


class ScaleShift(nn.Module):
    """Scale and shift of each feature; `initialise` makes it standardise rows (Kingma and Dhariwal, 2018)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to `(N, D)` and the log-determinant `(N,)`."""
        return (x + self.shift) * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return z * torch.exp(-self.log_scale) - self.shift

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set scale and shift from rows `(N, D)`; a feature without spread keeps its scale."""
        deviation = x.std(0, correction=0)
        deviation = torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
        self.shift.copy_(-x.mean(0))
        self.log_scale.copy_(-deviation.log())


class ResidualFlow(nn.Module):
    """Residual blocks, each after a scale and shift where `actnorm` says so.

    Args:
        features: D.
        config: all sizes.
        generator: seeds the weights, on the CPU.
    """

    def __init__(self, features: int, config: ResidualConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(config.blocks):
            if config.actnorm:
                self.layers.append(ScaleShift(features))
            self.layers.append(ResidualBlock(features, config, generator))
        if config.actnorm:
            self.layers.append(ScaleShift(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`, at least float32."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        total = x.new_zeros(len(x))
        with torch.autocast(x.device.type, enabled=False):
            noise = self._noise(x)
            for layer in self.layers:
                x, log_det = (
                    layer(x, noise.pop(0)) if noise and isinstance(layer, ResidualBlock) else layer(x)
                )
                total = total + log_det
        return x, total

    def _noise(self, x: Tensor) -> list[tuple[Tensor, int]]:
        """Return the keys of the noise of each block's estimate; an empty list for exact log-determinants."""
        blocks = [layer for layer in self.layers if isinstance(layer, ResidualBlock)]
        if not blocks[0].estimates():
            return []
        rows = row_keys(x)
        own = torch.stack([mix(tensor_key(block.network.matrices[-1]) + n) for n, block in enumerate(blocks)])
        return [(rows ^ block_key, number) for block_key, number in zip(own, own.tolist(), strict=True)]

    def inverse(self, z: Tensor) -> Tensor:
        """Map latents `(N, D)` back to rows `(N, D)`. Raises `RunFailedError` where it cannot."""
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if not len(z):
            return z.clone()
        with torch.autocast(z.device.type, enabled=False):
            for layer in reversed(self.layers):
                z = layer.inverse(z)  # type: ignore[operator]
        return z

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Let every scale and shift start from rows `(N, D)`; without any this does nothing."""
        for layer in self.layers:
            if isinstance(layer, ScaleShift):
                layer.initialise(x)
            x, _ = layer(x)


def build(config: ResidualConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> ResidualFlow:
    """Build the flow for rows of `shape` `(D,)`.

    Raises:
        RecipeError: the rows are not vectors.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise RecipeError(f"`residual` takes vectors, but a row of this data has the shape {tuple(shape)}")
    return ResidualFlow(shape[0], config, generator=generator)
