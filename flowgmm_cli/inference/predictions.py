"""The answer of `predict`: columns per row, and totals over all rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.inference.scoring import Scored

if TYPE_CHECKING:
    import numpy.typing as npt

    Columns = dict[str, npt.NDArray[Any]]

REASONS = 3
"""Rows that could not be scored are told of one by one up to here."""


@dataclass(frozen=True)
class Flag:
    """How rows are flagged as out of distribution.

    Attributes:
        score: name of the score.
        threshold: a row that scores higher is flagged.
        fpr: share of held-out rows that lies above the threshold.
    """

    score: str
    threshold: float
    fpr: float


def column_names(class_names: Sequence[str], flag: Flag | None) -> list[str]:
    """The columns of an answer, in order; without a score there are none of out-of-distribution detection."""
    ood = ["ood_score", "is_ood"] if flag else []
    return ["id", "prediction", "confidence", *ood, *(f"p_{name}" for name in class_names)]


def choose_columns(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
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


def prediction_columns(scored: Scored, class_names: Sequence[str], flag: Flag | None) -> Columns:
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

    def add(self, scored: Scored, flag: Flag | None = None) -> None:
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
