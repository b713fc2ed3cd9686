"""Comparison of out-of-distribution rows with in-distribution rows by every score of a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.evaluation.detection import DetectionMetrics, detection_intervals, detection_metrics
from flowgmm_cli.evaluation.metrics import Interval
from flowgmm_cli.inference.predictions import MAX_REASONS, OODRule
from flowgmm_cli.inference.scoring import ScoredRows
from flowgmm_cli.scores.detector import Detector

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Columns = dict[str, npt.NDArray[Any]]

SCHEMA = "flowgmm/ood/1"
CONVENTION = "higher = further out; the rows of --out are the positives"
_MAX_COMPARED_ROWS = 1_000_000  # a random sample of more rows is compared
_FIGURE_ROWS = 400  # scores of each set that are saved for figures


@dataclass(frozen=True)
class ScoreSet:
    """Scores of the rows of `--in` or of `--out`.

    `n` rows could be scored, and `flagged` of them are above the threshold; `unscorable` rows could not, with
    the `reasons` of the first of them. `scores` by name, each `(m,)`, are of all rows or a random million.
    """

    name: str
    n: int
    unscorable: int
    reasons: tuple[str, ...]
    flagged: int
    scores: Mapping[str, Floats]
    seconds: float

    @property
    def flagged_share(self) -> float:
        """Flagged share of the rows."""
        return self.flagged / self.n if self.n else float("nan")

    def sample(self, score: str) -> list[float]:
        """Return some values of a score, ascending and evenly spaced by rank."""
        values = np.sort(self.scores[score])
        if len(values) > _FIGURE_ROWS:
            values = values[np.linspace(0, len(values) - 1, _FIGURE_ROWS).round().astype(np.intp)]
        return [float(value) for value in values]


@dataclass(frozen=True)
class OODResult:
    """Result of `flowgmm ood`: metrics by score, confidence intervals by score and metric.

    `default` is the run's own choice of a score, `rule` has the one that flags here.
    """

    run: str
    inside: ScoreSet
    outside: ScoreSet
    default: str
    rule: OODRule
    metrics: Mapping[str, DetectionMetrics]
    intervals: Mapping[str, Mapping[str, Interval]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `flowgmm ood --json`."""
        seconds = self.inside.seconds + self.outside.seconds
        return {
            "schema": SCHEMA,
            "run": self.run,
            "in": self.inside.name,
            "out": self.outside.name,
            "n_in": self.inside.n,
            "n_out": self.outside.n,
            "unscorable_in": self.inside.unscorable,
            "unscorable_out": self.outside.unscorable,
            "convention": CONVENTION,
            "default_score": self.default,
            "score": self.rule.score,
            "scores": {
                name: {
                    **{key: getattr(metrics, key) for key in ("auroc", "aupr_in", "aupr_out", "fpr95")},
                    "intervals": {key: asdict(interval) for key, interval in self.intervals[name].items()},
                }
                for name, metrics in self.metrics.items()
            },
            "threshold": self.rule.threshold,
            "fpr": self.rule.fpr,
            "flagged_fraction": self.outside.flagged_share,
            "flagged_fraction_in": self.inside.flagged_share,
            "seconds": round(seconds, 3),
            "rows_per_second": round((self.inside.n + self.outside.n) / max(seconds, 1e-9), 1),
        }

    def to_file(self) -> dict[str, Any]:
        """Return the same with a sample of the flagging score's values, for figures."""
        sample = {"in": self.inside.sample(self.rule.score), "out": self.outside.sample(self.rule.score)}
        return {**self.to_dict(), "sample": sample}


def collect_scores(
    name: str,
    stream: Iterable[ScoredRows],
    rule: OODRule,
    rng: np.random.Generator,
    *,
    callback: Callable[[ScoredRows], None] = lambda scored: None,
) -> ScoreSet:
    """Collect the scores of a stream of rows; memory does not grow beyond a million rows.

    Args:
        name: name of the rows in messages.
        stream: rows with their scores.
        rule: the score that flags, and its threshold.
        rng: draws the sample of very many rows.
        callback: called with every chunk of rows.
    """
    n = unscorable = flagged = 0
    reasons: list[str] = []
    reservoir = _Reservoir(_MAX_COMPARED_ROWS, rng)
    start = time.perf_counter()
    for scored in stream:
        callback(scored)
        mask = scored.scorable
        n += int(mask.sum())
        unscorable += int((~mask).sum())
        reasons += list(scored.problems.values())[: MAX_REASONS - len(reasons)]
        flagged += int((scored.ood[rule.score][mask] > rule.threshold).sum())
        reservoir.add({key: values[mask] for key, values in scored.ood.items()})
    seconds = time.perf_counter() - start
    return ScoreSet(name, n, unscorable, tuple(reasons), flagged, reservoir.values(), seconds)


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


def ood_columns(
    scored: ScoredRows, detector: Detector, rule: OODRule, other_scores: Sequence[str] = ()
) -> Columns:
    """Return the columns that `--save` writes, with other scores in columns of their names.

    `Writer` describes how missing cells are marked.
    """
    values, mask = scored.ood[rule.score], scored.scorable
    percentile = np.full(len(values), np.nan)
    percentile[mask] = detector.percentile(rule.score, values[mask])
    flags = np.ma.array(values > rule.threshold, mask=~mask)
    columns: Columns = {"id": scored.ids, "ood_score": values, "percentile": percentile, "is_ood": flags}
    return columns | {name: scored.ood[name] for name in other_scores}


class _Reservoir:
    """Uniform random sample of a stream of rows (Vitter, 1985, algorithm R)."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.size = size
        self.rng = rng
        self._parts: list[dict[str, Floats]] = []
        self._count = 0

    def add(self, rows: Mapping[str, Floats]) -> None:
        """Add rows."""
        count = len(next(iter(rows.values()), ()))
        free = max(0, min(self.size - self._count, count))
        if free:
            self._parts.append({name: values[:free].copy() for name, values in rows.items()})
        if count > free:
            sample = self.values()
            self._parts = [sample]
            places = self.rng.integers(0, np.arange(self._count + free, self._count + count) + 1)
            kept = np.flatnonzero(places < self.size)
            for name, values in rows.items():
                sample[name][places[kept]] = values[free:][kept]
        self._count += count

    def values(self) -> dict[str, Floats]:
        """Return the sample."""
        if len(self._parts) == 1:
            return self._parts[0]
        names = self._parts[0] if self._parts else {}
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}
