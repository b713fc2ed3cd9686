"""ReLU networks on oneDNN, gradients included: nearly all that a coupling costs on a CPU.

PyTorch takes float32 products on x86 from MKL, which does not make full use of processors that are not
Intel's. oneDNN, the library of PyTorch's bfloat16 products, does: on an AMD EPYC (Zen 5) it is 2.2 times as
fast, to the same precision. Bias and ReLU cost nothing beside a product there, and one node of the graph for
a whole network leaves little to do between products.

PyTorch has no public function for such a product. Where the private one is not found, on other devices, and
under whatever looks into single layers (hooks, compilers, `torch.func`), a network runs layer by layer.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowgmm_cli.nodes import differentiable, unwatched

_linear: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
_WORTH_IT = 2**19  # multiplications; below them the call costs more than it saves


def fused_dtype(x: Tensor, layers: Sequence[nn.Linear]) -> torch.dtype | None:
    """In which dtype oneDNN should carry out a network for rows `x` `(N, inputs)`; None = it should not."""
    if _linear is None or not unwatched(x) or x.device.type != "cpu" or x.dtype != torch.float32:
        return None
    if len(x) * sum(layer.weight.numel() for layer in layers) < _WORTH_IT:
        return None
    if any(layer.weight.dtype != torch.float32 or layer.bias is None for layer in layers):
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if onednn_wins() else None
    fast = torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16()
    return torch.bfloat16 if fast else None


def fused_network(x: Tensor, layers: Sequence[nn.Linear], dtype: torch.dtype) -> Tensor:
    """The layers with a ReLU after each but the last: `(N, inputs)` to `(N, outputs)`, float32.

    Args:
        x: rows, float32.
        layers: with bias, float32.
        dtype: of the products, as `fused_dtype` says.
    """
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    if not torch.is_grad_enabled():  # what a node of the graph costs is a tenth of a small network
        return _through(x, [parameter.to(dtype) for parameter in parameters])[0]
    out: Tensor = _Network.apply(x, dtype, *parameters)  # type: ignore[no-untyped-call]
    return out


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T` as a network on a CPU takes it, in the dtype of both."""
    if _linear is None or (x.dtype == torch.float32 and not onednn_wins()):
        return F.linear(x, weight)
    found: Tensor = _linear(x, weight, None, "none", [], "")
    return found


@cache
def onednn_wins() -> bool:
    """Whether float32 products are better taken from oneDNN here.

    Known from the processor, not measured: a seed gives the same bits in every run on a machine.
    """
    backends: Any = torch.backends
    both = bool(backends.mkl.is_available() and backends.mkldnn.is_available())
    return both and torch.backends.cpu.get_cpu_capability() == "AVX512" and not _intel()


@cache
def has_bfloat16() -> bool:
    """Whether oneDNN has bfloat16 products on this processor."""
    backends: Any = torch.backends
    return bool(backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _intel() -> bool:
    facts = Path("/proc/cpuinfo")
    return "GenuineIntel" in (facts.read_text() if facts.exists() else platform.processor())


def _through(x: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What the network puts out, in float32, and what each of its layers is given."""
    weights, biases = parameters[::2], parameters[1::2]
    inputs = [x.to(weights[0].dtype).contiguous()]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append(_linear(inputs[-1], weight, bias, "relu", [], ""))
    out: Tensor = _linear(inputs[-1], weights[-1], biases[-1], "none", [], "")
    return out.to(torch.float32), inputs


class _Network(torch.autograd.Function):
    """See `fused_network`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        cast = [parameter.detach().to(dtype) for parameter in parameters]
        out, inputs = _through(x.detach(), cast)
        ctx.dtype, ctx.depth = dtype, len(inputs)
        ctx.save_for_backward(x, *parameters, *inputs, *cast[::2])
        return out

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        dtype, depth = ctx.dtype, ctx.depth
        x, saved = ctx.saved_tensors[0], ctx.saved_tensors[1:]
        parameters, inputs, weights = saved[: 2 * depth], saved[2 * depth : 3 * depth], saved[3 * depth :]
        needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # this gradient is to have a gradient
            once = differentiable(
                partial(_layers, dtype=dtype), (x, *parameters), slopes, (needed[0], *needed[2:])
            )
            return (once[0], None, *once[1:])
        found: list[Tensor | None] = [None] * (2 * depth)
        slope = slopes[0].to(dtype).contiguous()
        for index in reversed(range(depth)):
            if needed[2 + 2 * index]:
                found[2 * index] = _weight_gradient(slope, inputs[index]).to(torch.float32)
            if needed[3 + 2 * index]:
                found[2 * index + 1] = slope.sum(0).to(torch.float32)
            if index:
                slope = _linear(slope, weights[index].T, None, "none", [], "")
                torch.ops.aten.threshold_backward.grad_input(slope, inputs[index], 0, grad_input=slope)
        first = _linear(slope, weights[0].T, None, "none", [], "").to(torch.float32) if needed[0] else None
        return (first, None, *found)


def _weight_gradient(slope: Tensor, x: Tensor) -> Tensor:
    """`slope.T @ x`; both ways lead to oneDNN for bfloat16, and PyTorch's own is the faster one."""
    if slope.dtype == torch.bfloat16:
        return torch.mm(slope.T, x)
    found: Tensor = _linear(slope.T, x.T, None, "none", [], "")
    return found


def _layers(x: Tensor, *parameters: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """What the network puts out, by PyTorch's own layers."""
    out = x
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        for index in range(0, len(parameters), 2):
            out = F.linear(F.relu(out) if index else out, parameters[index], parameters[index + 1])
    return [out.to(torch.float32)]
