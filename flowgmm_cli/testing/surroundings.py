"""Guards around a component at work: the process's random numbers, the network."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from flowgmm_cli.testing.check import Finding, expect


@contextmanager
def random_numbers_left_alone(what: str) -> Iterator[None]:
    """Raise a `Finding` if the block draws from, or seeds, a generator that the whole process shares.

    Args:
        what: what happens in the block, as the subject of a sentence.
    """
    before = _random_states()
    try:
        yield
        changed = [name for name, state in _random_states().items() if state != before.get(name, state)]
    finally:
        _restore(before)
    expect(not changed, f"{what} uses the global random numbers of {' and '.join(changed)}")


@contextmanager
def shared_seed(seed: int) -> Iterator[None]:
    """Seed the generators of the whole process inside the block; afterwards they are as they were."""
    before = _random_states()
    try:
        import_module("random").seed(seed)
        _numpy_random("seed")(seed)
        if (torch := sys.modules.get("torch")) is not None:
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        _restore(before)


@contextmanager
def no_network(what: str) -> Iterator[None]:
    """Refuse connections inside the block, and raise a `Finding` if one was tried.

    Args:
        what: what happens in the block, as the subject of a sentence.
    """
    tried: list[str] = []

    def refuse(place: str) -> OSError:
        tried.append(place)
        return OSError(f"the conformance kit refuses a connection to {place}")

    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise refuse(str(address))
        return originals["connect"](self, address)

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        raise refuse(str(host))

    originals: dict[str, Callable[..., Any]] = {
        "connect": socket.socket.connect,
        "connect_ex": socket.socket.connect_ex,
        "getaddrinfo": socket.getaddrinfo,
    }
    setattr(socket.socket, "connect", connect)  # noqa: B010 - methods are not assigned to
    setattr(socket.socket, "connect_ex", connect)  # noqa: B010
    setattr(socket, "getaddrinfo", look_up)  # noqa: B010
    try:
        yield
    except Exception as error:
        if tried:
            raise Finding(f"{what} tries to connect to {tried[0]}") from error
        raise
    finally:
        setattr(socket.socket, "connect", originals["connect"])  # noqa: B010
        setattr(socket.socket, "connect_ex", originals["connect_ex"])  # noqa: B010
        setattr(socket, "getaddrinfo", originals["getaddrinfo"])  # noqa: B010
    expect(not tried, f"{what} tries to connect to {', '.join(tried[:1])}")


def _random_states() -> dict[str, Any]:
    kind, keys, *rest = _numpy_random("get_state")()
    states: dict[str, Any] = {
        "random": import_module("random").getstate(),
        "numpy": (kind, keys.tobytes(), *rest),
    }
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


def _restore(states: dict[str, Any]) -> None:
    import_module("random").setstate(states["random"])
    kind, keys, *rest = states["numpy"]
    _numpy_random("set_state")((kind, np.frombuffer(keys, np.uint32), *rest))
    if "torch" in states:
        torch = import_module("torch")
        torch.set_rng_state(torch.from_numpy(np.frombuffer(states["torch"], np.uint8).copy()))


def _numpy_random(name: str) -> Callable[..., Any]:
    """A function of NumPy's legacy interface, which works on the generator that the process shares."""
    found: Callable[..., Any] = getattr(np.random, name)
    return found
