"""Runs the command line in this process, and fake plugins for it to find."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from flowgmm_cli.__main__ import main
from flowgmm_cli.cli import console
from flowgmm_cli.plugins.registry import registry


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Flowgmm = Callable[..., Outcome]


@pytest.fixture
def flowgmm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flowgmm]:
    """Run a command: `flowgmm("recipes", "list").out`."""
    for name in ("FLOWGMM_TRACEBACK", "FLOWGMM_DISABLE_PLUGINS", "FLOWGMM_OFFLINE", "FLOWGMM_RUN"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["flowgmm", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    registry.cache_clear()
    yield run
    registry.cache_clear()
    console.settings.quiet = console.settings.verbose = False
