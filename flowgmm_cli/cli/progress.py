"""Progress of long work: live lines on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flowgmm_cli.formatting import format_duration, format_time_left
from flowgmm_cli.messages import escape_controls

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

PLAIN_SECONDS = 5.0
"""Least time between two lines of progress where stderr is no terminal."""

_FIRST_ESTIMATE = 5.0  # seconds of a task before the rest is estimated
_GROWTH = 0.1  # of the time between two lines, by the duration of the task
_LONGEST_SILENCE = 60.0  # seconds between two lines of the whole work
_BAR, _LEAST_BAR = 24, 10  # letters
_GAP = "  "  # also between the details of a task


class Progress:
    """Progress of tasks, and of the whole work that they are parts of; this base class shows nothing."""

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """Report `done` of `total` steps of the task `what` (0 = unknown); `detail` is shown beside it."""

    def overall(self, share: float, what: str, seconds_left: float | None) -> None:
        """Report the share of the whole work that is done; until it is 1, all tasks are parts of it."""


class PlainProgress(Progress):
    """Progress as lines of text, at most one in `every` seconds for each task.

    A task that takes less time prints nothing; a longer one prints a last line when it is done. Whole work
    prints a line for each tenth of it, and its tasks print none.

    Args:
        write: prints a line.
        every: seconds between two lines.
        clock: a clock in seconds.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        every: float = PLAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.write, self.every, self.clock = write, every, clock
        self._tasks: dict[str, _Task] = {}
        self._last: dict[str, float] = {}  # times of the last lines
        self._whole: tuple[float, float, float] | None = None  # times of start and last line, share then

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """See `Progress`."""
        if self._whole:
            return
        now = self.clock()
        task = self._tasks.setdefault(what, _Task(what, now, first=done))
        task.done, task.total = done, total
        last = self._last.setdefault(what, now)
        if 0 < total <= done:  # printed at once; the next task of this name starts afresh
            last = task.started
            del self._tasks[what], self._last[what]
        if now - last < max(self.every, _GROWTH * (last - task.started)):
            return
        if what in self._last:
            self._last[what] = now
        amount = f"{done:,} of {total:,}" if total else f"{done:,}"
        left = task.seconds_to_end(now)
        left_text = "" if left is None else format_time_left(left)
        self.write(_GAP.join(part for part in (what, amount, left_text, detail) if part))

    def overall(self, share: float, what: str, seconds_left: float | None) -> None:
        """See `Progress`."""
        now = self.clock()
        started, last, printed = self._whole or (now, now, 0.0)
        self._whole = started, last, printed
        elapsed = format_duration(int(now - started))
        if share >= 1:
            self._whole = None
            if now - started >= self.every:
                self.write(f"{what}: done in {elapsed}")
        elif now - last >= self.every and (share - printed >= 0.1 or now - last >= _LONGEST_SILENCE):
            self._whole = started, now, share
            left = [] if seconds_left is None else [format_time_left(seconds_left)]
            self.write("; ".join([what, ", ".join([f"{share:.0%} done", f"{elapsed} elapsed", *left])]))


@dataclass
class _Task:
    """The last report of a task, and when it began and ended."""

    title: str
    started: float
    done: float = 0
    total: float = 0
    steps: str = ""
    details: tuple[str, ...] = ()
    first: float = 0  # steps done at the first report
    seconds_left: float | None = None  # of whole work
    ended: float | None = None

    def seconds_to_end(self, now: float) -> float | None:
        """Return the time left, if known or else by the rate of steps; None early or without an end."""
        seconds, steps = now - self.started, self.done - self.first
        is_early = seconds < _FIRST_ESTIMATE or steps <= 0
        if self.seconds_left is not None or is_early or self.done >= self.total:
            return self.seconds_left
        return (self.total - self.done) * seconds / steps


class LiveProgress(Progress):
    """Progress as lines of a terminal, drawn by `rich.live.Live`.

    Whole work has one line, with the time left, and one for the task that runs at present.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._tasks: dict[str, _Task] = {}
        self._whole: _Task | None = None
        self._part: _Task | None = None

    def __call__(self, done: int, total: int, what: str, detail: str = "") -> None:
        """See `Progress`."""
        what, detail = escape_controls(what), escape_controls(detail)
        task = self._part if self._whole else self._tasks.get(what)
        if task is None or task.title != what or done < task.done:
            task = _Task(what, self.clock(), first=done)
        if self._whole:
            self._part = task
        else:
            self._tasks[what] = task
        task.done, task.total = done, total
        task.steps = f"{done:,}/{total:,}" if total else f"{done:,}"
        task.details = tuple(detail.split(_GAP)) if detail else ()
        task.ended = self.clock() if 0 < total <= done else None

    def overall(self, share: float, what: str, seconds_left: float | None) -> None:
        """See `Progress`."""
        what = escape_controls(what)
        if self._whole is None:
            self._whole = self._tasks["overall"] = _Task(what, self.clock(), total=1.0)
        self._whole.title, self._whole.done, self._whole.seconds_left = what, share, seconds_left
        if share >= 1:
            self._whole.ended = self.clock()
            self._whole = self._part = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw a line for each task."""
        width = options.max_width - 2  # the terminal writes ^C behind the last line
        for task in list(self._tasks.values()):
            elapsed = format_duration(int((task.ended or self.clock()) - task.started))
            times = [f"in {elapsed}" if task.ended else f"{elapsed} elapsed"]
            left = task.seconds_to_end(self.clock())
            if left is not None and not task.ended:
                times.insert(0, format_time_left(left))
            fixed, details = [*filter(None, [task.steps]), times[0]], [*times[1:], *task.details]
            yield _draw(task, task.title, fixed, details, width)
        if part := self._part:
            yield _draw(part, f"{_GAP}{part.title}", [part.steps], part.details, width)


def _draw(
    task: _Task, title: str, fixed: Sequence[str], details: Sequence[str], width: int
) -> RenderableType:
    """Draw a task with its bar: details are dropped from the end first, then the bar and the title shrink."""
    from rich.cells import cell_len, set_cell_size
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    room = 0
    for shown in range(len(details), -1, -1):
        parts = [*fixed, *details[:shown]]
        room = width - cell_len(title) - sum(len(_GAP) + cell_len(part) for part in parts) - len(_GAP)
        if room >= _LEAST_BAR:
            break
    else:
        title = set_cell_size(title, max(cell_len(title) + room - _LEAST_BAR - 1, 4)) + "…"
    bar = ProgressBar(task.total or None, task.done, width=max(_LEAST_BAR, min(room, _BAR)))
    grid = Table.grid(padding=(0, len(_GAP), 0, 0))
    for _ in range(2 + len(parts)):
        grid.add_column(no_wrap=True)
    grid.add_row(title, bar, *parts)
    return grid
