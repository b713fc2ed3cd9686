"""Ctrl-C and SIGTERM: the first asks training to save and stop, the second stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flowgmm_cli.training.ranks import orphaned

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """While `deferred`, a signal is only noted; elsewhere it raises KeyboardInterrupt.

    As a context manager it puts the previous handlers back. Outside the main thread, where Python has no
    signal handlers, it never hears one.
    """

    def __init__(self) -> None:
        self._requested = False
        self._deferred = False
        self._previous: dict[int, object] = {}

    def requested(self) -> bool:
        """Whether a signal has come, or the program that started this process is gone."""
        return self._requested or orphaned()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Work that asks `requested` often enough to stop by itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._requested or not self._deferred:
            raise KeyboardInterrupt
        self._requested = True
