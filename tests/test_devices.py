from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli import devices
from flowgmm_cli.devices import Engine, allow_tf32, create_engine, deterministic, find_device
from flowgmm_cli.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_an_absent_or_unknown_device_is_a_usage_error() -> None:
    for name in ("cuda", "mps"):
        with pytest.raises(UsageError, match=f"run.device={name}") as caught:
            find_device(name)
        assert "doctor" in str(caught.value.hint)
    with pytest.raises(UsageError, match="--device gpu is no device: take auto, cpu or cuda"):
        find_device("gpu", option="--device ", names=("auto", "cpu", "cuda"))


def test_auto_takes_the_first_available_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert find_device("auto") == torch.device("mps")
    assert find_device("auto", names=("auto", "cpu", "cuda")) == torch.device("cpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert find_device("auto") == torch.device("cuda")


def test_each_process_of_a_launcher_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device("cuda") == torch.device("cuda", 1)


# --- precision and threads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "pays", "features", "expected"),
    [
        ("fp32", True, 64, "fp32"),
        ("bf16", False, 2, "bf16"),
        ("auto", True, 64, "bf16"),
        ("auto", False, 64, "fp32"),
        ("auto", True, 2, "fp32"),
    ],
)
def test_auto_takes_bf16_where_it_pays_and_vectors_are_not_short(
    monkeypatch: pytest.MonkeyPatch, precision: str, pays: bool, features: int, expected: str
) -> None:
    monkeypatch.setattr(devices, "bf16_is_faster", lambda device: pays)
    assert create_engine(device="cpu", precision=precision, features=features).precision == expected


def test_bf16_must_be_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.25, 1.0, 1.5, 1.0])
    monkeypatch.setattr(devices, "_best_time", lambda a, b: next(times))
    assert not devices.bf16_is_faster(CPU)
    assert devices.bf16_is_faster(CPU)
    assert not devices.bf16_is_faster(torch.device("mps"))


def test_bf16_is_compared_with_the_products_that_networks_take(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.dtype, int]] = []
    monkeypatch.setattr(torch, "mm", lambda a, b: seen.append((a.dtype, torch.get_num_threads())))
    threads = torch.get_num_threads()
    devices.bf16_is_faster(CPU)
    assert set(seen) == {(torch.float32, 1), (torch.bfloat16, 1)}
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("device", "flops", "variable", "threads"),
    [("cpu", 1.0, None, 1), ("cpu", 1e12, None, 3), ("cpu", 1.0, "3", 3), ("cuda", 1.0, None, 3)],
)
def test_small_steps_on_a_cpu_use_one_thread_unless_the_environment_decides(
    device: str, flops: float, variable: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with devices.limit_threads(Engine(torch.device(device), "fp32"), flops):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_autocast_is_on_for_bf16_alone() -> None:
    a = torch.ones(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with Engine(CPU, precision).autocast():  # type: ignore[arg-type]
            assert (a @ a).dtype == dtype
    assert Engine(CPU, "bf16").describe() == "cpu, bf16"


@pytest.mark.parametrize("on", [True, False])
def test_determinism_is_put_back_even_after_an_error(on: bool) -> None:
    memory: Any = torch.utils.deterministic
    before, fills = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory

    def fail() -> None:
        with deterministic(on):
            assert torch.are_deterministic_algorithms_enabled() is on
            assert memory.fill_uninitialized_memory is (fills and not on)  # it would cost and change nothing
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.are_deterministic_algorithms_enabled() is before
    assert memory.fill_uninitialized_memory is fills


def test_products_are_rounded_on_gpus_only_and_only_inside() -> None:
    before = torch.get_float32_matmul_precision()
    gpu, cpu = (Engine(torch.device(name), "fp32") for name in ("cuda", "cpu"))
    for where, on, inside in ((gpu, True, "high"), (gpu, False, before), (cpu, True, before)):
        with allow_tf32(where, on):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == before
