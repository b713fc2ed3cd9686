"""The answer of `predict`: columns per row, and totals over all rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.inference.scoring import ScoredRows

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns = dict[str, npt.NDArray[Any]]

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


REASONS = 3
"""Rows that could not be scored are told of one by one up to here."""


@dataclass(frozen=True)
class OODRule:
    """How rows are flagged as out of distribution.

    Attributes:
        score: name of the score.
        threshold: a row that scores higher is flagged.
        fpr: share of held-out rows that lies above the threshold.
    """

    score: str
    threshold: float
    fpr: float


def column_names(class_names: Sequence[str], flag: OODRule | None) -> list[str]:
    """The columns of an answer, in order; without a score there are none of out-of-distribution detection."""
    ood = ["ood_score", "is_ood"] if flag else []
    return ["id", "prediction", "confidence", *ood, *(f"p_{name}" for name in class_names)]


def select_columns(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """The columns that `--only` asks for, in its order; a word may list several, with commas between them.

    A class may be named with or without its `p_`, and may have commas in its name.

    Raises:
        UsageError: there is no such column.
    """
    if not only:
        return list(names)
    chosen = []
    for word in only:
        parts = [word] if word in names else [part.strip() for part in word.split(",")]
        for part in parts:
            found = part if part in names else f"p_{part}"
            if found not in names:
                raise UsageError(
                    f"--only: there is no column `{part}`{did_you_mean(part, names)}",
                    hint=f"the columns are {', '.join(names)}",
                )
            chosen.append(found)
    return list(dict.fromkeys(chosen))


def prediction_columns(scored: ScoredRows, class_names: Sequence[str], flag: OODRule | None) -> Columns:
    """All columns of an answer; see `Writer` for how a missing cell is told."""
    names = np.array([*class_names, None], dtype=object)  # the last one, at -1, for rows without an answer
    classes = scored.classes
    probabilities = np.exp(scored.log_probabilities).astype(np.float32)
    columns: Columns = {
        "id": scored.ids,
        "prediction": names[classes],
        "confidence": probabilities.max(axis=1),
    }
    if flag:
        values = scored.ood[flag.score]
        columns["ood_score"] = values.astype(np.float32)
        columns["is_ood"] = np.ma.array(values > flag.threshold, mask=~scored.good)
    return columns | {f"p_{name}": probabilities[:, place] for place, name in enumerate(class_names)}


@dataclass
class Totals:
    """What is counted while rows pass.

    Attributes:
        n: rows.
        unscorable: rows without an answer.
        reasons: why, for the first `REASONS` of them.
        counts: rows predicted of each class, `(K,)`.
        flagged: rows flagged as out of distribution.
        labelled: rows with an answer whose true class the input names.
        correct: those of them that are predicted right.
        started: when counting began, in seconds of `time.perf_counter`.
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

    def add(self, scored: ScoredRows, flag: OODRule | None = None) -> None:
        """Count a stretch of rows."""
        classes = scored.classes
        self.n += len(scored)
        self.unscorable += int((~scored.good).sum())
        if len(self.reasons) < REASONS:
            self.reasons += list(scored.problems.values())[: REASONS - len(self.reasons)]
        self.counts += np.bincount(classes[scored.good], minlength=self.classes)
        known = scored.good & (scored.labels >= 0)
        self.labelled += int(known.sum())
        self.correct += int((classes[known] == scored.labels[known]).sum())
        if flag:
            with np.errstate(invalid="ignore"):
                self.flagged += int((scored.ood[flag.score] > flag.threshold).sum())

    @property
    def seconds(self) -> float:
        """Since counting began."""
        return time.perf_counter() - self.started

    @property
    def rows_per_second(self) -> float:
        """Rows in a second, reading and writing included."""
        return self.n / max(self.seconds, 1e-9)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled rows that is predicted right; None where no row is labelled."""
        return self.correct / self.labelled if self.labelled else None


@dataclass(frozen=True)
class PredictionResult:
    """What a model says of rows; every array has one entry for each of them, in order.

    Attributes:
        ids: names of the rows.
        prediction: names of classes; None for a row that could not be scored, which has NaN elsewhere.
        confidence: calibrated probability of the predicted class.
        probabilities: `(N, K)`, in the order of `class_names`.
        log_density: `log p(x)` in nats.
        ood_score: how far out, higher = further; None for runs without scores.
        is_ood: whether that is above the threshold; None for runs without scores.
        class_names: index -> name.
        problems: position -> why the row could not be scored.
    """

    ids: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    confidence: Floats
    probabilities: Floats
    log_density: Floats
    ood_score: Floats | None
    is_ood: npt.NDArray[np.bool_] | None
    class_names: tuple[str, ...]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(
        cls, stream: Sequence[ScoredRows], class_names: tuple[str, ...], flag: OODRule | None
    ) -> PredictionResult:
        """Put scored rows together, at least one stretch of them."""
        names = np.array(
            [*class_names, None], dtype=object
        )  # the last one, at -1, for rows without an answer
        probabilities = np.exp(concatenate(stream, lambda one: one.log_probabilities))
        ood = concatenate(stream, lambda one: one.ood[flag.score]) if flag else None
        return cls(
            ids=concatenate(stream, lambda one: one.ids),
            prediction=names[concatenate(stream, lambda one: one.classes)],
            confidence=probabilities.max(axis=1),
            probabilities=probabilities,
            log_density=concatenate(stream, lambda one: one.log_density),
            ood_score=ood,
            is_ood=ood > flag.threshold if flag and ood is not None else None,
            class_names=class_names,
            problems={one.start + place: why for one in stream for place, why in one.problems.items()},
        )


def concatenate(
    stream: Sequence[ScoredRows], part: Callable[[ScoredRows], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """One array of all stretches, one after the other."""
    return np.concatenate([part(one) for one in stream])
