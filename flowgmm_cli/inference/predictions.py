"""Predictions of rows: as columns of a table, as arrays in memory, and their totals."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.inference.scoring import ScoredRows
from flowgmm_cli.trained_model import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns = dict[str, npt.NDArray[Any]]
    Floats = npt.NDArray[np.float64]

MAX_REASONS = 3
"""Number of rows that could not be scored whose reasons are kept."""


@dataclass(frozen=True)
class OODRule:
    """Rule that flags rows as out of distribution.

    Attributes:
        score: name of the score.
        threshold: rows with a higher score are flagged.
        fpr: share of held-out rows above the threshold.
    """

    score: str
    threshold: float
    fpr: float

    @classmethod
    def from_model(cls, trained: TrainedModel, score: str | None = None, fpr: float | None = None) -> OODRule:
        """Return the rule of a score and a false positive rate, by default those of the model and its recipe.

        Raises:
            RunError: the model has no scores.
            UsageError: there is no such score.
        """
        detector = trained.require_detector()
        name = score or detector.default
        share = trained.recipe.ood.fpr if fpr is None else fpr
        return cls(name, detector.threshold(name, share), share)


def column_names(class_names: Sequence[str]) -> list[str]:
    """Return the columns of predictions, in order."""
    return ["id", "prediction", "confidence", "ood_score", "is_ood", *(f"p_{name}" for name in class_names)]


def select_columns(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """Return the columns of `--only`, in its order; a word may list several, separated by commas.

    A class may be named with or without its `p_`, and may have commas in its name.

    Raises:
        UsageError: there is no such column.
    """
    if not only:
        return list(names)
    selected = []
    for word in only:
        for part in [word] if word in names else [part.strip() for part in word.split(",")]:
            name = part if part in names else f"p_{part}"
            if name not in names:
                raise UsageError(
                    f"--only: there is no column `{part}`{did_you_mean(part, names)}",
                    hint=f"the columns are {', '.join(names)}",
                )
            selected.append(name)
    return list(dict.fromkeys(selected))


def prediction_columns(scored: ScoredRows, class_names: Sequence[str], rule: OODRule) -> Columns:
    """Return all columns of predictions; `Writer` describes how missing cells are marked."""
    probabilities = np.exp(scored.log_probabilities).astype(np.float32)
    values = scored.ood[rule.score]
    return {
        "id": scored.ids,
        "prediction": _names_or_none(class_names)[scored.classes],
        "confidence": probabilities.max(axis=1),
        "ood_score": values.astype(np.float32),
        "is_ood": np.ma.array(values > rule.threshold, mask=~scored.scorable),
        **{f"p_{name}": probabilities[:, place] for place, name in enumerate(class_names)},
    }


def _names_or_none(class_names: Sequence[str]) -> npt.NDArray[Any]:
    """Return the names of classes by index, and None at -1."""
    return np.array([*class_names, None], dtype=object)


@dataclass(frozen=True)
class PredictionResult:
    """Predictions in memory; every array has one entry a row, in order.

    Attributes:
        ids: names of the rows.
        prediction: names of classes; None for a row that could not be scored, which has NaN elsewhere.
        confidence: calibrated probability of the predicted class.
        probabilities: `(N, K)`, in the order of `class_names`.
        log_density: `log p(x)` in nats.
        ood_score: out-of-distribution score, higher = further out.
        is_ood: flags of the rows above the threshold.
        class_names: index -> name.
        problems: position -> reason why the row could not be scored.
    """

    ids: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    confidence: Floats
    probabilities: Floats
    log_density: Floats
    ood_score: Floats
    is_ood: npt.NDArray[np.bool_]
    class_names: tuple[str, ...]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_scored(
        cls, chunks: Sequence[ScoredRows], class_names: tuple[str, ...], rule: OODRule
    ) -> PredictionResult:
        """Concatenate scored rows; at least one chunk."""
        probabilities = np.exp(concatenate(chunks, lambda chunk: chunk.log_probabilities))
        ood: Floats = concatenate(chunks, lambda chunk: chunk.ood[rule.score])
        return cls(
            ids=concatenate(chunks, lambda chunk: chunk.ids),
            prediction=_names_or_none(class_names)[concatenate(chunks, lambda chunk: chunk.classes)],
            confidence=probabilities.max(axis=1),
            probabilities=probabilities,
            log_density=concatenate(chunks, lambda chunk: chunk.log_density),
            ood_score=ood,
            is_ood=ood > rule.threshold,
            class_names=class_names,
            problems={
                chunk.start + place: reason for chunk in chunks for place, reason in chunk.problems.items()
            },
        )


def concatenate(
    chunks: Sequence[ScoredRows], part: Callable[[ScoredRows], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """Concatenate one array of all chunks."""
    return np.concatenate([part(chunk) for chunk in chunks])


@dataclass
class Totals:
    """Counts over a stream of `n` rows.

    `unscorable` rows could not be scored, with the `reasons` of the first `MAX_REASONS` of them. `counts` are
    the rows predicted of each class, `(K,)`. `labelled` rows were scored and have a known true class, and the
    prediction of `correct` of them is right.
    """

    classes: int
    n: int = 0
    unscorable: int = 0
    reasons: list[str] = field(default_factory=list)
    flagged: int = 0
    labelled: int = 0
    correct: int = 0
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.counts = np.zeros(self.classes, dtype=np.int64)

    def add(self, scored: ScoredRows, rule: OODRule | None = None) -> None:
        """Count rows."""
        classes = scored.classes
        self.n += len(scored)
        self.unscorable += int((~scored.scorable).sum())
        self.reasons += list(scored.problems.values())[: MAX_REASONS - len(self.reasons)]
        self.counts += np.bincount(classes[scored.scorable], minlength=self.classes)
        known = scored.scorable & (scored.labels >= 0)
        self.labelled += int(known.sum())
        self.correct += int((classes[known] == scored.labels[known]).sum())
        if rule:
            self.flagged += int((scored.ood[rule.score] > rule.threshold).sum())

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def rows_per_second(self) -> float:
        """Throughput in rows per second, including reading and writing."""
        return self.n / max(self.seconds, 1e-9)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled rows that is predicted right; None without labelled rows."""
        return self.correct / self.labelled if self.labelled else None
