"""Comparison of out-of-distribution rows with in-distribution rows by every score of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flowgmm_cli.data.array_types import Array, Columns, Floats, Ints
from flowgmm_cli.evaluation.detection import DetectionMetrics, detection_intervals, detection_metrics
from flowgmm_cli.evaluation.intervals import Interval
from flowgmm_cli.evaluation.result_warnings import ResultWarning
from flowgmm_cli.inference.drift import Drift
from flowgmm_cli.inference.scores import OODRule, Scores, Totals
from flowgmm_cli.inference.table_result import TableResult
from flowgmm_cli.scores.detector import Detector

SCHEMA = "flowgmm/ood/1"
CONVENTION = "higher = further out; the rows of --out are the positives"
_MAX_COMPARED_ROWS = 1_000_000  # a random sample of more rows is compared
_FIGURE_ROWS = 400  # scores of each set that are saved for figures


@dataclass(frozen=True)
class ScoreSet:
    """Scores of the rows of `--in` or of `--out`: of all rows that could be scored, or a random million.

    `scores` by name, each `(m,)`; `places` are the positions of these rows in the input, from 0;
    `warnings` are differences from the training rows.
    """

    name: str
    totals: Totals
    seconds: float
    scores: Mapping[str, Floats]
    places: Ints
    warnings: tuple[ResultWarning, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows that could be scored."""
        return self.totals.scored

    @property
    def flagged_share(self) -> float:
        """Flagged share of these rows."""
        return self.totals.flagged / self.n if self.n else float("nan")

    def sample(self, score: str) -> list[float]:
        """Return some values of a score, ascending and evenly spaced by rank."""
        values = np.sort(self.scores[score])
        if len(values) > _FIGURE_ROWS:
            values = values[np.linspace(0, len(values) - 1, _FIGURE_ROWS).round().astype(np.intp)]
        return list(map(float, values))


@dataclass(frozen=True, repr=False)
class OODResult(TableResult):
    """Result of `flowgmm ood`: metrics by score, confidence intervals by score and metric; a row a score.

    `default` is the run's own choice of a score, `rule` has the one that flags here.
    """

    run: str
    inside: ScoreSet
    outside: ScoreSet
    default: str
    rule: OODRule
    metrics: Mapping[str, DetectionMetrics]
    intervals: Mapping[str, Mapping[str, Interval]]

    @property
    def scored(self) -> int:
        """Number of rows of both sets that could be scored."""
        return self.inside.n + self.outside.n

    @property
    def seconds(self) -> float:
        """Seconds in which the rows of both sets were read and scored."""
        return self.inside.seconds + self.outside.seconds

    def __len__(self) -> int:
        return len(self.metrics)

    def table(self) -> Columns:
        """Return columns `score`, `flags`, `auroc`, its interval, `aupr_in`, `aupr_out` and `fpr95`."""
        metrics, spans = self.metrics.values(), [self.intervals[name]["auroc"] for name in self.metrics]
        columns: Columns = {
            "score": np.array(list(self.metrics), dtype=object),
            "flags": np.array([name == self.rule.score for name in self.metrics]),
            "auroc": np.array([row.auroc for row in metrics]),
            "auroc_low": np.array([span.low for span in spans]),
            "auroc_high": np.array([span.high for span in spans]),
        }
        return columns | {
            key: np.array([vars(row)[key] for row in metrics]) for key in ("aupr_in", "aupr_out", "fpr95")
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `flowgmm ood --json`."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "in": self.inside.name,
            "out": self.outside.name,
            "n_in": self.inside.n,
            "n_out": self.outside.n,
            "unscorable_in": self.inside.totals.unscorable,
            "unscorable_out": self.outside.totals.unscorable,
            "convention": CONVENTION,
            "default_score": self.default,
            "score": self.rule.score,
            "scores": {
                name: {
                    **asdict(metrics),
                    "intervals": {key: asdict(interval) for key, interval in self.intervals[name].items()},
                }
                for name, metrics in self.metrics.items()
            },
            "threshold": self.rule.threshold,
            "fpr": self.rule.fpr,
            "flagged_fraction": self.outside.flagged_share,
            "flagged_fraction_in": self.inside.flagged_share,
            "warnings": [
                {"side": side, **warning.to_dict()}
                for side, rows in (("in", self.inside), ("out", self.outside))
                for warning in rows.warnings
            ],
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.scored / max(self.seconds, 1e-9), 1),
        }

    def to_file(self) -> dict[str, Any]:
        """Return the same with a sample of the flagging score's values, for figures."""
        sample = {"in": self.inside.sample(self.rule.score), "out": self.outside.sample(self.rule.score)}
        return {**self.to_dict(), "sample": sample}


