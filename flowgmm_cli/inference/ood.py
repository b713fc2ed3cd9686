"""How well a run tells rows from elsewhere from its own kind, by every score it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.evaluation.detection import DetectionMetrics, detection_intervals, detection_metrics
from flowgmm_cli.evaluation.intervals import Interval
from flowgmm_cli.inference.predictions import REASONS, OODRule
from flowgmm_cli.inference.scoring import ScoredRows
from flowgmm_cli.scores.detector import Detector

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Columns = dict[str, npt.NDArray[Any]]

SCHEMA = "flowgmm/ood/1"
CONVENTION = "higher = further out; the rows of --out are the positives"
_KEPT = 1_000_000  # rows of a side whose scores are compared
_DRAWN = 400  # scores of a side that are kept for figures


@dataclass(frozen=True)
class ScoreSet:
    """The rows of `--in` or of `--out`.

    Attributes:
        name: what to call them.
        n: rows that could be scored.
        unscorable: rows that could not.
        reasons: why, for the first of these.
        flagged: rows above the threshold.
        scores: by name, each `(m,)`: of all rows, or of a million of them drawn at random.
        seconds: time taken.
    """

    name: str
    n: int
    unscorable: int
    reasons: tuple[str, ...]
    flagged: int
    scores: Mapping[str, Floats]
    seconds: float

    @property
    def share(self) -> float:
        """Flagged share of the rows."""
        return self.flagged / self.n if self.n else float("nan")

    def sample(self, score: str) -> list[float]:
        """Some of the values of a score, rising and evenly spaced by rank."""
        values = np.sort(self.scores[score])
        if len(values) > _DRAWN:
            values = values[np.linspace(0, len(values) - 1, _DRAWN).round().astype(np.intp)]
        return [float(value) for value in values]


@dataclass(frozen=True)
class OODResult:
    """What `flowgmm ood` finds.

    Attributes:
        run: the run.
        inside: in-distribution rows.
        outside: the rows held against them.
        default: the score that the run chose.
        flag: the score that flags here, with its threshold.
        metrics: by score.
        intervals: by score and metric.
    """

    run: str
    inside: ScoreSet
    outside: ScoreSet
    default: str
    flag: OODRule
    metrics: Mapping[str, DetectionMetrics]
    intervals: Mapping[str, Mapping[str, Interval]]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `flowgmm ood --json`."""
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
            "score": self.flag.score,
            "scores": {
                name: {
                    **{key: getattr(found, key) for key in ("auroc", "aupr_in", "aupr_out", "fpr95")},
                    "intervals": {key: one.to_dict() for key, one in self.intervals[name].items()},
                }
                for name, found in self.metrics.items()
            },
            "threshold": self.flag.threshold,
            "fpr": self.flag.fpr,
            "flagged_fraction": self.outside.share,
            "flagged_fraction_in": self.inside.share,
            "seconds": round(self.inside.seconds + self.outside.seconds, 3),
            "rows_per_second": round(
                (self.inside.n + self.outside.n) / max(self.inside.seconds + self.outside.seconds, 1e-9), 1
            ),
        }

    def to_file(self) -> dict[str, Any]:
        """The same, with some of the values of the score that flags, for figures."""
        sample = {"in": self.inside.sample(self.flag.score), "out": self.outside.sample(self.flag.score)}
        return {**self.to_dict(), "sample": sample}


def collect_scores(
    name: str,
    stream: Iterable[ScoredRows],
    flag: OODRule,
    rng: np.random.Generator,
    *,
    each: Callable[[ScoredRows], None] = lambda scored: None,
) -> ScoreSet:
    """Take in the rows of one side; memory does not grow with their number beyond a million.

    Args:
        name: what to call them.
        stream: the rows, with their scores.
        flag: the score that flags, and its threshold.
        rng: draws the rows that are kept of very many.
        each: told of every stretch of rows.
    """
    n = unscorable = flagged = 0
    reasons: list[str] = []
    kept = _Reservoir(_KEPT, rng)
    started = time.perf_counter()
    for scored in stream:
        each(scored)
        good = scored.good
        n += int(good.sum())
        unscorable += int((~good).sum())
        reasons += list(scored.problems.values())[: REASONS - len(reasons)]
        flagged += int((scored.ood[flag.score][good] > flag.threshold).sum())
        kept.add({key: values[good] for key, values in scored.ood.items()})
    seconds = time.perf_counter() - started
    return ScoreSet(name, n, unscorable, tuple(reasons), flagged, kept.values(), seconds)


def compare_scores(
    run: str, inside: ScoreSet, outside: ScoreSet, *, default: str, flag: OODRule, rng: np.random.Generator
) -> OODResult:
    """Hold the scores of two sides against each other; both have rows.

    Args:
        run: the run.
        inside: in-distribution rows.
        outside: the others.
        default: the score that the run chose.
        flag: the score that flags.
        rng: of the intervals.
    """
    pairs = {name: (values, outside.scores[name]) for name, values in inside.scores.items()}
    metrics = {name: detection_metrics(*pair) for name, pair in pairs.items()}
    intervals = {name: detection_intervals(*pair, rng=rng) for name, pair in pairs.items()}
    order = sorted(metrics, key=lambda name: (name != flag.score, -metrics[name].auroc))
    return OODResult(
        run,
        inside,
        outside,
        default,
        flag,
        {name: metrics[name] for name in order},
        {name: intervals[name] for name in order},
    )


def ood_columns(scored: ScoredRows, detector: Detector, flag: OODRule, others: Sequence[str] = ()) -> Columns:
    """The columns that `--save` writes of some rows; see `Writer` for how a missing cell is told.

    Args:
        scored: the rows, with their scores.
        detector: knows the held-out rows' scores.
        flag: the score that flags.
        others: further scores, each in a column of its name.
    """
    values, good = scored.ood[flag.score], scored.good
    percentile = np.full(len(values), np.nan)
    percentile[good] = detector.percentile(flag.score, values[good])
    with np.errstate(invalid="ignore"):
        flagged = np.ma.array(values > flag.threshold, mask=~good)
    columns: Columns = {"id": scored.ids, "ood_score": values, "percentile": percentile, "is_ood": flagged}
    return columns | {name: scored.ood[name] for name in others}


class _Reservoir:
    """Every row has the same chance to be among the kept ones (Vitter, 1985, algorithm R)."""

    def __init__(self, most: int, rng: np.random.Generator) -> None:
        self.most = most
        self.rng = rng
        self._parts: list[dict[str, Floats]] = []
        self._full: dict[str, Floats] = {}
        self._seen = 0

    def add(self, rows: Mapping[str, Floats]) -> None:
        """Take in rows."""
        size = len(next(iter(rows.values()), ()))
        room = max(0, min(self.most - self._seen, size))
        if room:
            self._parts.append({name: values[:room].copy() for name, values in rows.items()})
        if size > room:
            self._full = self.values()
            self._parts = [self._full]
            places = self.rng.integers(0, np.arange(self._seen + room, self._seen + size) + 1)
            taken = np.flatnonzero(places < self.most)
            for name, values in rows.items():
                self._full[name][places[taken]] = values[room:][taken]
        self._seen += size

    def values(self) -> dict[str, Floats]:
        """The kept rows."""
        if len(self._parts) == 1:
            return self._parts[0]
        names = self._parts[0] if self._parts else {}
        return {name: np.concatenate([part[name] for part in self._parts]) for name in names}
