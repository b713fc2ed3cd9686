"""Results of the finished runs of an experiment: rows, csv, and summaries over seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.experiments.points import SettingValue

FLOWGMM = "flowgmm"
METRICS = ("accuracy", "balanced_accuracy", "nll", "ece", "seconds")


@dataclass(frozen=True)
class Result:
    """The result of a run."""

    settings: Mapping[str, SettingValue]  # of its group
    seed: int  # of the run
    run: str  # the run directory, relative to the folder of the experiment
    methods: Mapping[str, Mapping[str, Any]]  # metrics by method; `flowgmm` first, then baselines
    # name of the metric that chose the best epoch, and its value there
    criterion: tuple[str | None, float | None] = (None, None)

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each method."""
        return [
            {**self.settings, "seed": self.seed, "method": method}
            | {name: values.get(name) for name in METRICS}
            | {"run": self.run}
            for method, values in self.methods.items()
        ]


@dataclass(frozen=True)
class Summary:
    """A metric over seeds: number of seeds, mean, standard deviation (0 for one seed), minimum, maximum."""

    n: int
    mean: float
    sd: float
    min: float
    max: float

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Summary:
        """Summarise at least one number."""
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(len(values), statistics.fmean(values), sd, min(values), max(values))


@dataclass(frozen=True)
class Group:
    """All results of a setting and method."""

    settings: Mapping[str, SettingValue]  # of the group
    method: str  # `flowgmm` or a baseline
    metrics: Mapping[str, Summary]  # summary by metric, without metrics that no run has
    # name of the metric that chose the best epochs; None if the runs used different ones
    criterion: str | None = None
    criterion_summary: Summary | None = None  # its summary

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        value: dict[str, Any] = {"settings": dict(self.settings), "method": self.method}
        value |= {name: dict(vars(summary)) for name, summary in self.metrics.items()}
        if self.method == FLOWGMM:
            summary = self.criterion_summary
            value["criterion"] = {"metric": self.criterion, **vars(summary)} if summary else None
        return value


def group_results(results: Iterable[Result]) -> list[Group]:
    """Group results by setting and method, in the order of their first occurrence."""
    groups: dict[tuple[tuple[tuple[str, SettingValue], ...], str], list[Result]] = {}
    for result in results:
        for method in result.methods:
            groups.setdefault((tuple(result.settings.items()), method), []).append(result)
    return [_summarise(dict(settings), method, members) for (settings, method), members in groups.items()]


def _summarise(settings: Mapping[str, SettingValue], method: str, results: Sequence[Result]) -> Group:
    metrics = {}
    for name in METRICS:
        values = [result.methods[method].get(name) for result in results]
        numbers = [float(value) for value in values if value is not None]
        if numbers:
            metrics[name] = Summary.from_values(numbers)
    names = {result.criterion[0] for result in results}
    criterion = [result.criterion[1] for result in results if result.criterion[1] is not None]
    if method != FLOWGMM or len(names) > 1 or not criterion:
        return Group(settings, method, metrics)
    return Group(settings, method, metrics, names.pop(), Summary.from_values(criterion))


def to_csv(results: Iterable[Result]) -> str:
    """Write all rows as csv with a header; empty without results."""
    rows = [row for result in results for row in result.rows()]
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
