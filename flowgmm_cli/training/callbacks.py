"""Progress, notes and interruption of a training; torch is not imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from flowgmm_cli.processes import parent_has_ended, world_size

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True)
class Callbacks:
    """Functions that a run calls.

    Attributes:
        progress: with the steps of a training, all its steps, its title and details.
        note: with a line for the user.
        overall: with the share of all trainings that is done, a description, and the seconds left if they
            are known; the trainings of `progress` are parts of these.
    """

    progress: Callable[[int, int, str, str], None] = lambda done, total, title, detail: None
    note: Callable[[str], None] = lambda text: None
    overall: Callable[[float, str, float | None], None] = lambda share, text, seconds_left: None


class Interrupt:
    """Ctrl-C, SIGTERM, and SIGHUP of a closed terminal.

    The first signal asks the training to save and stop, the second stops at once.

    Within `defer`, a signal only sets `is_requested`; at other times it raises KeyboardInterrupt. As a
    context manager it restores the previous handlers. Outside the main thread it receives no signal, and
    under `nohup` no SIGHUP. `also` is a further reason to save and stop.
    """

    def __init__(self, also: Callable[[], bool] = lambda: False) -> None:
        self._requested = self._deferred = False
        self._also = also
        self._previous: dict[int, Any] = {}

    def is_requested(self) -> bool:
        """Return True if a signal has come, or the launcher of this process has ended."""
        return self._requested or self._also() or parent_has_ended()

    @contextmanager
    def defer(self) -> Iterator[None]:
        """Defer signals in a block that checks `is_requested` often."""
        self._deferred = True
        yield
        self._deferred = False  # after an error signals stay deferred, so that it is printed

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, error_type: object, *error: object) -> None:
        # a launcher stops all processes when one fails, and the main process has yet to print the error
        ignore = error_type is not None and world_size() > 1
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if ignore else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested or not self._deferred:
            raise KeyboardInterrupt
        self._requested = True
