"""What the command line writes: answers to stdout, everything else to stderr.

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

    from flowgmm_cli.errors import FlowgmmError

PLAIN_SECONDS = 5.0
"""Without a terminal, progress is one line at most this often."""

_WIDE = 1000  # columns of a pipe or file: never wrap what another program or `less -S` will read


@dataclass
class Settings:
    """What the common flags of the command at hand say."""

    quiet: bool = False
    verbose: bool = False


settings = Settings()


class Report(Protocol):
    """Tells how far long work has come."""

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """`done` of `total` (0 = unknown) steps of `what`; `detail` is shown beside it."""
        ...


@cache
def stdout() -> Console:
    """The console of the answer."""
    return _console(stderr=False)


@cache
def stderr() -> Console:
    """The console of progress, notes, warnings and errors."""
    return _console(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON object to stdout; NaN and infinities, which JSON lacks, become null."""
    sys.stdout.write(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def print_text(text: str) -> None:
    """Print text to stdout as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Print a table to stdout.

    Args:
        columns: headings.
        rows: cells, shown with `str`; None is an empty cell.
        right: headings of columns whose cells are aligned right.
        title: a line above the table.
    """
    from flowgmm_cli.cli.tables import plain_table, rich_table

    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if stdout().is_terminal:
        stdout().print(rich_table(columns, cells, right=right, title=title))
    else:
        print_text("\n".join(plain_table(columns, cells, right=right, title=title)))


def note(text: str) -> None:
    """Tell the user something on stderr; silent with `--quiet`."""
    if not settings.quiet:
        _say("", text, "dim")


def warn(text: str) -> None:
    """Warn on stderr, also with `--quiet`."""
    _say("warning: ", text, "yellow")


def debug(text: str) -> None:
    """Say something that only `--verbose` shows."""
    if settings.verbose:
        _say("", text, "dim")


def show_error(error: FlowgmmError) -> None:
    """Render an error: message, details, then the hint after a blank line."""
    _say("error: ", error.message, "bold red")
    for detail in error.details:
        _say("  ", detail, "")
    if error.hint:
        _say("", "", "")
        _say("hint: ", error.hint, "cyan")


def show_bug(error: BaseException) -> None:
    """Render an error that flowgmm did not foresee."""
    _say("error: ", f"{type(error).__name__}: {error}", "bold red")
    _say("", "", "")
    if not wants_traceback():
        _say("hint: ", "this is a bug in flowgmm; run again with FLOWGMM_TRACEBACK=1 and report it", "cyan")


def show_traceback(error: BaseException) -> None:
    """Print the traceback to stderr if `--verbose` or FLOWGMM_TRACEBACK=1 asks for it."""
    if wants_traceback():
        sys.stderr.write("".join(traceback.format_exception(error)))


def wants_traceback() -> bool:
    """Whether errors come with their traceback."""
    return settings.verbose or os.environ.get("FLOWGMM_TRACEBACK", "") not in ("", "0")


@contextmanager
def progress() -> Iterator[Report]:
    """Show the progress of long work on stderr.

    A bar for each `what` on a terminal; elsewhere one plain line now and then; nothing with `--quiet`.

        with progress() as report:
            report(3, 10, "encode texts")
    """
    if settings.quiet:
        yield lambda done, total, what, detail="": None
    elif _draws_bars():
        with _bars() as report:
            yield report
    else:
        yield PlainProgress()


class PlainProgress:
    """Progress as lines of text, at most one in `every` seconds for each piece of work.

    Work that takes less than that says nothing; longer work has a last line when it is done.

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
        """See `Report`."""
        now = self.clock()
        started = self._started.setdefault(what, now)
        since = self._last.get(what, started)
        self._last[what] = since
        if 0 < total <= done:  # told at once, and the next work of this name begins anew
            since = started
            del self._started[what], self._last[what]
        if now - since < self.every:
            return
        if what in self._last:
            self._last[what] = now
        amount = f"{done:,} of {total:,}" if total else f"{done:,}"
        _say("", "  ".join(part for part in (what, amount, detail) if part), "")


@contextmanager
def _bars() -> Iterator[Report]:
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


def _draws_bars() -> bool:
    off = os.environ.get("FLOWGMM_NO_PROGRESS", "") not in ("", "0") or os.environ.get("TERM") == "dumb"
    return sys.stderr.isatty() and not off


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    wide = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(stderr=stderr, width=wide, highlight=False, markup=False, emoji=False)


def _say(label: str, text: str, style: str) -> None:
    from rich.text import Text

    line = Text(label, style=style) + Text(text, style="" if label else style)
    stderr().print(line, soft_wrap=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
