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
    split: str = "test"  # rows of the metrics, `test` or `cross_fitted`

    def rows(self) -> list[dict[str, Any]]:
        """Return a flat row for each method."""
        return [
            {**self.settings, "seed": self.seed, "method": method}
            | {name: values.get(name) for name in METRICS}
            | {"run": self.run}
            for method, values in self.methods.items()
        ]


def summarise(values: Sequence[float]) -> dict[str, float]:
    """Summarise a metric over seeds: their number, mean, standard deviation (0 for one seed) and extremes."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.fmean(values)
    return {"n": len(values), "mean": mean, "sd": sd, "min": min(values), "max": max(values)}


def group_results(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Group results by setting and method, in the order of their first occurrence.

    Returns:
        `settings`, `method` and a summary of each metric that a run has; for flowgmm also `criterion`, the
        summary and name of the metric that chose the best epochs, or None if the runs used different ones.
    """
    groups: dict[tuple[tuple[tuple[str, SettingValue], ...], str], list[Result]] = {}
    for result in results:
        for method in result.methods:
            groups.setdefault((tuple(result.settings.items()), method), []).append(result)
    summaries = []
    for (settings, method), members in groups.items():
        group: dict[str, Any] = {"settings": dict(settings), "method": method}
        for name in METRICS:
            values = [result.methods[method].get(name) for result in members]
            if numbers := [float(value) for value in values if value is not None]:
                group[name] = summarise(numbers)
        if method == FLOWGMM:
            names = {result.criterion[0] for result in members}
            best = [result.criterion[1] for result in members if result.criterion[1] is not None]
            group["criterion"] = (
                {"metric": names.pop(), **summarise(best)} if len(names) == 1 and best else None
            )
        summaries.append(group)
    return summaries


def to_csv(results: Iterable[Result]) -> str:
    """Write all rows as csv with a header; empty without results."""
    rows = [row for result in results for row in result.rows()]
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
