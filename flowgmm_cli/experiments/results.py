"""What the finished runs of a study found, as rows, csv and spreads over seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.experiments.points import Setting

OURS = "flowgmm"
METRICS = ("accuracy", "balanced_accuracy", "nll", "ece", "seconds")


@dataclass(frozen=True)
class Result:
    """What one run found.

    Attributes:
        settings: of its group.
        seed: of the run.
        run: the run directory, relative to the study's folder.
        methods: metrics by method; `flowgmm` first, then baselines.
        criterion: name of the metric that chose the best epoch, and its value there.
    """

    settings: Mapping[str, Setting]
    seed: int
    run: str
    methods: Mapping[str, Mapping[str, Any]]
    criterion: tuple[str | None, float | None] = (None, None)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per method."""
        return [
            {**self.settings, "seed": self.seed, "method": method}
            | {name: values.get(name) for name in METRICS}
            | {"run": self.run}
            for method, values in self.methods.items()
        ]


@dataclass(frozen=True)
class Spread:
    """A number over seeds: how many, mean, standard deviation (0 of one), least and most."""

    n: int
    mean: float
    sd: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one number."""
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(len(values), statistics.fmean(values), spread, min(values), max(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Group:
    """All results of one setting and method.

    Attributes:
        settings: of the group.
        method: `flowgmm` or a baseline.
        metrics: spread by metric; a metric that no run has is missing.
        criterion: name of the metric that chose the best epochs, None where the runs differ in it.
        watched: its spread.
    """

    settings: Mapping[str, Setting]
    method: str
    metrics: Mapping[str, Spread]
    criterion: str | None = None
    watched: Spread | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        found = {name: spread.to_dict() for name, spread in self.metrics.items()}
        watched = {"metric": self.criterion, **self.watched.to_dict()} if self.watched else None
        extra = {"criterion": watched} if self.method == OURS else {}
        return {"settings": dict(self.settings), "method": self.method, **found, **extra}


def summarise(results: Iterable[Result]) -> list[Group]:
    """Spreads over seeds, by setting and method, in the order in which they first occur."""
    found: dict[tuple[tuple[tuple[str, Setting], ...], str], list[Result]] = {}
    for result in results:
        for method in result.methods:
            found.setdefault((tuple(result.settings.items()), method), []).append(result)
    return [_group(dict(settings), method, members) for (settings, method), members in found.items()]


def _group(settings: Mapping[str, Setting], method: str, members: Sequence[Result]) -> Group:
    metrics = {}
    for name in METRICS:
        values = [one.methods[method].get(name) for one in members]
        numbers = [float(value) for value in values if value is not None]
        if numbers:
            metrics[name] = Spread.of(numbers)
    names = {one.criterion[0] for one in members}
    watched = [one.criterion[1] for one in members if one.criterion[1] is not None]
    if method != OURS or len(names) > 1 or not watched:
        return Group(settings, method, metrics)
    return Group(settings, method, metrics, names.pop(), Spread.of(watched))


def to_csv(results: Iterable[Result]) -> str:
    """All rows as csv with a header; an empty text if there are none."""
    rows = [row for result in results for row in result.rows()]
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
