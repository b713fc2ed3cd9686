from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from flowgmm_cli.cli import output
from flowgmm_cli.cli.progress import PlainProgress
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import escape_controls


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Consoles and settings of this test's own."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(output, "settings", output.Settings())
    for console in (output.stdout, output.stderr):
        console.cache_clear()
    yield
    for console in (output.stdout, output.stderr):
        console.cache_clear()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"ü": (1, None)}})
    out = capsys.readouterr().out
    assert json.loads(out) == {"a": None, "b": [None, 1.5], "c": {"ü": [1, None]}}
    assert "ü" in out


def test_a_table_in_a_pipe_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["name", "n"], [["x" * 200, 5], ["[red]y", None], ["語", 12]], right=["n"], title="T")
    assert capsys.readouterr().out.splitlines() == [
        "T",
        "name" + " " * 196 + "   n",
        "x" * 200 + "   5",
        "[red]y",
        "語" + " " * 198 + "  12",
    ]


def test_a_table_on_a_terminal_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    output.print_table(["name", "n"], [["word " * 20, 5], ["[red]y", None]], title="T")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert max(len(line) for line in lines) <= 40
    assert any("[red]y" in line for line in lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_control_characters_are_shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    streams = {name: Terminal() if terminal else io.StringIO() for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    for name, value in {"TERM": "xterm", "NO_COLOR": "1", "FLOWGMM_TRACEBACK": "1"}.items():
        monkeypatch.setenv(name, value)
    bad, shown = "a\x1b]0;t\x07\r\nb\u202e", r"a\x1b]0;t\x07\r\nb\u202e"
    error = DataError(bad, details=[bad], hint=bad)
    with output.progress() as report:
        report(0, 2, bad, bad)
        report(2, 2, bad, bad)
    output.print_table([bad], [[bad]], right=[bad], title=bad)
    output.print_text(bad, bad)
    output.note(bad)
    output.warn(bad, [bad])
    output.print_error(error)
    output.print_bug(error)
    output.print_traceback(error)
    for name, count in {"stdout": 5, "stderr": 7}.items():
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", streams[name].getvalue())  # rich's own
        assert text.count(shown) >= count
        assert escape_controls(text, keep="\n") == text


def test_text_for_programs_is_exact_unless_a_terminal_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((io.StringIO(), "a\x1b[2J\n\tb\n"), (Terminal(), "a\\x1b[2J\n\tb\n")):
        monkeypatch.setattr(sys, "stdout", stream)
        output.print_exact("a\x1b[2J\n\tb")
        assert stream.getvalue() == shown


def test_comments_of_a_recipe_are_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "26")
    monkeypatch.setenv("TERM", "xterm")
    wrapped = "a: [1, 2, 3]  # one\n              # comment\nb: a long value without a comment\n"
    for stream, shown in ((io.StringIO(), wrapped.replace("\n              #", "")), (Terminal(), wrapped)):
        output.stdout.cache_clear()
        monkeypatch.setattr(sys, "stdout", stream)
        output.print_yaml("a: [1, 2, 3]  # one comment\nb: a long value without a comment\n")
        assert stream.getvalue() == shown


def test_quiet_silences_notes_but_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    output.settings.quiet = True
    output.note("a note")
    output.warn("a [b]warning[/b]")
    output.debug("detail")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: a [b]warning[/b]\n")


@pytest.mark.parametrize("variable", ["NO_COLOR", None])
def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch, variable: str | None) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if variable:
        monkeypatch.setenv(variable, "1")
    output.warn("careful")
    assert ("\x1b[33m" in stream.getvalue()) is (variable is None)
    assert "careful" in stream.getvalue()


def test_progress_off_a_terminal_is_plain_or_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as report:
        assert isinstance(report, PlainProgress)
    output.settings.quiet = True
    with output.progress() as report:
        report(1, 1, "x")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def terminal_progress(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[Any, str]:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in {"TERM": "xterm", "COLUMNS": "120", **environ}.items():
        monkeypatch.setenv(name, value)
    with output.progress() as report:
        report(3, 10, "encode [x]", "a [bold] detail")
        report(10, 10, "encode [x]", "done")
        output.note("meanwhile")
    return report, stream.getvalue()


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    report, text = terminal_progress(monkeypatch)
    assert not isinstance(report, PlainProgress)
    assert "encode [x]" in text
    assert "10/10" in text
    assert "meanwhile" in text


@pytest.mark.parametrize("environ", [{"FLOWGMM_NO_PROGRESS": "1"}, {"TERM": "dumb"}])
def test_bars_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    report, _ = terminal_progress(monkeypatch, **environ)
    assert isinstance(report, PlainProgress)
