"""Times of contenders that alternate in one process, so that ratios hold on a busy machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
_MIN_TURN_SECONDS = 0.1
_MAX_REPETITIONS = 20  # in a turn


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Attributes:
        name: name in the table.
        turn: called with a number and a clock; does the work that often and returns the seconds of each
            repetition, without those of the set-up.
    """

    name: str
    turn: Callable[[int, Callable[[], float]], Sequence[float]]


def repeat(name: str, work: Callable[[], object]) -> Contender:
    """Create a contender that calls `work`; the first call of a turn, with cold caches, is not timed."""

    def turn(times: int, clock: Callable[[], float]) -> list[float]:
        work()
        seconds = []
        for _ in range(times):
            start = clock()
            work()
            seconds.append(clock() - start)
        return seconds

    return Contender(name, turn)


def time_in_rounds(
    contenders: Sequence[Contender], *, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Time all contenders; returns the median seconds of a repetition by contender, one for each round.

    Every contender has one turn in a round, and the order rotates by one from round to round. A first round
    is not counted; it determines the number of repetitions of a turn.
    """
    times = {}
    for contender in contenders:
        duration = min(contender.turn(1, clock))
        times[contender.name] = max(1, min(_MAX_REPETITIONS, round(_MIN_TURN_SECONDS / max(duration, 1e-9))))
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for index in range(rounds):
        first = index % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            seconds[contender.name].append(statistics.median(contender.turn(times[contender.name], clock)))
    return seconds


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))
