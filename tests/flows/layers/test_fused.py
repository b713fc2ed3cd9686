"""Networks on oneDNN beside the same networks layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowgmm_cli.flows.layers import conditioner, fused
from flowgmm_cli.flows.layers.conditioner import Conditioner
from flowgmm_cli.flows.layers.fused import fused_dtype, fused_network, product

pytestmark = pytest.mark.skipif(fused._linear is None, reason="this PyTorch has no oneDNN")
DTYPES = [
    pytest.param(torch.float32, id="float32"),
    pytest.param(
        torch.bfloat16,
        id="bfloat16",
        marks=pytest.mark.skipif(not fused.has_bfloat16(), reason="no bfloat16 on this processor"),
    ),
]


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take oneDNN on every processor, and for few rows."""
    monkeypatch.setattr(fused, "onednn_wins", lambda: True)
    monkeypatch.setattr(fused, "_WORTH_IT", 1)
    return iter([None])


def network(inputs: int = 7, outputs: int = 6, *, depth: int = 2, dropout: float = 0.0) -> Conditioner:
    generator = torch.Generator().manual_seed(0)
    net = Conditioner(inputs, outputs, hidden=19, depth=depth, dropout=dropout, generator=generator)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5, generator=generator)
    return net


def rows(n: int = 33, features: int = 7) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(1))


def calls(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The dtypes in which networks of the test are carried out on oneDNN."""
    found: list[torch.dtype] = []

    def spy(x: Tensor, layers: Any, dtype: torch.dtype) -> Tensor:
        found.append(dtype)
        return fused_network(x, layers, dtype)

    monkeypatch.setattr(conditioner, "fused_network", spy)
    return found


def value_and_gradients(net: Conditioner, x: Tensor, *, by_layer: bool, dtype: torch.dtype) -> list[Tensor]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = nn.Sequential.forward(net, x[:, ::1]).float() if by_layer else net(x)  # type: ignore[no-untyped-call]
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *net.parameters()])]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_values_and_gradients_are_those_of_the_layers(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, depth: int
) -> None:
    net, x, found = network(depth=depth), rows(), calls(monkeypatch)
    got = value_and_gradients(net, x, by_layer=False, dtype=dtype)
    assert found == [dtype]
    expected = value_and_gradients(net, x, by_layer=True, dtype=dtype)
    close = 1e-5 if dtype == torch.float32 else 2e-2
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=close, atol=close * float(other.abs().max()))


def test_float32_is_as_exact_as_the_layers() -> None:
    net, x = network(64, 32), rows(200, 64)
    exact = nn.Sequential.forward(net.double(), x.double())  # type: ignore[no-untyped-call]
    net = net.float()
    scale = exact.abs().max()
    assert (net(x) - exact).abs().max() < 2e-6 * scale
    torch.testing.assert_close(product(x, x), (x.double() @ x.double().T).float(), rtol=1e-5, atol=1e-5)


def test_gradients_have_gradients() -> None:
    net, x = network(), rows(5)

    def slope(by_layer: bool) -> list[Tensor]:
        start = x.clone().requires_grad_()
        y = nn.Sequential.forward(net, start) if by_layer else net(start)  # type: ignore[no-untyped-call]
        (first,) = torch.autograd.grad(y.square().sum(), start, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), [start, *net.parameters()]))

    for one, other in zip(slope(False), slope(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("frozen", ["weights", "input"])
def test_only_wanted_gradients_are_made(frozen: str) -> None:
    net, x = network(), rows()
    if frozen == "weights":
        net.requires_grad_(False)
    x.requires_grad_(frozen == "weights")
    net(x).sum().backward()
    assert (x.grad is not None) == (frozen == "weights")
    assert all((one.grad is not None) == (frozen == "input") for one in net.parameters())


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bits_every_time(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        net, x = network(), rows(300)
        first, *others = (value_and_gradients(net, x, by_layer=False, dtype=torch.float32) for _ in range(5))
    finally:
        torch.set_num_threads(before)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_halves_of_rows_need_not_be_contiguous() -> None:
    net, wide = network(), rows(features=20)
    torch.testing.assert_close(net(wide[:, 3:10]), net(wide[:, 3:10].contiguous()), rtol=0, atol=0)


def test_dropout_in_training_and_listeners_see_every_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    found, x = calls(monkeypatch), rows()
    net = network(dropout=0.5)
    net.train()(x)
    assert found == []
    net.eval()(x)
    assert found == [torch.float32]
    seen: list[Tensor] = []
    handle = net[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    net(x)
    assert (len(found), len(seen)) == (1, 1)
    handle.remove()
    net[0] = nn.utils.parametrizations.weight_norm(nn.Linear(7, 19))
    net(x)
    assert len(found) == 1


def test_other_numbers_transforms_and_few_rows_go_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network(), rows()
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    assert fused_dtype(x, layers) == torch.float32
    assert fused_dtype(x.double(), layers) is None
    assert fused_dtype(x.to("meta"), layers) is None
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: net(one[None])[0]))(x)
    assert jacobian.shape == (33, 6, 7)
    with torch.autocast("cpu", dtype=torch.float16):
        assert fused_dtype(x, layers) is None
    monkeypatch.setattr(fused, "_WORTH_IT", 10**6)
    assert fused_dtype(x, layers) is None
    monkeypatch.setattr(fused, "_WORTH_IT", 1)
    monkeypatch.setattr(fused, "onednn_wins", lambda: False)
    assert fused_dtype(x, layers) is None
    torch.testing.assert_close(product(x, x), F.linear(x, x), rtol=0, atol=0)


@pytest.mark.parametrize(("maker", "wins"), [("GenuineIntel", False), ("AuthenticAMD", True)])
def test_the_choice_is_known_from_the_processor(
    monkeypatch: pytest.MonkeyPatch, maker: str, wins: bool
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr("pathlib.Path.exists", lambda self: False)
    monkeypatch.setattr("platform.processor", lambda: f"AMD64 Family 26, {maker}")
    assert fused.onednn_wins.__wrapped__() is wins
