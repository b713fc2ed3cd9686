"""Outputs of a model for rows of an input, the rule that flags rows, and totals over a stream of rows."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.conformal import Thresholds
from flowgmm_cli.data.array_types import Array, Bools, Columns, Floats, Ints
from flowgmm_cli.errors import UsageError, did_you_mean
from flowgmm_cli.evaluation.result_warnings import ResultWarning
from flowgmm_cli.inference.table_result import TableResult
from flowgmm_cli.messages import split_names
from flowgmm_cli.trained_model import TrainedModel

MAX_REASONS = 3
"""Number of rows that could not be scored whose reasons are kept."""
PREDICTION_COLUMNS = ("id", "prediction", "confidence", "ood_score", "is_ood")
"""Columns of predictions, before those of the probabilities, `p_<class>`."""


@dataclass(frozen=True)
class OODRule:
    """Rule that flags rows as out of distribution."""

    score: str  # name of the score
    threshold: float  # rows with a higher score are flagged
    fpr: float  # share of held-out rows above the threshold

    @classmethod
    def from_model(cls, trained: TrainedModel, score: str | None = None, fpr: float | None = None) -> OODRule:
        """Return the rule of a score and a false positive rate, by default those of the model and its recipe.

        Raises:
            RunError: the model has no scores.
            UsageError: there is no such score, or the rate is not between 0 and 1.
        """
        if fpr is not None and not 0 < fpr < 1:
            raise UsageError(f"--fpr is {fpr}, it must lie between 0 and 1", hint="--fpr 0.05")
        detector = trained.require_detector()
        name = score or detector.default
        share = trained.recipe.ood.fpr if fpr is None else fpr
        return cls(name, detector.threshold(name, share), share)


@dataclass(frozen=True, repr=False)
class Scores(TableResult):
    """Outputs of a model for consecutive rows of an input, in order; a row that cannot be scored has NaN."""

    ids: Array  # names of the rows, `(N,)`
    labels: Ints  # true classes where the input has them, int64 `(N,)`, -1 elsewhere
    scorable: Bools  # mask of the rows that could be scored, `(N,)`
    log_probabilities: Floats  # calibrated `log p(k | x)`, `(N, K)`, in the order of `class_names`
    log_density: Floats  # `log p(x)` in nats, including the transforms' log-determinant, `(N,)`
    class_names: tuple[str, ...]  # index -> name
    ood: Mapping[str, Floats] = field(default_factory=dict)  # by name, each `(N,)`, higher = further out
    vectors: npt.NDArray[np.float32] | None = None  # latents or inputs of the flow, `(N, D)`, if requested
    problems: Mapping[int, str] = field(default_factory=dict)  # position -> reason of a row without scores
    unknown_labels: Mapping[int, str] = field(default_factory=dict)  # position -> label of no class
    rule: OODRule | None = None  # the score that flags rows; None if none was requested
    start: int = 0  # number of rows of the input before these
    kept: Mapping[str, Any] = field(default_factory=dict)  # columns to pass on, Arrow arrays `(N,)` by name
    warnings: tuple[ResultWarning, ...] = ()  # differences between the input and the training rows
    # mask of the labelled rows that equal a row whose label the training used, `(N,)`; None = no row is
    seen: Bools | None = None
    # probability of an unknown kind, `(N,)`; None for a model that knows of none
    p_unknown: Floats | None = None
    thresholds: Thresholds | None = None  # of classes in a set; None if no sets were requested
    min_confidence: float | None = None  # rows with a lower confidence get no prediction; None = all get one

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def classes(self) -> Ints:
        """Most probable class of each row `(N,)`, -1 where it could not be scored."""
        return np.where(self.scorable, self.log_probabilities.argmax(axis=1), -1)

    @property
    def prediction(self) -> Array:
        """Names of these classes; None for a row that could not be scored."""
        return np.array([*self.class_names, None], dtype=object)[self.classes]

    @cached_property
    def probabilities(self) -> Floats:
        """Calibrated probabilities `(N, K)`; with `p_unknown`, they and it have the sum 1."""
        probabilities = np.exp(self.log_probabilities)
        return probabilities if self.p_unknown is None else probabilities * (1 - self.p_unknown[:, None])

    @property
    def confidence(self) -> Floats:
        """Probability of the predicted class, `(N,)`."""
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def sets(self) -> Bools:
        """Mask of the classes in the set of each row, `(N, K)`; an unscorable row has none."""
        if self.thresholds is None:
            raise ValueError("no sets of classes were requested")
        return self.thresholds.sets(self.log_probabilities)

    @property
    def abstained(self) -> Bools:
        """Mask of the rows whose confidence is below `min_confidence`, `(N,)`."""
        return self.confidence < (-np.inf if self.min_confidence is None else self.min_confidence)

    @property
    def ood_score(self) -> Floats:
        """The score that flags rows, `(N,)`."""
        if self.rule is None:
            raise ValueError("the rows were scored without a rule that flags them")
        return self.ood[self.rule.score]

    @property
    def is_ood(self) -> Bools:
        """Flags of the rows above the threshold, `(N,)`."""
        return self.ood_score > (self.rule.threshold if self.rule else np.nan)

    @property
    def known(self) -> Bools:
        """Mask of the scored rows with a label, be it a class of the model or another, `(N,)`."""
        labelled = self.labels >= 0
        labelled[list(self.unknown_labels)] = True
        return np.asarray(labelled & self.scorable)

    @property
    def testable(self) -> Bools:
        """Mask of the `known` rows whose label the training has not used, `(N,)`."""
        return self.known if self.seen is None else np.asarray(self.known & ~self.seen)

    def table(self) -> Columns:
        """Return the columns of predictions; `Writer` describes how missing cells are marked.

        They are `id, prediction, confidence, ood_score, is_ood`, `p_<class>` for each class, and `p_unknown`
        for a model that knows of unknown kinds; `classes` and `n_classes` with sets, and `abstained` with a
        least confidence.
        """
        probabilities = self.probabilities.astype(np.float32)
        prediction = self.prediction
        prediction[self.abstained] = None
        values = [self.ids, prediction, probabilities.max(axis=1)]
        if self.rule is not None:
            values += [self.ood_score.astype(np.float32), np.ma.array(self.is_ood, mask=~self.scorable)]
        by_class = list(probabilities.T)
        if self.p_unknown is not None:
            by_class.append(self.p_unknown.astype(np.float32))
        names = probability_columns(self.class_names, unknown=self.p_unknown is not None)
        columns = dict(zip((*PREDICTION_COLUMNS[: len(values)], *names), (*values, *by_class), strict=True))
        if self.thresholds is not None:
            sets, class_names = self.sets, np.array(self.class_names, dtype=object)
            texts = np.array(["|".join(class_names[row]) for row in sets], dtype=object)
            texts[~self.scorable] = None
            columns["classes"] = texts
            columns["n_classes"] = np.ma.array(sets.sum(axis=1), mask=~self.scorable)
        if self.min_confidence is not None:
            columns["abstained"] = np.ma.array(self.abstained, mask=~self.scorable)
        return columns

    @classmethod
    def concatenate(cls, parts: Sequence[Scores]) -> Scores:
        """Concatenate consecutive rows; at least one part."""
        first = parts[0]
        names = ["ids", "labels", "scorable", "log_probabilities", "log_density", "vectors", "p_unknown"]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in names
            if getattr(first, name) is not None
        }
        arrays["ood"] = {name: np.concatenate([part.ood[name] for part in parts]) for name in first.ood}
        if any(part.seen is not None for part in parts):
            arrays["seen"] = np.concatenate([part.known & ~part.testable for part in parts])
        for name in ("problems", "unknown_labels"):
            arrays[name] = {
                part.start - first.start + place: text
                for part in parts
                for place, text in getattr(part, name).items()
            }
        if first.kept:
            import pyarrow as pa

            arrays["kept"] = {
                name: pa.concat_arrays([part.kept[name] for part in parts]) for name in first.kept
            }
        return dataclasses.replace(first, **arrays)


def probability_columns(class_names: Sequence[str], *, unknown: bool) -> list[str]:
    """Name the columns of probabilities: `p_<class>`, then that of unknown kinds if the model has any.

    >>> probability_columns(["cat", "dog"], unknown=True)
    ['p_cat', 'p_dog', 'p_unknown']
    """
    names = [f"p_{name}" for name in class_names]
    if unknown:
        names.append("p_unknown_kind" if "p_unknown" in names else "p_unknown")
    return names


def select_columns(only: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    """Return the columns of `--only`, in its order; a word may list several, separated by commas.

    A class may be named with or without its `p_`, and may have commas in its name.

    Raises:
        UsageError: there is no such column.
    """
    if not only:
        return list(names)
    selected = []
    for part in split_names(only, names):
        name = part if part in names else f"p_{part}"
        if name not in names:
            raise UsageError(
                f"--only: there is no column `{part}`{did_you_mean(part, names)}",
                hint=f"the columns are {', '.join(names)}",
            )
        selected.append(name)
    return list(dict.fromkeys(selected))


def rename_kept(scores: Scores, names: Collection[str]) -> Columns:
    """Return the kept columns of the input; one with a name among `names` is called `input_<name>`."""
    return {f"input_{name}" if name in names else name: cells for name, cells in scores.kept.items()}


@dataclass
class Totals:
    """Counts over a stream of `n` rows.

    `unscorable` rows could not be scored, with the `reasons` of the first `MAX_REASONS` of them. `flagged`
    rows are out of distribution by the rule. `predicted` counts the rows of each predicted class; `abstained`
    rows have no prediction. `labelled` rows were scored and have a label. The training used `seen` of these
    labels; of the others `tested` rows have a prediction, which is right for `correct` rows, and `covered`
    rows have their class in the set. `unknown` counts labels that are no class of the model, for which no
    prediction is right. `set_sizes` counts the rows with a set of each size.
    """

    n: int = 0
    unscorable: int = 0
    reasons: list[str] = field(default_factory=list)
    flagged: int = 0
    predicted: Counter[str] = field(default_factory=Counter)
    labelled: int = 0
    seen: int = 0
    abstained: int = 0
    tested: int = 0
    correct: int = 0
    covered: int = 0
    set_sizes: Counter[int] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.perf_counter)

    def add(self, scores: Scores) -> None:
        """Count rows."""
        self.n += len(scores)
        self.unscorable += int((~scores.scorable).sum())
        self.reasons += list(scores.problems.values())[: MAX_REASONS - len(self.reasons)]
        predicted, known = np.where(scores.abstained, -1, scores.classes), scores.known
        counts = np.bincount(predicted + 1, minlength=len(scores.class_names) + 1)
        self.predicted.update(dict(zip(scores.class_names, counts[1:].tolist(), strict=True)))
        testable = scores.testable
        self.labelled += int(known.sum())
        self.seen += int(known.sum() - testable.sum())
        self.abstained += int(scores.abstained.sum())
        self.tested += int((testable & ~scores.abstained).sum())
        self.correct += int((predicted == scores.labels)[testable & ~scores.abstained].sum())
        if scores.thresholds is not None:
            sets, labels = scores.sets, scores.labels
            self.set_sizes.update(sets[scores.scorable].sum(axis=1).tolist())
            rows = np.flatnonzero(testable & (labels >= 0))
            self.covered += int(sets[rows, labels[rows]].sum())
        self.unknown.update(label for place, label in scores.unknown_labels.items() if known[place])
        if scores.rule:
            self.flagged += int(scores.is_ood.sum())

    @property
    def scored(self) -> int:
        """Number of rows that could be scored."""
        return self.n - self.unscorable

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions for labels that the training has not used; None without such rows."""
        return self.correct / self.tested if self.tested else None
