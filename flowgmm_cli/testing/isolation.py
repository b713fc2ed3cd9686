"""Guards around a component at work: the process's random numbers, the network."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from flowgmm_cli.testing.checks import Finding, expect


@contextmanager
def forbid_global_random_numbers(action: str) -> Iterator[None]:
    """Raise a `Finding` if the block draws from, or seeds, a generator that the whole process shares."""
    before = _random_states()
    try:
        yield
        changed = [name for name, state in _random_states().items() if state != before.get(name, state)]
    finally:
        _restore(before)
    expect(not changed, f"{action} uses the global random numbers of {' and '.join(changed)}")


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the generators of the whole process inside the block, and restore their state after it."""
    before = _random_states()
    try:
        random.seed(seed)
        np.random.seed(seed)
        if (torch := sys.modules.get("torch")) is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        _restore(before)


@contextmanager
def forbid_network(action: str) -> Iterator[None]:
    """Refuse connections inside the block, and raise a `Finding` after an attempt."""
    attempts: list[str] = []
    connect = socket.socket.connect

    def refuse(place: Any, *args: Any, **kwargs: Any) -> Any:
        attempts.append(str(place))
        raise OSError(f"the conformance kit refuses a connection to {place}")

    def refuse_internet(self: socket.socket, address: Any) -> Any:
        return refuse(address) if self.family in (socket.AF_INET, socket.AF_INET6) else connect(self, address)

    try:
        with (
            mock.patch.object(socket.socket, "connect", refuse_internet),
            mock.patch.object(socket.socket, "connect_ex", refuse_internet),
            mock.patch.object(socket, "getaddrinfo", refuse),
        ):
            yield
    except Exception as error:
        if attempts:
            raise Finding(f"{action} tries to connect to {attempts[0]}") from error
        raise
    expect(not attempts, f"{action} tries to connect to {', '.join(attempts[:1])}")


def _random_states() -> dict[str, Any]:
    state: Any = np.random.get_state()
    kind, keys, *position = state
    states: dict[str, Any] = {"random": random.getstate(), "numpy": (kind, keys.tobytes(), *position)}
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


def _restore(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    kind, keys, *position = states["numpy"]
    np.random.set_state((kind, np.frombuffer(keys, np.uint32), *position))
    if "torch" in states:
        torch: Any = sys.modules["torch"]
        torch.set_rng_state(torch.from_numpy(np.frombuffer(states["torch"], np.uint8).copy()))
