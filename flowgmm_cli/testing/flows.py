"""Checks of flows: values. What concerns a flow as a module is in `flow_modules.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal
from unittest import SkipTest

import torch
from torch import Tensor, nn

from flowgmm_cli.testing.check import check, expect
from flowgmm_cli.testing.flow_modules import FlowModuleChecks
from flowgmm_cli.testing.tensors import difference

_jacobian: Any = torch.autograd.functional.jacobian


class FlowConformance(FlowModuleChecks):
    """What holds for every flow.

        class TestMyFlow(FlowConformance):
            name = "my_flow"
            config = {"layers": 2}

    The flow is checked away from its start: noise is added to every parameter, so that a flow which starts as
    the identity is not checked as the identity.

    Attributes:
        dims: lengths of the vectors it is checked with, or shapes of rows; one vector is of an odd length,
            one row has at most `jacobian_up_to` numbers.
        interval: where the numbers of a row lie, as pixels do in [0, 1]; None for standard normal ones.
        jacobian_up_to: largest D of which the whole Jacobian is compared.
        rows: number of rows it is checked with.
        disturbance: standard deviation of the noise on the parameters.
        tolerance: largest relative error of a round trip in float32.
        tolerance64: the same in float64.
        log_det_tolerance: largest error of the log-determinant, in nats, in float64.
        exact_log_det: False for a log-determinant that is an unbiased estimate, drawn anew in each call; it
            is then compared with the mean of `log_det_draws` draws.
        far: how large the features are that must still give finite values; the data it was fitted to are
            of size 1.
        random_weights: whether its weights are drawn, so that another seed gives others; weights that are all
            equal need no saying.
        random_in_training: whether it draws random numbers in training mode, as dropout does.
        runs_on_meta: whether it can be carried out without values; False where it looks at values to decide
            what to do next, as an adaptive solver does.
        compile_backend: backend of `torch.compile`; None for a flow that cannot be compiled.
    """

    dims: ClassVar[tuple[int | tuple[int, ...], ...]] = (1, 2, 7, 64)
    interval: ClassVar[tuple[float, float] | None] = None
    jacobian_up_to: ClassVar[int] = 6
    rows: ClassVar[int] = 6
    disturbance: ClassVar[float] = 0.05
    tolerance: ClassVar[float] = 1e-4
    tolerance64: ClassVar[float] = 1e-8
    log_det_tolerance: ClassVar[float] = 1e-6
    exact_log_det: ClassVar[bool] = True
    log_det_draws: ClassVar[int] = 400
    far: ClassVar[float] = 100.0
    random_weights: ClassVar[bool] = True
    random_in_training: ClassVar[bool] = False
    runs_on_meta: ClassVar[bool] = True
    compile_backend: ClassVar[str | None] = "aot_eager"

    @check("accept rows of any length that the spec's `accepts` promises, or take the length out of `dims`")
    def test_builds_for_every_dimension(self) -> None:
        """It is built for every D in `dims`, odd ones and 1 included, as an nn.Module with an inverse."""
        sizes = [math.prod(shape) for shape in self.shapes()]
        expect(sizes, "`dims` is empty")
        for shape in self.shapes():
            flow = self.new(shape)
            expect(isinstance(flow, nn.Module), f"`build` gives a `{type(flow).__name__}`, not an nn.Module")
            expect(callable(getattr(flow, "inverse", None)), "the flow has no method `inverse`")
        vectors = [shape[0] for shape in self.shapes() if len(shape) == 1]
        expect(not vectors or any(size % 2 for size in vectors), "`dims` has no odd length")
        least = self.jacobian_up_to
        expect(min(sizes) <= least, f"`dims` has no length of at most {least}, to compare Jacobians")

    @check("return `(z, log_det)` of shapes `(N, D)` and `(N,)` from forward, `(N, *shape)` from inverse")
    def test_shapes(self) -> None:
        """Forward gives latents (N, D) and log-determinants (N,); inverse gives rows (N, *shape)."""
        for shape in self.shapes():
            self._shapes(shape, self.rows)

    @check("let an empty batch through: no mean over rows, no `reshape(-1, ...)` of nothing")
    def test_no_rows(self) -> None:
        """A batch of no rows gives no latents, no log-determinants and no rows."""
        for shape in self.shapes():
            self._shapes(shape, 0)

    @check("treat one row as any other: no `squeeze()` without a dimension, no statistics of the batch")
    def test_one_row(self) -> None:
        """A batch of one row gives what the row gives among others."""
        for shape in self.shapes():
            self._shapes(shape, 1)

    def _shapes(self, shape: tuple[int, ...], rows: int) -> None:
        flow, x = self.disturbed(shape), self.draw(shape, rows)
        z, log_det = self.see(flow, x)
        where = f"D = {math.prod(shape)}, {rows} rows"
        expect(z.shape == (rows, math.prod(shape)), f"{where}: z has the shape {tuple(z.shape)}")
        expect(log_det.shape == (rows,), f"{where}: log_det has the shape {tuple(log_det.shape)}")
        back = self.undo(flow, z)
        expect(back.shape == x.shape, f"{where}: inverse gives the shape {tuple(back.shape)}")
        finite = bool(z.isfinite().all() and log_det.isfinite().all() and back.isfinite().all())
        expect(finite, f"{where}: values are not finite")

    @check("let `inverse` undo `forward` exactly; solve more accurately, or raise `tolerance` and say so")
    def test_round_trip(self) -> None:
        """inverse(forward(x)) = x and forward(inverse(z)) = z, in float32."""
        for shape in self.shapes():
            self._round_trip(shape, torch.float32, self.tolerance)

    @check(
        "compute in the precision of the input, with no float32 constant; raise `tolerance64` for a solver"
    )
    def test_round_trip_in_float64(self) -> None:
        """The same in float64, much more exactly."""
        for shape in self.shapes():
            self._round_trip(shape, torch.float64, self.tolerance64)

    def _round_trip(self, shape: tuple[int, ...], dtype: torch.dtype, tolerance: float) -> None:
        flow, x = self.disturbed(shape, dtype), self.draw(shape, dtype=dtype)
        other = self.draw_latents(shape, dtype=dtype, seed=7)
        z = self.see(flow, x)[0]
        again = self.see(flow, self.undo(flow, other))[0]
        where = f"D = {math.prod(shape)}, {str(dtype).removeprefix('torch.')}"
        for what, got, want in (
            ("inverse(forward(x))", self.undo(flow, z), x),
            ("forward(inverse(z))", again, other),
        ):
            error = difference(got, want)
            expect(
                error <= tolerance,
                f"{where}: {what} is off by {error:.2g}, more than the {tolerance:g} that is allowed",
            )

    @check(
        "log_det is log|det dz/dx| of each row, in nats: check its sign, and that every layer adds its part"
    )
    def test_log_det_is_that_of_the_jacobian(self) -> None:
        """The log-determinant is that of autograd's Jacobian, where D is small."""
        small = [shape for shape in self.shapes() if math.prod(shape) <= self.jacobian_up_to]
        for shape in small:
            flow, x = self.disturbed(shape, torch.float64), self.draw(shape, 4, dtype=torch.float64)
            for mode in ("eval",) if self.exact_log_det else ("eval", "train"):
                flow.train(mode == "train")
                log_det, error = self._log_det(flow, x)
                size = math.prod(shape)
                for index in range(len(x)):
                    jacobian = _jacobian(
                        lambda row: self.see(flow, row[None])[0][0],  # noqa: B023 - called at once
                        x[index],
                    ).reshape(size, size)
                    want = float(torch.linalg.slogdet(jacobian).logabsdet)
                    got, allowed = float(log_det[index]), self.log_det_tolerance + 5 * float(error[index])
                    expect(
                        abs(got - want) <= allowed,
                        f"D = {size}: log_det is {got:.6g} where the Jacobian's is {want:.6g} "
                        f"(allowed difference {allowed:.2g})",
                    )

    def _log_det(self, flow: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-determinants and their standard errors, which are 0 for exact ones."""
        with torch.no_grad():
            if self.exact_log_det:
                log_det = self.see(flow, x)[1]
                return log_det, torch.zeros_like(log_det)
            draws = [self.see(flow, x, seed=index)[1] for index in range(self.log_det_draws)]
        seen = torch.stack(draws)
        return seen.mean(0), seen.std(0) / math.sqrt(len(seen))

    @check("keep the dtype of the input, and compute log_det in float32 at least, also under autocast")
    def test_precision(self) -> None:
        """Results have the input's precision; under bfloat16 autocast log_det is at least float32."""
        shape = self.shapes()[-1]
        for dtype in (torch.float32, torch.float64):
            z, log_det = self.see(self.disturbed(shape, dtype), self.draw(shape, dtype=dtype))
            expect(
                z.dtype == log_det.dtype == dtype, f"{dtype} gives z {z.dtype} and log_det {log_det.dtype}"
            )
        flow, x = self.disturbed(shape), self.draw(shape)
        with torch.autocast("cpu", torch.bfloat16):
            z, log_det = self.see(flow, x)
        expect(log_det.dtype == torch.float32, f"under autocast log_det is {log_det.dtype}")
        expect(bool(z.isfinite().all() and log_det.isfinite().all()), "under autocast values are not finite")

    @check("map each row by itself: no statistics of the batch, in training mode neither")
    def test_rows_are_independent(self) -> None:
        """What a row is mapped to does not depend on the rows beside it."""
        modes: list[Literal["eval", "train"]] = ["eval"] if self.random_in_training else ["eval", "train"]
        for shape, mode in self._each(modes):
            flow, x = (
                self.disturbed(shape, torch.float64).train(mode == "train"),
                self.draw(shape, dtype=torch.float64),
            )
            z, log_det = self.see(flow, x)
            alone, own = self.see(flow, x[2:3])
            where = f"D = {math.prod(shape)}, {mode} mode"
            error = difference(alone, z[2:3])
            expect(error <= self.tolerance64, f"{where}: z of a row changes by {error:.2g} beside other rows")
            if self.exact_log_det:
                error = difference(own, log_det[2:3])
                allowed = max(self.tolerance64, self.log_det_tolerance)
                expect(error <= allowed, f"{where}: log_det of a row changes by {error:.2g} beside others")

    def _each(self, modes: list[Literal["eval", "train"]]) -> Iterator[tuple[tuple[int, ...], str]]:
        return ((shape, mode) for shape in self.shapes() for mode in modes)

    @check("bound what grows: limit log-scales, use linear tails; or lower `far` and say so in the docs")
    def test_far_rows_stay_finite(self) -> None:
        """Rows far beyond the data give finite latents and log-determinants."""
        for shape in self.shapes():
            flow, x = self.disturbed(shape), self.far * self.draw(shape)
            z, log_det = self.see(flow, x)
            where = f"D = {math.prod(shape)}, features of size {self.far:g}"
            expect(bool(z.isfinite().all()), f"{where}: z is not finite")
            expect(bool(log_det.isfinite().all()), f"{where}: log_det is not finite")

    @check("let `initialise(x)` set finite values from any rows: few, equal, or one feature constant")
    def test_start_from_data(self) -> None:
        """A flow with `initialise` starts from rows well, also from one row and from a constant feature."""
        if not hasattr(self.new(self.shapes()[0]), "initialise"):
            raise SkipTest("it has no method `initialise`")
        for shape in self.shapes():
            constant = self.draw(shape, 50)
            constant.reshape(50, -1)[:, 0] = 3.0
            for x in (3 * self.draw(shape, 50) + 5, self.draw(shape, 1), constant):
                flow: Any = self.new(shape)
                flow.initialise(x)
                z, log_det = self.see(flow, x)
                finite = bool(z.isfinite().all() and log_det.isfinite().all())
                expect(finite, f"D = {math.prod(shape)}: values after `initialise` are not finite")
