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

from flowgmm_cli.testing.checks import expect


@contextmanager
def forbid_global_random_numbers(action: str) -> Iterator[None]:
    """Raise an `AssertionError` if the block draws from or seeds a generator that the process shares."""
    with _restore_generators():
        expected = _draw()
    with _restore_generators():
        yield
        changed = [name for name, number in _draw().items() if number != expected.get(name, number)]
    expect(not changed, f"{action} uses the global random numbers of {' and '.join(changed)}")


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the generators of the whole process inside the block, and restore their state after it."""
    with _restore_generators():
        random.seed(seed)
        np.random.seed(seed)
        if (torch := sys.modules.get("torch")) is not None:
            torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def forbid_network(action: str) -> Iterator[None]:
    """Refuse connections inside the block, and raise an `AssertionError` after an attempt."""
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
            raise AssertionError(f"{action} tries to connect to {attempts[0]}") from error
        raise
    expect(not attempts, f"{action} tries to connect to {', '.join(attempts[:1])}")


@contextmanager
def _restore_generators() -> Iterator[None]:
    torch: Any = sys.modules.get("torch")  # the checks of data need no torch
    states = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])


def _draw() -> dict[str, float]:
    """Draw the next number of each generator."""
    numbers = {"random": random.random(), "numpy": np.random.random()}
    if (torch := sys.modules.get("torch")) is not None:
        numbers["torch"] = float(torch.rand((), dtype=torch.float64))
    return numbers