def collect_scores(
    name: str, stream: Iterable[Scores], drift: Drift | None = None, rule: OODRule | None = None
) -> ScoreSet:
    """Collect the scores of a stream of rows called `name`; memory does not grow beyond a million rows.

    A sample of more rows is uniform: those with the smallest random numbers, of a fixed seed, are kept.
    `drift` was given the same rows, for warnings; with `rule`, flags are compared with their usual share.
    """
    rng, totals = np.random.default_rng(0), Totals()
    parts: list[Columns] = []
    for scores in stream:
        totals.add(scores)
        places = scores.start + np.arange(len(scores))
        columns = {"": rng.random(len(scores)), "#": places, **scores.ood}
        parts.append({key: values[scores.scorable] for key, values in columns.items()})
        if sum(len(part[""]) for part in parts) > _MAX_COMPARED_ROWS * 5 // 4:
            parts = [_sample(parts)]
    sample = _sample(parts)
    places = sample.pop("#", np.zeros(0, dtype=np.int64))
    found = tuple(drift.warnings(totals, rule)) if drift else ()
    return ScoreSet(name, totals, totals.seconds, {key: sample[key] for key in sample if key}, places, found)


def _sample(parts: Sequence[Mapping[str, Array]]) -> Columns:
    """Concatenate rows and keep those with the smallest numbers in the column '', in order."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    if not rows or len(rows[""]) <= _MAX_COMPARED_ROWS:
        return rows
    kept = np.sort(np.argpartition(rows[""], _MAX_COMPARED_ROWS)[:_MAX_COMPARED_ROWS])
    return {name: values[kept] for name, values in rows.items()}


def compare_scores(
    run: str, inside: ScoreSet, outside: ScoreSet, *, default: str, rule: OODRule, rng: np.random.Generator
) -> OODResult:
    """Compute the detection metrics of all scores; both sets have rows. `rng` draws confidence intervals."""
    pairs = {name: (values, outside.scores[name]) for name, values in inside.scores.items()}
    metrics = {name: detection_metrics(*pair) for name, pair in pairs.items()}
    intervals = {name: detection_intervals(*pair, rng=rng) for name, pair in pairs.items()}
    order = sorted(metrics, key=lambda name: (name != rule.score, -metrics[name].auroc))
    ordered = {name: metrics[name] for name in order}
    return OODResult(run, inside, outside, default, rule, ordered, intervals)


def ood_columns(scores: Scores, detector: Detector, other_scores: Sequence[str] = ()) -> Columns:
    """Return the columns that `--save` writes, with other scores in columns of their names.

    `Writer` describes how missing cells are marked.
    """
    values, mask = scores.ood_score, scores.scorable
    percentile = np.full(len(values), np.nan)
    if scores.rule:
        percentile[mask] = detector.percentile(scores.rule.score, values[mask])
    flags = np.ma.array(scores.is_ood, mask=~mask)
    columns: Columns = {"id": scores.ids, "ood_score": values, "percentile": percentile, "is_ood": flags}
    return columns | {name: scores.ood[name] for name in other_scores}
