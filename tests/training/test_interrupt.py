from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flowgmm_cli.training.callbacks import Interrupt


@contextmanager
def set_handler(number: int, action: signal.Handlers) -> Iterator[None]:
    before = signal.signal(number, action)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_noted_while_deferred_and_the_second_stops_at_once(number: int) -> None:
    # a program that runs the tests may let them ignore the signal, as nohup does
    with set_handler(number, signal.SIG_DFL), Interrupt() as interrupt, interrupt.defer():
        assert not interrupt.is_requested()
        os.kill(os.getpid(), number)
        assert interrupt.is_requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_outside_deferred_work_a_signal_stops_at_once() -> None:
    with Interrupt() as interrupt:
        with interrupt.defer():
            pass
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    with set_handler(signal.SIGHUP, signal.SIG_IGN), Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.is_requested()


def test_previous_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_it_hears_nothing_and_harms_nothing() -> None:
    heard = []

    def work() -> None:
        with Interrupt() as interrupt, interrupt.defer():
            heard.append(interrupt.is_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [False]


def test_after_an_error_a_signal_does_not_hide_it() -> None:
    with Interrupt() as interrupt:
        with pytest.raises(ValueError, match="the error"), interrupt.defer():
            raise ValueError("the error")
        os.kill(os.getpid(), signal.SIGTERM)  # of a launcher, while the error is printed
        assert interrupt.is_requested()


def test_a_failed_process_of_several_ignores_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    previous = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("WORLD_SIZE", "2")
    try:
        with pytest.raises(ValueError, match="the error"), Interrupt():
            raise ValueError("the error")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, previous)
        signal.signal(signal.SIGINT, signal.default_int_handler)
