"""Times of contenders in one process, by turns, so that ratios hold on a machine that is not quiet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_TURN = 0.1  # seconds of a turn, at least
_MOST = 20  # repetitions of a turn, at most


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Attributes:
        name: as in the table.
        turn: does its work so many times and returns the seconds each took by the given clock; it may leave
            out what it needs to begin.
    """

    name: str
    turn: Callable[[int, Callable[[], float]], Sequence[float]]


def repeated(name: str, work: Callable[[], object]) -> Contender:
    """A contender whose work is a call, the first of every turn untimed: others have emptied the caches."""

    def turn(times: int, clock: Callable[[], float]) -> list[float]:
        work()
        seconds = []
        for _ in range(times):
            start = clock()
            work()
            seconds.append(clock() - start)
        return seconds

    return Contender(name, turn)


def by_turns(
    contenders: Sequence[Contender], *, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of one piece of work, a median for each contender and round.

    Everyone has one turn a round, in an order that moves on by one each time. One round before them is not
    counted and says how often a piece of work fits into a turn.
    """
    times = {}
    for one in contenders:
        took = min(one.turn(1, clock))
        times[one.name] = max(1, min(_MOST, round(_TURN / max(took, 1e-9))))
    found: dict[str, list[float]] = {one.name: [] for one in contenders}
    for index in range(rounds):
        first = index % len(contenders)
        for one in (*contenders[first:], *contenders[:first]):
            found[one.name].append(statistics.median(one.turn(times[one.name], clock)))
    return found


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))
