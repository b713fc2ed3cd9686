"""Write to the terminal: results to stdout, everything else to stderr.

User text is never read as rich markup. Rich is imported on first use only.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from flowgmm_cli.errors import FlowgmmError

PLAIN_SECONDS = 5.0
"""Least time between two lines of progress where stderr is no terminal."""

_PIPE_COLUMNS = 1000  # output to a pipe or file is never wrapped


@dataclass
class Settings:
    """The flags of the current command that every command takes."""

    quiet: bool = False
    verbose: bool = False
    offline: bool = False


settings = Settings()


class Progress(Protocol):
    """Progress the progress of a task."""

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """Progress `done` of `total` steps of the task `what` (0 = unknown); `detail` is shown beside it."""
        ...


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


def print_text(text: str) -> None:
    """Print text to stdout unchanged."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Print a table to stdout, with a line `title` above it; a cell that is None is empty.

    `right` has the headings of columns whose cells are aligned right.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if stdout().is_terminal:
        stdout().print(_rich_table(columns, cells, right, title))
    else:
        print_text("\n".join(([title] if title else []) + plain_table(columns, cells, right=right)))


def plain_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> list[str]:
    """Return lines of aligned columns, never wrapped, without trailing blanks.

    >>> plain_table(["name", "n"], [["a", "5"], ["bb", "12"]], right=["n"])
    ['name   n', 'a      5', 'bb    12']
    """
    from rich.cells import cell_len

    lines = [columns, *rows]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]

    def pad(text: str, index: int) -> str:
        space = " " * (widths[index] - cell_len(text))
        return space + text if columns[index] in right else text + space

    return ["  ".join(pad(text, index) for index, text in enumerate(line)).rstrip() for line in lines]


def _rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], title: str | None
) -> Table:
    """Return a table that folds long cells to the terminal's width; cells are text, not markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    heading = Text(title) if title else None
    table = Table(
        box=box.SIMPLE_HEAD, title=heading, title_justify="left", pad_edge=False, header_style="bold"
    )
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def note(text: str) -> None:
    """Print a note on stderr; silent with `--quiet`."""
    if not settings.quiet:
        _print_line("", text, "dim")


def warn(text: str) -> None:
    """Print a warning on stderr, also with `--quiet`."""
    _print_line("warning: ", text, "yellow")


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
        sys.stderr.write("".join(traceback.format_exception(error)))


def wants_traceback() -> bool:
    """Return True if errors are printed with their traceback."""
    return settings.verbose or os.environ.get("FLOWGMM_TRACEBACK", "") not in ("", "0")


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the progress of long work on stderr.

    Each task has a bar on a terminal and occasional lines of text elsewhere; `--quiet` hides both.

        with progress() as report:
            report(3, 10, "encode texts")
    """
    if settings.quiet:
        yield lambda done, total, what, detail="": None
    elif _uses_bars():
        with _bars() as report:
            yield report
    else:
        yield PlainProgress()


class PlainProgress:
    """Progress as lines of text, at most one in `every` seconds for each task.

    A task that takes less time prints nothing; a longer one prints a last line when it is done.

    Args:
        every: seconds between two lines.
        clock: a clock in seconds.
    """

    def __init__(self, every: float = PLAIN_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.every = every
        self.clock = clock
        self._started: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """See `Progress`."""
        now = self.clock()
        started = self._started.setdefault(what, now)
        since = self._last.get(what, started)
        self._last[what] = since
        if 0 < total <= done:  # printed at once; the next task of this name starts afresh
            since = started
            del self._started[what], self._last[what]
        if now - since < self.every:
            return
        if what in self._last:
            self._last[what] = now
        amount = f"{done:,} of {total:,}" if total else f"{done:,}"
        _print_line("", "  ".join(part for part in (what, amount, detail) if part), "")


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=stderr(), transient=False) as bars:

        def report(done: int, total: int, what: str, detail: str = "") -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(what), total=total or None, detail="")
            bars.update(tasks[what], completed=done, total=total or None, detail=escape(detail))

        yield report


def _uses_bars() -> bool:
    off = os.environ.get("FLOWGMM_NO_PROGRESS", "") not in ("", "0") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not off


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def _print_line(label: str, text: str, style: str) -> None:
    from rich.text import Text

    line = Text(label, style=style) + Text(text, style="" if label else style)
    stderr().print(line, soft_wrap=True)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value
