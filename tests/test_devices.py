from __future__ import annotations

import pytest
import torch

from flowgmm_cli.devices import find_device
from flowgmm_cli.errors import UsageError


@pytest.fixture(autouse=True)
def only_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_an_absent_device_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"run.device={name}") as caught:
        find_device(name)
    assert caught.value.exit_code == 2
    assert "doctor" in str(caught.value.hint)


def test_an_unknown_name_is_a_usage_error() -> None:
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
