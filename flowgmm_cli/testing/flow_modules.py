"""Checks of flows as modules: weights, state, gradients, copies, devices, compiling."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import SkipTest

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Kind
from flowgmm_cli.testing.check import Finding, check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.surroundings import random_numbers_left_alone, shared_seed
from flowgmm_cli.testing.tensors import (
    autocast_on_meta,
    difference,
    memory_faults,
    same_tensors,
    unregistered_tensors,
)

Shape = tuple[int, ...]


class FlowModuleChecks(Conformance):
    """One half of `FlowConformance`, which documents the attributes."""

    kind: ClassVar[Kind] = "flow"
    dims: ClassVar[tuple[int | Shape, ...]]
    rows: ClassVar[int]
    disturbance: ClassVar[float]
    tolerance: ClassVar[float]
    exact_log_det: ClassVar[bool]
    random_weights: ClassVar[bool]
    random_in_training: ClassVar[bool]
    runs_on_meta: ClassVar[bool]
    compile_backend: ClassVar[str | None]
    interval: ClassVar[tuple[float, float] | None]

    # --- what checks are written with -----------------------------------------------------------------------

    def shapes(self) -> list[Shape]:
        """Shapes of a row, from `dims`."""
        return [(one,) if isinstance(one, int) else tuple(one) for one in self.dims]

    def new(self, shape: Shape, seed: int = 0) -> Any:
        """A fresh flow for rows of a shape, in evaluation mode."""
        flow = self.build(shape=shape, generator=torch.Generator().manual_seed(seed))
        return flow.eval() if isinstance(flow, nn.Module) else flow

    def disturbed(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Any:
        """A fresh flow with noise on every parameter."""
        flow = self.new(shape).to(dtype)
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in flow.parameters():
                if parameter.is_floating_point():
                    drawn = torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                    parameter += (self.disturbance * drawn).to(parameter.dtype)
        return flow

    def draw(
        self, shape: Shape, rows: int | None = None, *, dtype: torch.dtype = torch.float32, seed: int = 2
    ) -> Tensor:
        """Rows `(N, *shape)`: standard normal, or uniform in `interval`."""
        if self.interval is None:
            return self.draw_latents(shape, rows, dtype=dtype, seed=seed).reshape(-1, *shape)
        low, high = self.interval
        size = (self.rows if rows is None else rows, *shape)
        drawn = torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        # the float32 nearest to a number just below `high` may be `high` itself
        return (low + (high - low) * (0.001 + 0.998 * drawn)).to(dtype)

    def draw_latents(
        self, shape: Shape, rows: int | None = None, *, dtype: torch.dtype = torch.float32, seed: int = 2
    ) -> Tensor:
        """Standard normal latents `(N, D)`."""
        size = (self.rows if rows is None else rows, math.prod(shape))
        noise = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return noise.to(dtype)

    def see(self, flow: nn.Module, x: Tensor, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """`flow(x)`; random numbers of layers that draw any come from `seed`."""
        with self._layers_draw(flow, seed):
            found = flow(x)
        if not (isinstance(found, tuple) and len(found) == 2):
            raise Finding(f"forward gives a `{type(found).__name__}`, not a pair `(z, log_det)`")
        z, log_det = found
        return z, log_det

    def undo(self, flow: Any, z: Tensor) -> Tensor:
        """`flow.inverse(z)`, without gradients."""
        with torch.no_grad(), self._layers_draw(flow, 0):
            x: Tensor = flow.inverse(z)
        return x

    @contextmanager
    def _layers_draw(self, flow: nn.Module, seed: int) -> Iterator[None]:
        if self.exact_log_det and not (self.random_in_training and flow.training):
            yield
        else:
            with shared_seed(seed):
                yield

    # --- checks ---------------------------------------------------------------------------------------------

    @check("draw every weight from the `generator` that `build` is given; nn.init.* takes `generator=`")
    def test_same_seed_same_weights(self) -> None:
        """The generator alone decides the weights: the same one gives the same, another one others."""
        for shape in self.shapes():
            with shared_seed(11):
                one = self.new(shape, 5).state_dict()
            with shared_seed(12):
                two = self.new(shape, 5).state_dict()
            size = math.prod(shape)
            expect(same_tensors(one, two), f"D = {size}: one seed gives two different sets of weights")
            if self.random_weights and any(len(value.unique()) > 2 for value in one.values()):
                other = self.new(shape, 6).state_dict()
                expect(not same_tensors(one, other), f"D = {size}: two seeds give the same weights")

    @check("draw from generators that are passed; `torch.Generator` has all it takes")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Neither building nor evaluating draws from, or seeds, the process's random numbers."""
        shape = self.shapes()[-1]
        with random_numbers_left_alone("`build`"):
            flow = self.new(shape)
        if self.exact_log_det:
            with random_numbers_left_alone("`forward` in evaluation mode"), torch.no_grad():
                flow(self.draw(shape))
        with random_numbers_left_alone("`inverse`"), torch.no_grad():
            flow.inverse(self.draw_latents(shape))

    @check("keep nothing between calls: return what is needed, and register constants when building")
    def test_no_state_between_calls(self) -> None:
        """The same rows give the same result, whatever was asked in between; the input stays as it is."""
        for shape in self.shapes():
            size = math.prod(shape)
            flow, x, other = self.disturbed(shape), self.draw(shape), self.draw(shape, seed=3)
            before, first = x.clone(), self.see(flow, x)
            for mode in ("eval", "train"):
                state = {name: one.clone() for name, one in flow.state_dict().items()}
                flow.train(mode == "train")
                self.see(flow, 5 * other)
                changed = [
                    name for name, one in flow.state_dict().items() if not torch.equal(one, state[name])
                ]
                expect(not changed, f"D = {size}: forward in {mode} mode changes {', '.join(changed[:3])}")
            self.undo(flow.eval(), self.draw_latents(shape, 3, seed=4))
            again = self.see(flow, x)
            expect(torch.equal(x, before), f"D = {size}: forward changes its input in place")
            error = max(difference(again[0], first[0]), difference(again[1], first[1]))
            expect(error <= 1e-6, f"D = {size}: the same rows give results that differ by {error:.2g}")
            self.see(flow, other)
            error = difference(self.undo(flow, first[0]), x)
            expect(
                error <= self.tolerance,
                f"D = {size}: inverse is off by {error:.2g} once other rows have been seen",
            )

    @check("let every parameter take part: no detach(), no .data, no parameter that forward does not use")
    def test_gradients_reach_every_parameter(self) -> None:
        """Gradients of z and log_det reach the rows and every parameter, and are finite."""
        silent: dict[str, bool] = {}
        for shape in self.shapes():
            size = math.prod(shape)
            flow, x = self.disturbed(shape).train(), self.draw(shape).requires_grad_()
            z, log_det = self.see(flow, x)
            total: Any = z.square().sum() + z.sum() + log_det.sum()
            total.backward()
            expect(x.grad is not None and x.grad.abs().sum() > 0, f"D = {size}: no gradient reaches the rows")
            expect(x.grad is not None and x.grad.isfinite().all(), f"D = {size}: gradients are not finite")
            for name, parameter in flow.named_parameters():
                if not parameter.requires_grad or not parameter.numel():
                    continue
                expect(parameter.grad is not None, f"D = {size}: no gradient reaches `{name}`")
                finite = parameter.grad is not None and bool(parameter.grad.isfinite().all())
                expect(finite, f"D = {size}: the gradient of `{name}` is not finite")
                zero = parameter.grad is None or not bool(parameter.grad.any())
                silent[name] = silent.get(name, True) and zero
        never = [name for name, always in silent.items() if always]
        expect(not never, f"the gradient of `{never[0] if never else ''}` is zero for every D")

    @check("keep all that the flow is in parameters and buffers, of fixed shapes")
    def test_state_survives_safetensors(self) -> None:
        """Saved to safetensors and loaded into a flow of another seed, it is the same flow."""
        from safetensors.torch import load, save

        for shape in self.shapes():
            flow, x = self.disturbed(shape), self.draw(shape)
            state = {name: one.detach().contiguous().clone() for name, one in flow.state_dict().items()}
            other = self.new(shape, 99)
            other.load_state_dict(load(save(state)))
            same = torch.equal(self.see(flow, x)[0], self.see(other, x)[0])
            expect(same, f"D = {math.prod(shape)}: the loaded flow maps rows elsewhere")
            z = self.draw_latents(shape)
            same = torch.equal(self.undo(flow, z), self.undo(other, z))
            expect(same, f"D = {math.prod(shape)}: the loaded flow's inverse differs")

    @check("register what `.clone()` or `.contiguous()` gives, not a view; tie tensors by the same object")
    def test_state_owns_its_memory(self) -> None:
        """Parameters and buffers are contiguous and no views of each other."""
        for shape in self.shapes():
            faults = memory_faults(dict(self.new(shape).state_dict(keep_vars=True)))
            expect(not faults, "; ".join(faults[:3]))

    @check("register_buffer(name, tensor): then it moves, is saved and is copied with the flow")
    def test_constants_are_buffers(self) -> None:
        """No tensor is kept outside of parameters and buffers."""
        for shape in self.shapes():
            flow = self.new(shape)
            self.see(flow, self.draw(shape))
            held = list(unregistered_tensors(flow))
            expect(
                not held, f"`{held[0] if held else ''}` holds a tensor that is neither parameter nor buffer"
            )

    @check("make tensors with `device=x.device, dtype=x.dtype`, or `x.new_zeros(...)`, or as buffers")
    def test_moves_between_devices(self) -> None:
        """Moved to another device as a whole, it works there; no constant stays behind."""
        if not self.runs_on_meta:
            raise SkipTest("the suite says that it looks at values")
        for shape in self.shapes():
            flow = self.new(shape).to("meta")
            x = self.draw(shape).to("meta")
            with autocast_on_meta():
                z, log_det = self.see(flow, x)
                back = self.undo(flow, z)
            where = {one.device.type for one in (z, log_det, back)}
            expect(where == {"meta"}, f"D = {math.prod(shape)}: results are on {', '.join(sorted(where))}")

    @check("hold no generators, hooks, lambdas or handles that cannot be copied; keep no references outside")
    def test_can_be_copied(self) -> None:
        """copy.deepcopy, which makes the averaged teacher, gives an equal and independent flow."""
        for shape in self.shapes():
            flow, x = self.disturbed(shape), self.draw(shape)
            twin = copy.deepcopy(flow).requires_grad_(False)
            first = self.see(flow, x)[0].detach()
            expect(
                torch.equal(self.see(twin, x)[0], first), f"D = {math.prod(shape)}: the copy is another flow"
            )
            with torch.no_grad():
                for parameter in twin.parameters():
                    parameter += 1
            same = torch.equal(self.see(flow, x)[0].detach(), first)
            expect(same, f"D = {math.prod(shape)}: changing the copy changes the flow")
            trainable = all(one.requires_grad for one in flow.parameters())
            expect(
                trainable or not any(True for _ in flow.parameters()), "freezing the copy freezes the flow"
            )

    @check("let train() and eval() switch what happens in training, such as dropout, and nothing else")
    def test_training_mode(self) -> None:
        """Training mode gives finite values of the right shapes and leaves nothing behind."""
        for shape in self.shapes():
            flow, x = self.disturbed(shape), self.draw(shape)
            before = self.see(flow, x)[0]
            z, log_det = self.see(flow.train(), x)
            size = math.prod(shape)
            expect(z.shape == (self.rows, size), f"D = {size}: z has the shape {tuple(z.shape)} in training")
            expect(bool(z.isfinite().all() and log_det.isfinite().all()), "values in training are not finite")
            if not self.random_in_training:
                error = difference(z, before)
                expect(error <= self.tolerance, f"D = {size}: z in training differs by {error:.2g}")
            after = self.see(flow.eval(), x)[0]
            expect(torch.equal(after, before), f"D = {size}: after training mode the flow is another one")

    @check("avoid `.item()` and data-dependent Python in forward; or set `compile_backend = None`")
    def test_survives_compiling(self) -> None:
        """torch.compile gives the same values and gradients."""
        if self.compile_backend is None:
            raise SkipTest("the suite says that it cannot be compiled")
        shape = next((one for one in self.shapes() if math.prod(one) > 1), self.shapes()[0])
        flow, x = self.disturbed(shape), self.draw(shape)
        want = self.see(flow, x)
        with warnings.catch_warnings():  # torch's own
            warnings.simplefilter("ignore")
            torch._dynamo.reset()
            compiled: Any = torch.compile(flow, backend=self.compile_backend)
            got = self.see(compiled, x)
            total: Any = got[0].square().sum() + got[1].sum()
            total.backward()
            torch._dynamo.reset()
        error = difference(got[0].detach(), want[0].detach())
        expect(error <= self.tolerance, f"the compiled flow's z differs by {error:.2g}")
        if self.exact_log_det:
            error = difference(got[1].detach(), want[1].detach())
            expect(error <= self.tolerance, f"the compiled flow's log_det differs by {error:.2g}")
        found = [one.grad is not None for one in flow.parameters() if one.requires_grad and one.numel()]
        expect(all(found), "gradients of the compiled flow do not reach every parameter")
