"""Checks of flows: values, of vectors and of images. Those of a flow as a module are in `flow_modules.py`."""

from __future__ import annotations

import math
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.flow_modules import FlowModuleChecks, Shape
from flowgmm_cli.testing.tensors import expect_close

_jacobian: Any = torch.autograd.functional.jacobian


class FlowConformance(FlowModuleChecks):
    """Checks of a flow.

        class TestMyFlow(FlowConformance):
            name = "my_flow"
            config = {"layers": 2}

    Noise is added to every parameter of the flow first, since many flows are the identity after
    initialisation.

    Attributes:
        dims: lengths of the vectors of the checks, or shapes of rows; one vector has an odd length, one row
            has at most `jacobian_up_to` numbers.
        interval: range of the numbers in a row, such as [0, 1] for pixels; None for standard normal numbers.
        jacobian_up_to: largest D whose whole Jacobian is compared.
        rows: number of rows in the checks.
        disturbance: standard deviation of the noise on the parameters.
        tolerance: largest relative error of a round trip in float32.
        tolerance64: the same in float64.
        log_det_tolerance: largest error of the log-determinant, in nats, in float64.
        exact_log_det: False if the log-determinant is an unbiased random estimate; the mean of
            `log_det_draws` estimates is compared then.
        far: size of features that must still give finite values; the training data have size 1.
        random_weights: True if the initial weights depend on the seed; constant weights are recognised.
        random_in_training: True if it draws random numbers in training mode, like dropout.
        runs_on_meta: True if it runs without values; False if its control flow depends on values, as in an
            adaptive solver.
        compile_backend: backend of `torch.compile`; None for a flow that cannot be compiled.
    """

    def small_shapes(self) -> list[Shape]:
        """List the shapes whose whole Jacobian is compared."""
        return [shape for shape in self.shapes() if math.prod(shape) <= self.jacobian_up_to]

    @check("accept rows of any shape that the spec's `accepts` declares, or remove the shape from `dims`")
    def test_builds_for_every_dimension(self) -> None:
        """It is built for every D in `dims`, also 1 and odd numbers, as an nn.Module with an inverse."""
        expect(self.shapes(), "`dims` is empty")
        for shape in self.shapes():
            flow = self.new_flow(shape)
            expect(isinstance(flow, nn.Module), f"`build` gives a `{type(flow).__name__}`, not an nn.Module")
            expect(hasattr(flow, "inverse") and callable(flow.inverse), "the flow has no method `inverse`")
        vectors = [shape[0] for shape in self.shapes() if len(shape) == 1]
        expect(not vectors or any(size % 2 for size in vectors), "`dims` has no odd length")
        problem = f"`dims` has no length of at most {self.jacobian_up_to}, to compare Jacobians"
        expect(self.small_shapes(), problem)

    @check("return `(z, log_det)` of shapes `(N, D)` and `(N,)` from forward, `(N, *shape)` from inverse")
    def test_shapes(self, shape: Shape) -> None:
        """Forward gives latents (N, D) and log-determinants (N,); inverse gives rows (N, *shape)."""
        self._check_shapes(shape, self.rows)

    @check("support an empty batch: no mean over rows, no `reshape(-1, ...)` without rows")
    def test_no_rows(self, shape: Shape) -> None:
        """An empty batch gives empty latents, log-determinants and rows."""
        self._check_shapes(shape, 0)

    @check("support a batch of one row: no `squeeze()` without a dimension, no statistics of the batch")
    def test_one_row(self, shape: Shape) -> None:
        """A batch of one row gives finite values of the right shapes."""
        self._check_shapes(shape, 1)

    def _check_shapes(self, shape: Shape, rows: int) -> None:
        flow, x = self.noisy_flow(shape), self.draw(shape, rows)
        z, log_det = self.evaluate(flow, x)
        where = f"{rows} rows"
        expect(z.shape == (rows, math.prod(shape)), f"{where}: z has the shape {tuple(z.shape)}")
        expect(log_det.shape == (rows,), f"{where}: log_det has the shape {tuple(log_det.shape)}")
        back = self.invert(flow, z)
        expect(back.shape == x.shape, f"{where}: inverse gives the shape {tuple(back.shape)}")
        _expect_finite(f"{where}: values", z, log_det, back)

    @check("let `inverse` invert `forward` exactly; solve more accurately, or raise and document `tolerance`")
    def test_round_trip(self, shape: Shape) -> None:
        """inverse(forward(x)) = x and forward(inverse(z)) = z, in float32."""
        self._check_round_trip(shape, torch.float32, self.tolerance)

    @check("compute in the input's precision, with no float32 constant; raise `tolerance64` for a solver")
    def test_round_trip_in_float64(self, shape: Shape) -> None:
        """The same in float64, with a smaller tolerance."""
        self._check_round_trip(shape, torch.float64, self.tolerance64)

    def _check_round_trip(self, shape: Shape, dtype: torch.dtype, tolerance: float) -> None:
        flow, x = self.noisy_flow(shape, dtype), self.draw(shape, dtype=dtype)
        z = self.draw_latents(shape, dtype=dtype, seed=7)
        back = self.invert(flow, self.evaluate(flow, x)[0])
        expect_close(back, x, tolerance, "inverse(forward(x)) is off")
        again = self.evaluate(flow, self.invert(flow, z))[0]
        expect_close(again, z, tolerance, "forward(inverse(z)) is off")

    @check("log_det is log|det dz/dx| of each row, in nats: check its sign, and the share of every layer")
    def test_log_det_is_that_of_the_jacobian(self, small_shape: Shape) -> None:
        """The log-determinant is that of autograd's Jacobian, for small D."""
        size, dtype = math.prod(small_shape), torch.float64
        flow, x = self.noisy_flow(small_shape, dtype), self.draw(small_shape, 4, dtype=dtype)
        for mode in ("eval",) if self.exact_log_det else ("eval", "train"):
            log_det, error = self._log_det(flow.train(mode == "train"), x)
            for row, actual, deviation in zip(x, log_det, error, strict=True):
                jacobian = _jacobian(lambda row: self.evaluate(flow, row[None])[0][0], row)
                expected = torch.linalg.slogdet(jacobian.reshape(size, size)).logabsdet
                allowed = self.log_det_tolerance + 5 * float(deviation)
                problem = f"log_det is {actual:.6g}, and the Jacobian's is {expected:.6g}"
                close = bool((actual - expected).abs() <= allowed)
                expect(close, f"{problem} (allowed difference {allowed:.2g})")

    def _log_det(self, flow: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-determinants and their standard errors, which are 0 for exact log-determinants."""
        with torch.no_grad():
            draws = 1 if self.exact_log_det else self.log_det_draws
            log_det = torch.stack([self.evaluate(flow, x, seed=seed)[1] for seed in range(draws)])
        return log_det.mean(0), log_det.std(0, correction=0) / math.sqrt(draws)

    @check("keep the dtype of the input, and compute log_det in float32 at least, also under autocast")
    def test_precision(self) -> None:
        """Results have the input's precision; under bfloat16 autocast log_det is at least float32."""
        shape = self.shapes()[-1]
        for dtype in (torch.float32, torch.float64):
            z, log_det = self.evaluate(self.noisy_flow(shape, dtype), self.draw(shape, dtype=dtype))
            same = z.dtype == log_det.dtype == dtype
            expect(same, f"{dtype} gives z {z.dtype} and log_det {log_det.dtype}")
        flow, x = self.noisy_flow(shape), self.draw(shape)
        with torch.autocast("cpu", torch.bfloat16):
            z, log_det = self.evaluate(flow, x)
        expect(log_det.dtype == torch.float32, f"under autocast log_det is {log_det.dtype}")
        _expect_finite("under autocast values", z, log_det)

    @check("use no statistics of the batch, also in training mode")
    def test_rows_are_independent(self, shape: Shape) -> None:
        """The latents of a row do not depend on the other rows of the batch."""
        flow, x = self.noisy_flow(shape, torch.float64), self.draw(shape, dtype=torch.float64)
        for mode in ("eval",) if self.random_in_training else ("eval", "train"):
            z, log_det = self.evaluate(flow.train(mode == "train"), x)
            single_z, single_log_det = self.evaluate(flow, x[2:3])
            changes = "of a row, evaluated with other rows, changes"
            expect_close(single_z, z[2:3], self.tolerance64, f"{mode} mode: z {changes}")
            if self.exact_log_det:
                allowed = max(self.tolerance64, self.log_det_tolerance)
                expect_close(single_log_det, log_det[2:3], allowed, f"{mode} mode: log_det {changes}")

    @check("bound growth: limit log-scales, use linear tails; or lower `far` and document it")
    def test_far_rows_stay_finite(self, shape: Shape) -> None:
        """Rows far beyond the data give finite latents and log-determinants."""
        flow, x = self.noisy_flow(shape), self.draw(shape)
        _expect_finite(f"latents of features of size {self.far:g}", *self.evaluate(flow, self.far * x))

    @check("let `initialise(x)` set finite values from any rows: few, equal, or with a constant feature")
    def test_start_from_data(self, shape: Shape) -> None:
        """`initialise`, if there is one, works for any rows, also a single row and a constant feature."""
        if not hasattr(self.new_flow(shape), "initialise"):
            raise SkipTest("it has no method `initialise`")
        constant = self.draw(shape, 50)
        constant.reshape(50, -1)[:, 0] = 3.0
        for x in (3 * self.draw(shape, 50) + 5, self.draw(shape, 1), constant):
            flow: Any = self.new_flow(shape)
            flow.initialise(x)
            _expect_finite("values after `initialise`", *self.evaluate(flow, x))


def _expect_finite(subject: str, *tensors: Tensor) -> None:
    expect(all(bool(tensor.isfinite().all()) for tensor in tensors), f"{subject} are not finite")


class ImageFlowConformance(FlowConformance):
    """Checks of a flow of images; its rows are pixels in [0, 1].

    The images have one and three channels and from 4 to 32 pixels a side, some of which can be halved at
    most twice. The whole Jacobian is compared for the smallest image.
    """

    dims = ((1, 4, 4), (3, 8, 8), (1, 16, 8), (1, 28, 28), (3, 32, 32))
    interval = (0.0, 1.0)
    jacobian_up_to = 16


class RealNVPImageConformance(ImageFlowConformance):
    """The suite of `realnvp_image`, small enough to be quick."""

    config: ClassVar = {"checkerboard": 2, "channel": 2, "hidden": 8, "blocks": 1}


class GlowConformance(ImageFlowConformance):
    """The suite of `glow`, small enough to be quick."""

    config: ClassVar = {"steps": 2, "hidden": 8}
