"""Checks of flows as modules: weights, state, gradients, copies, devices, compiling."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Kind
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.isolation import global_seed
from flowgmm_cli.testing.tensors import autocast_on_meta, diff_tensors, expect_close, find_unregistered

Shape = tuple[int, ...]


class FlowModuleChecks(Conformance):
    """One half of `FlowConformance`, which documents the attributes."""

    kind: ClassVar[Kind] = "flow"
    dims: ClassVar[tuple[int | Shape, ...]] = (1, 2, 7, 64)
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

    # --- helpers of the checks ------------------------------------------------------------------------------

    def shapes(self) -> list[Shape]:
        """List the shapes of a row, from `dims`; a check with a `shape` runs for each."""
        return [(dim,) if isinstance(dim, int) else tuple(dim) for dim in self.dims]

    def case_name(self, case: Shape) -> str:
        """Name a shape."""
        return f"D={math.prod(case)}"

    def new_flow(self, shape: Shape, seed: int = 0) -> Any:
        """Build a flow for rows of a shape, in evaluation mode."""
        flow = self.build(shape=shape, generator=torch.Generator().manual_seed(seed))
        return flow.eval() if isinstance(flow, nn.Module) else flow

    def noisy_flow(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
        """Build a flow with noise on every parameter."""
        flow = self.new_flow(shape).to(dtype)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in flow.parameters():
                if parameter.is_floating_point():
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter += (self.disturbance * noise).to(parameter.dtype)
        return flow

    def draw(
        self, shape: Shape, rows: int | None = None, *, dtype: torch.dtype = torch.float32, seed: int = 2
    ) -> Tensor:
        """Draw rows `(N, *shape)`: standard normal, or uniform in `interval`."""
        if self.interval is None:
            return self.draw_latents(shape, rows, dtype=dtype, seed=seed).reshape(-1, *shape)
        low, high = self.interval
        size = (self.rows if rows is None else rows, *shape)
        uniform = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        # in float32 a number just below `high` may be rounded to `high`
        return (low + (high - low) * (0.001 + 0.998 * uniform)).to(dtype)

    def draw_latents(
        self, shape: Shape, rows: int | None = None, *, dtype: torch.dtype = torch.float32, seed: int = 2
    ) -> Tensor:
        """Draw standard normal latents `(N, D)`."""
        size = (self.rows if rows is None else rows, math.prod(shape))
        noise = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return noise.to(dtype)

    def evaluate(self, flow: nn.Module, x: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return `flow(x)`; the random numbers of its layers come from `seed`."""
        with self._seed_layers(flow, seed):
            result = flow(x)
        valid = isinstance(result, tuple) and len(result) == 2
        expect(valid, f"forward gives a `{type(result).__name__}`, not a pair `(z, log_det)`")
        z, log_det = result
        return z, log_det

    def invert(self, flow: Any, z: Tensor) -> Tensor:
        """Return `flow.inverse(z)`, without gradients."""
        with torch.no_grad(), self._seed_layers(flow, 0):
            x: Tensor = flow.inverse(z)
        return x

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return building, `forward` and `inverse`."""
        shape = self.shapes()[-1]
        flow, x, z = self.new_flow(shape), self.draw(shape), self.draw_latents(shape)
        actions = {"`build`": lambda: self.new_flow(shape), "`inverse`": lambda: flow.inverse(z)}
        return actions | ({"`forward` in evaluation mode": lambda: flow(x)} if self.exact_log_det else {})

    def _seed_layers(self, flow: nn.Module, seed: int) -> AbstractContextManager[None]:
        random = not self.exact_log_det or (self.random_in_training and flow.training)
        return global_seed(seed) if random else nullcontext()

    # --- checks ---------------------------------------------------------------------------------------------

    @check("draw every weight from the `generator` that `build` is given; nn.init.* takes `generator=`")
    def test_same_seed_same_weights(self, shape: Shape) -> None:
        """Equal seeds of the generator give equal weights, and different seeds different weights."""
        with global_seed(11):
            state = self.new_flow(shape, 5).state_dict()
        with global_seed(12):
            again = self.new_flow(shape, 5).state_dict()
        expect(not diff_tensors(state, again), "equal seeds give different weights")
        if self.random_weights and any(len(value.unique()) > 2 for value in state.values()):
            other = self.new_flow(shape, 6).state_dict()
            expect(diff_tensors(state, other), "two seeds give the same weights")

    @check("keep no state between calls: return all results, and register constants when building")
    def test_no_state_between_calls(self, shape: Shape) -> None:
        """The same rows give the same result, also after other calls; the input is not changed."""
        flow, x, other = self.noisy_flow(shape), self.draw(shape), self.draw(shape, seed=3)
        before, first = x.clone(), self.evaluate(flow, x)
        for mode in ("eval", "train"):
            state = copy.deepcopy(flow.state_dict())
            self.evaluate(flow.train(mode == "train"), 5 * other)
            changed = diff_tensors(flow.state_dict(), state)
            expect(not changed, f"forward in {mode} mode changes {', '.join(changed[:3])}")
        self.invert(flow.eval(), self.draw_latents(shape, 3, seed=4))
        again = self.evaluate(flow, x)
        expect(torch.equal(x, before), "forward changes its input in place")
        for actual, expected in zip(again, first, strict=True):
            expect_close(actual, expected, 1e-6, "a second result for the same rows differs")
        self.evaluate(flow, other)
        expect_close(self.invert(flow, first[0]), x, self.tolerance, "after other rows inverse is off")

    @check("use every parameter: no detach(), no .data, no parameter that forward does not use")
    def test_gradients_reach_every_parameter(self) -> None:
        """Gradients of z and log_det reach the rows and every parameter, and are finite."""
        always_zero: dict[str, bool] = {}
        for shape in self.shapes():
            flow, x, where = self.noisy_flow(shape).train(), self.draw(shape), self.case_name(shape)
            z, log_det = self.evaluate(flow, x.requires_grad_())
            torch.autograd.backward(z.square().sum() + z.sum() + log_det.sum())
            expect(x.grad is not None and x.grad.abs().sum() > 0, f"{where}: no gradient reaches the rows")
            expect(x.grad is not None and x.grad.isfinite().all(), f"{where}: gradients are not finite")
            for name, parameter in flow.named_parameters():
                if not parameter.requires_grad or not parameter.numel():
                    continue
                grad: Any = parameter.grad
                expect(grad is not None, f"{where}: no gradient reaches `{name}`")
                expect(grad.isfinite().all(), f"{where}: the gradient of `{name}` is not finite")
                always_zero[name] = always_zero.get(name, True) and not grad.any()
        unused = [name for name, zero in always_zero.items() if zero]
        expect(not unused, f"the gradient of `{', '.join(unused)}` is zero for every D")

    @check("keep the whole state of the flow in parameters and buffers, of fixed shapes")
    def test_state_survives_safetensors(self, shape: Shape) -> None:
        """Saved to safetensors and loaded into a flow of another seed, it gives the same values."""
        from safetensors.torch import load, save

        flow, x, z = self.noisy_flow(shape), self.draw(shape), self.draw_latents(shape)
        other = self.new_flow(shape, 99)
        other.load_state_dict(load(save({n: t.contiguous().clone() for n, t in flow.state_dict().items()})))
        same = torch.equal(self.evaluate(flow, x)[0], self.evaluate(other, x)[0])
        expect(same, "the loaded flow gives other latents")
        expect(torch.equal(self.invert(flow, z), self.invert(other, z)), "the loaded flow's inverse differs")

    @check("register `.clone()` or `.contiguous()` tensors, not views; tie tensors by the same object")
    def test_state_owns_its_memory(self, shape: Shape) -> None:
        """Parameters and buffers are contiguous and not views of each other."""
        for name, tensor in self.new_flow(shape).state_dict().items():
            expect(tensor.is_contiguous(), f"`{name}` is not contiguous")
            whole = tensor.untyped_storage().nbytes() == tensor.nbytes
            expect(whole, f"`{name}` is a view of the memory of a larger tensor")

    @check("register_buffer(name, tensor): then it moves, is saved and is copied with the flow")
    def test_constants_are_buffers(self, shape: Shape) -> None:
        """No tensor is kept outside of parameters and buffers."""
        flow = self.new_flow(shape)
        self.evaluate(flow, self.draw(shape))
        names = ", ".join(find_unregistered(flow))
        expect(not names, f"`{names}` holds a tensor that is neither parameter nor buffer")

    @check("create tensors with `device=x.device, dtype=x.dtype`, or `x.new_zeros(...)`, or as buffers")
    def test_moves_between_devices(self, shape: Shape) -> None:
        """After a move to another device it works there; no constant stays on the old one."""
        if not self.runs_on_meta:
            raise SkipTest("the suite declares that the flow reads values")
        flow = self.new_flow(shape).to("meta")
        with autocast_on_meta():
            z, log_det = self.evaluate(flow, self.draw(shape).to("meta"))
            devices = {tensor.device.type for tensor in (z, log_det, self.invert(flow, z))}
        expect(devices == {"meta"}, f"results are on {', '.join(sorted(devices))}")

    @check("hold no generators, hooks, lambdas or handles that cannot be copied; keep no outside references")
    def test_can_be_copied(self, shape: Shape) -> None:
        """copy.deepcopy, which makes the averaged teacher, gives an equal and independent flow."""
        flow, x = self.noisy_flow(shape), self.draw(shape)
        twin = copy.deepcopy(flow).requires_grad_(False)
        z = self.evaluate(flow, x)[0].detach()
        expect(torch.equal(self.evaluate(twin, x)[0], z), "the copy is another flow")
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter += 1
        expect(torch.equal(self.evaluate(flow, x)[0].detach(), z), "changing the copy changes the flow")
        trainable = all(parameter.requires_grad for parameter in flow.parameters())
        expect(trainable, "freezing the copy freezes the flow")

    @check("let train() and eval() switch training behaviour, such as dropout, and nothing else")
    def test_training_mode(self, shape: Shape) -> None:
        """Training mode gives finite values of the right shapes and changes no state."""
        flow, x = self.noisy_flow(shape), self.draw(shape)
        before = self.evaluate(flow, x)[0]
        z, log_det = self.evaluate(flow.train(), x)
        expect(z.shape == before.shape, f"z has the shape {tuple(z.shape)} in training")
        expect(bool(z.isfinite().all() and log_det.isfinite().all()), "values in training are not finite")
        if not self.random_in_training:
            expect_close(z, before, self.tolerance, "z in training differs")
        after = self.evaluate(flow.eval(), x)[0]
        expect(torch.equal(after, before), "after training mode the flow is another one")

    @check("avoid `.item()` and data-dependent Python in forward; or set `compile_backend = None`")
    def test_survives_compiling(self) -> None:
        """torch.compile gives the same values and gradients."""
        if self.compile_backend is None:
            raise SkipTest("the suite declares that the flow cannot be compiled")
        shape = next((shape for shape in self.shapes() if math.prod(shape) > 1), self.shapes()[0])
        flow, x = self.noisy_flow(shape), self.draw(shape)
        expected_z, expected_log_det = self.evaluate(flow, x)
        with warnings.catch_warnings(action="ignore"):  # torch's own
            torch._dynamo.reset()
            compiled: Any = torch.compile(flow, backend=self.compile_backend)
            z, log_det = self.evaluate(compiled, x)
            torch.autograd.backward(z.square().sum() + log_det.sum())
            torch._dynamo.reset()
        expect_close(z, expected_z, self.tolerance, "the compiled flow's z differs")
        if self.exact_log_det:
            expect_close(log_det, expected_log_det, self.tolerance, "the compiled flow's log_det differs")
        trained = (part for part in flow.parameters() if part.requires_grad and part.numel())
        complete = all(parameter.grad is not None for parameter in trained)
        expect(complete, "gradients of the compiled flow do not reach every parameter")
