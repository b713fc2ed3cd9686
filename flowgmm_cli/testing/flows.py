"""Checks of flows: values. The checks of a flow as a module are in `flow_modules.py`."""

from __future__ import annotations

import itertools
import math
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.flow_modules import FlowModuleChecks
from flowgmm_cli.testing.tensors import difference

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

    @check("accept rows of any shape that the spec's `accepts` declares, or remove the shape from `dims`")
    def test_builds_for_every_dimension(self) -> None:
        """It is built for every D in `dims`, also 1 and odd numbers, as an nn.Module with an inverse."""
        sizes = [math.prod(shape) for shape in self.shapes()]
        expect(sizes, "`dims` is empty")
        for shape in self.shapes():
            flow = self.new_flow(shape)
            expect(isinstance(flow, nn.Module), f"`build` gives a `{type(flow).__name__}`, not an nn.Module")
            expect(hasattr(flow, "inverse") and callable(flow.inverse), "the flow has no method `inverse`")
        vectors = [shape[0] for shape in self.shapes() if len(shape) == 1]
        expect(not vectors or any(size % 2 for size in vectors), "`dims` has no odd length")
        least = self.jacobian_up_to
        expect(min(sizes) <= least, f"`dims` has no length of at most {least}, to compare Jacobians")

    @check("return `(z, log_det)` of shapes `(N, D)` and `(N,)` from forward, `(N, *shape)` from inverse")
    def test_shapes(self) -> None:
        """Forward gives latents (N, D) and log-determinants (N,); inverse gives rows (N, *shape)."""
        for shape in self.shapes():
            self._check_shapes(shape, self.rows)

    @check("support an empty batch: no mean over rows, no `reshape(-1, ...)` without rows")
    def test_no_rows(self) -> None:
        """An empty batch gives empty latents, log-determinants and rows."""
        for shape in self.shapes():
            self._check_shapes(shape, 0)

    @check("support a batch of one row: no `squeeze()` without a dimension, no statistics of the batch")
    def test_one_row(self) -> None:
        """A batch of one row gives finite values of the right shapes."""
        for shape in self.shapes():
            self._check_shapes(shape, 1)

    def _check_shapes(self, shape: tuple[int, ...], rows: int) -> None:
        flow, x = self.noisy_flow(shape), self.draw(shape, rows)
        z, log_det = self.evaluate(flow, x)
        where = f"D = {math.prod(shape)}, {rows} rows"
        expect(z.shape == (rows, math.prod(shape)), f"{where}: z has the shape {tuple(z.shape)}")
        expect(log_det.shape == (rows,), f"{where}: log_det has the shape {tuple(log_det.shape)}")
        back = self.invert(flow, z)
        expect(back.shape == x.shape, f"{where}: inverse gives the shape {tuple(back.shape)}")
        _expect_finite(f"{where}: values", z, log_det, back)

    @check("let `inverse` invert `forward` exactly; solve more accurately, or raise and document `tolerance`")
    def test_round_trip(self) -> None:
        """inverse(forward(x)) = x and forward(inverse(z)) = z, in float32."""
        for shape in self.shapes():
            self._check_round_trip(shape, torch.float32, self.tolerance)

    @check(
        "compute in the precision of the input, with no float32 constant; raise `tolerance64` for a solver"
    )
    def test_round_trip_in_float64(self) -> None:
        """The same in float64, with a smaller tolerance."""
        for shape in self.shapes():
            self._check_round_trip(shape, torch.float64, self.tolerance64)

    def _check_round_trip(self, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
        flow, x = self.noisy_flow(shape, dtype), self.draw(shape, dtype=dtype)
        z = self.draw_latents(shape, dtype=dtype, seed=7)
        where = f"D = {math.prod(shape)}, {str(dtype).removeprefix('torch.')}"
        for name, actual, expected in (
            ("inverse(forward(x))", self.invert(flow, self.evaluate(flow, x)[0]), x),
            ("forward(inverse(z))", self.evaluate(flow, self.invert(flow, z))[0], z),
        ):
            error = difference(actual, expected)
            expect(error <= tolerance, f"{where}: {name} is off by {error:.2g}; {tolerance:g} is allowed")

    @check("log_det is log|det dz/dx| of each row, in nats: check its sign, and the share of every layer")
    def test_log_det_is_that_of_the_jacobian(self) -> None:
        """The log-determinant is that of autograd's Jacobian, for small D."""
        small = [shape for shape in self.shapes() if math.prod(shape) <= self.jacobian_up_to]
        for shape in small:
            flow, x = self.noisy_flow(shape, torch.float64), self.draw(shape, 4, dtype=torch.float64)
            for mode in ("eval",) if self.exact_log_det else ("eval", "train"):
                flow.train(mode == "train")
                log_det, error = self._log_det(flow, x)
                size = math.prod(shape)
                for index in range(len(x)):
                    jacobian = _jacobian(
                        lambda row: self.evaluate(flow, row[None])[0][0],  # noqa: B023 - called at once
                        x[index],
                    ).reshape(size, size)
                    expected = float(torch.linalg.slogdet(jacobian).logabsdet)
                    actual, allowed = float(log_det[index]), self.log_det_tolerance + 5 * float(error[index])
                    expect(
                        abs(actual - expected) <= allowed,
                        f"D = {size}: log_det is {actual:.6g}, and the Jacobian's is {expected:.6g} "
                        f"(allowed difference {allowed:.2g})",
                    )

    def _log_det(self, flow: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-determinants and their standard errors, which are 0 for exact log-determinants."""
        with torch.no_grad():
            if self.exact_log_det:
                log_det = self.evaluate(flow, x)[1]
                return log_det, torch.zeros_like(log_det)
            estimates = [self.evaluate(flow, x, seed=index)[1] for index in range(self.log_det_draws)]
        stacked = torch.stack(estimates)
        return stacked.mean(0), stacked.std(0) / math.sqrt(len(stacked))

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
    def test_rows_are_independent(self) -> None:
        """The latents of a row do not depend on the other rows of the batch."""
        modes = ("eval",) if self.random_in_training else ("eval", "train")
        for shape, mode in itertools.product(self.shapes(), modes):
            flow, x = self.noisy_flow(shape, torch.float64), self.draw(shape, dtype=torch.float64)
            z, log_det = self.evaluate(flow.train(mode == "train"), x)
            single_z, single_log_det = self.evaluate(flow, x[2:3])
            where = f"D = {math.prod(shape)}, {mode} mode"
            error = difference(single_z, z[2:3])
            expect(error <= self.tolerance64, f"{where}: z of a row changes by {error:.2g} with other rows")
            if self.exact_log_det:
                error = difference(single_log_det, log_det[2:3])
                allowed = max(self.tolerance64, self.log_det_tolerance)
                expect(error <= allowed, f"{where}: log_det of a row changes by {error:.2g} with other rows")

    @check("bound growth: limit log-scales, use linear tails; or lower `far` and document it")
    def test_far_rows_stay_finite(self) -> None:
        """Rows far beyond the data give finite latents and log-determinants."""
        for flow, x, _, where in self.cases():
            z, log_det = self.evaluate(flow, self.far * x)
            for name, values in (("z", z), ("log_det", log_det)):
                finite = bool(values.isfinite().all())
                expect(finite, f"{where}, features of size {self.far:g}: {name} is not finite")

    @check("let `initialise(x)` set finite values from any rows: few, equal, or with a constant feature")
    def test_start_from_data(self) -> None:
        """`initialise`, if there is one, works for any rows, also a single row and a constant feature."""
        if not hasattr(self.new_flow(self.shapes()[0]), "initialise"):
            raise SkipTest("it has no method `initialise`")
        for shape in self.shapes():
            constant = self.draw(shape, 50)
            constant.reshape(50, -1)[:, 0] = 3.0
            for x in (3 * self.draw(shape, 50) + 5, self.draw(shape, 1), constant):
                flow: Any = self.new_flow(shape)
                flow.initialise(x)
                _expect_finite(f"D = {math.prod(shape)}: values after `initialise`", *self.evaluate(flow, x))


def _expect_finite(subject: str, *tensors: Tensor) -> None:
    expect(all(bool(tensor.isfinite().all()) for tensor in tensors), f"{subject} are not finite")
