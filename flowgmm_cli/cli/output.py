"""Write to the terminal: results to stdout, everything else to stderr.

User text is never read as rich markup, and its control characters are shown, not obeyed. Rich is imported on
first use only.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flowgmm_cli.cli.layout import fits, format_table, wrap
from flowgmm_cli.cli.progress import LiveProgress, PlainProgress, Progress
from flowgmm_cli.messages import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

    from flowgmm_cli.errors import FlowgmmError

_PIPE_COLUMNS = 1000  # output to a pipe or file is never wrapped


@dataclass
class Settings:
    """The flags of the current command that every command takes."""

    quiet: bool = False
    verbose: bool = False
    offline: bool = False


settings = Settings()


@cache
def stdout() -> Console:
    """Return the console of results."""
    return _console(stderr=False)


@cache
def stderr() -> Console:
    """Return the console of progress, notes, warnings and errors."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON object to stdout; NaN and infinities, which JSON lacks, become null."""
    sys.stdout.write(json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_text(*lines: str) -> None:
    """Print lines of text to stdout, wrapped at words on a terminal."""
    shown = list(map(escape_controls, lines))
    if sys.stdout.isatty():
        shown = [part for line in shown for part in wrap(line, stdout().width)]
    sys.stdout.write("".join(f"{line}\n" for line in shown))


def print_exact(text: str) -> None:
    """Print text for other programs, such as a path, to stdout; a terminal gets no control characters."""
    text = text if text.endswith("\n") else f"{text}\n"
    sys.stdout.write(escape_controls(text, keep="\n\t") if sys.stdout.isatty() else text)


def print_yaml(text: str) -> None:
    """Print a piece of a recipe to stdout; on a terminal, the comments behind its values are wrapped."""
    lines = text.splitlines()
    if sys.stdout.isatty():
        width = stdout().width
        margins = [line.find("  # ") for line in lines]
        parts = [
            [line] if margin < 0 else wrap(line, width, indent=f"{' ' * margin}  # ")
            for line, margin in zip(lines, margins, strict=True)
        ]
        lines = [line for part in parts for line in part]
    print_exact("\n".join(lines))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
    optional: Sequence[str] = (),
) -> None:
    """Print a table to stdout, with a line `title` above it; a cell that is None is empty.

    `right` has the headings of columns whose cells are aligned right. `optional` has those that a narrow
    terminal does not show, the first of them first; a pipe gets all columns, which are never wrapped.
    """
    from rich.text import Text

    cells = [["" if cell is None else escape_controls(str(cell)) for cell in row] for row in rows]
    columns, right, optional = [list(map(escape_controls, names)) for names in (columns, right, optional)]
    title = title and escape_controls(title)
    width = stdout().width if stdout().is_terminal else None
    dropped = []
    for name in optional:
        if width is not None and not fits(columns, cells, right=right, width=width):
            index = columns.index(name)
            dropped.append(columns.pop(index))
            cells = [[*row[:index], *row[index + 1 :]] for row in cells]
    heading, lines = format_table(columns, cells, right=right, width=width)
    if title:
        heading = [*wrap(title, width or sys.maxsize), *heading]
    if width is None:
        print_text(*heading, *lines)
        return
    for line, style in [*((line, "bold") for line in heading), *((line, "") for line in lines)]:
        stdout().print(Text(line, style), soft_wrap=True)
    if dropped:
        note(f"a wider terminal also shows {', '.join(dropped)}")


def note(text: str) -> None:
    """Print a note on stderr; silent with `--quiet`."""
    if not settings.quiet:
        _print_line("", text, "dim")


def warn(text: str, details: Sequence[str] = ()) -> None:
    """Print a warning on stderr, also with `--quiet`, and its details, one a line."""
    _print_line("warning: ", text, "yellow")
    for detail in details:
        _print_line("  ", detail, "")


def debug(text: str) -> None:
    """Print a note that only `--verbose` shows."""
    if settings.verbose:
        _print_line("", text, "dim")


def print_error(error: FlowgmmError) -> None:
    """Print an error: message, details, then the hint after a blank line."""
    _print_line("error: ", error.message, "bold red")
    for detail in error.details:
        _print_line("  ", detail, "")
    if error.hint:
        _print_line("", "", "")
        _print_line("hint: ", error.hint, "cyan")


def print_bug(error: BaseException) -> None:
    """Print an unexpected error, which is a bug in flowgmm."""
    _print_line("error: ", f"{type(error).__name__}: {error}", "bold red")
    _print_line("", "", "")
    if not wants_traceback():
        hint = "this is a bug in flowgmm; run again with FLOWGMM_TRACEBACK=1 and report it"
        _print_line("hint: ", hint, "cyan")


def print_traceback(error: BaseException) -> None:
    """Print the traceback to stderr if `--verbose` or FLOWGMM_TRACEBACK=1 asks for it."""
    if wants_traceback():
        sys.stderr.write(escape_controls("".join(traceback.format_exception(error)), keep="\n"))


def wants_traceback() -> bool:
    """Return True if errors are printed with their traceback."""
    return settings.verbose or os.environ.get("FLOWGMM_TRACEBACK", "") not in ("", "0")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the progress of long work on stderr.

    On a terminal the lines are live, elsewhere they are a few lines of text; `--quiet` hides both.

        with progress() as report:
            report(3, 10, "encode texts")
    """
    bars_off = os.environ.get("FLOWGMM_NO_PROGRESS", "") not in ("", "0") or os.environ.get("TERM") == "dumb"
    if settings.quiet:
        yield Progress()
    elif sys.stderr.isatty() and not bars_off:
        from rich.live import Live

        live = LiveProgress()
        with Live(get_renderable=lambda: live, console=stderr()):
            yield live
    else:
        yield PlainProgress(lambda line: _print_line("", line, ""))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _print_line(label: str, text: str, style: str) -> None:
    from rich.text import Text

    whole = label + escape_controls(text)
    if stderr().is_terminal:
        margin = " " * len(label) if label.strip() else None
        whole = "\n".join(wrap(whole, stderr().width, indent=margin))
    line = Text(whole[: len(label)], style=style) + Text(whole[len(label) :], style="" if label else style)
    stderr().print(line, soft_wrap=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
