"""Groups of unlabelled rows of unknown kinds, with the words or columns that mark them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.array_types import Array, Bools, Columns, Floats, Ints
from flowgmm_cli.data.column_encoders import as_strings
from flowgmm_cli.data.readers.base import Chunk, RowReader
from flowgmm_cli.devices import find_device
from flowgmm_cli.inference.groups import Groups, candidate_threshold, find_groups
from flowgmm_cli.inference.inputs import add_inputs
from flowgmm_cli.inference.row_summary import finite_rows, number_series
from flowgmm_cli.inference.scores import OODRule, Scores
from flowgmm_cli.inference.scoring import Scorer, to_device
from flowgmm_cli.trained_model import TrainedModel

MARKS = 6
"""Words or columns that mark a group."""
_MAX_WORDS = 50_000  # different ones


class CollectingReader(RowReader):
    """A reader that keeps the rows which pass through it in `rows`."""

    def __init__(self, reader: RowReader) -> None:
        self.name, self.total = reader.name, reader.total
        self.rows: list[Rows] = []
        self._reader = reader

    def _read_chunks(self) -> Iterator[Chunk]:
        for chunk in self._reader:
            self.rows.append(chunk)
            yield chunk


def score_in_memory(trained: TrainedModel, rows: Rows, context: DataContext, rule: OODRule | None) -> Scores:
    """Score rows of a run, with the inputs of the flow as vectors; vectors of texts come from the cache."""
    model = to_device(trained, find_device("auto", names=("auto", "cpu", "cuda")))
    names = (rule.score,) if rule else ()
    return Scorer(model, context, "the run", names, rule, "input", "keep")(
        Chunk(rows.columns, rows.labels, rows.ids)
    )


@dataclass(frozen=True)
class Mark:
    """A column whose cells in a group differ from those of all rows, by `difference` standard deviations.

    `group` and `all` are means, or shares of the category `value`.
    """

    column: str
    difference: float
    group: float
    all: float
    value: str | None = None

    def describe(self) -> str:
        """Describe the difference in a few words."""
        if self.value is not None:
            return f"{self.column} {self.value} ({self.group:.0%}, all rows {self.all:.0%})"
        return f"{self.column} {self.difference:+.1f} sd"


@dataclass(frozen=True)
class Discovery:
    """Groups among rows, and the rows that they are compared with.

    Attributes:
        rows: the run's own rows, and those of another input after them.
        scores: of these rows, with the inputs of the flow as vectors.
        searched: mask of the rows of the input, `(N,)`.
        candidates: mask of those of an unknown kind, `(N,)`.
        groups: groups of the candidates.
        columns: the input columns.
    """

    rows: Rows
    scores: Scores
    searched: Bools
    candidates: Bools
    groups: Groups
    columns: tuple[Column, ...]

    @property
    def certainty(self) -> tuple[str, Floats]:
        """Name and values `(N,)` of the probability, or score, by which the candidates were selected."""
        if self.scores.rule is not None or self.scores.p_unknown is None:
            return "ood_score", self.scores.ood_score
        return "p_unknown", self.scores.p_unknown

    def table(self) -> Columns:
        """Return the columns `id`, `group` from 1, `p_unknown` or `ood_score`, and those of the input."""
        places = np.flatnonzero(self.groups.labels >= 0)
        name, values = self.certainty
        own: Columns = {
            "id": self.rows.ids[places],
            "group": self.groups.labels[places] + 1,
            name: values[places].astype(np.float32),
        }
        return add_inputs(own, self.rows.take(places), self.columns)

    def likely_class(self, group: int) -> tuple[str, float]:
        """Return the class that the rows of a group would most often get, and its share."""
        counts = np.bincount(self.scores.classes[self.groups.members(group)])
        return self.scores.class_names[counts.argmax()], float(counts.max() / counts.sum())

    def marks(self) -> list[tuple[list[str], list[Mark]]]:
        """Return the words and columns that mark each group, the strongest first."""
        words = [group_words(self._texts(), self.groups)] if self._has_text else []
        differences = [
            column_marks(column, self.rows.columns[column.name], self.groups)
            for column in self.columns
            if column.kind not in ("text", "image")
        ]
        return [
            (
                words[0][group] if words else [],
                sorted(
                    (mark for marks in differences for mark in marks[group]),
                    key=lambda mark: -abs(mark.difference),
                )[:MARKS],
            )
            for group in range(len(self.groups))
        ]

    @property
    def _has_text(self) -> bool:
        return any(column.kind == "text" for column in self.columns)

    def _texts(self) -> list[str]:
        texts = [as_strings(self.rows.columns[c.name]) for c in self.columns if c.kind == "text"]
        return ["\n".join(cells) for cells in zip(*texts, strict=True)]


def discover(
    trained: TrainedModel,
    rows: Rows,
    scores: Scores,
    own: int,
    progress: Callable[[int], None] | None = None,
) -> Discovery:
    """Find groups among the unlabelled rows of a run, or those of another input.

    Args:
        trained: the model.
        rows: the run's own rows, then those of another input if there is one.
        scores: of these rows, with the inputs of the flow as vectors. With a rule, the rows that it flags are
            divided.
        own: number of the run's own rows.
        progress: called with each number of groups that is tried.
    """
    is_own = np.arange(len(rows)) < own
    searched = is_own if own == len(rows) else ~is_own
    labelled = is_own & (rows.labels >= 0)
    usable = scores.scorable & ~labelled
    if scores.rule is not None or scores.p_unknown is None:
        candidates = usable & scores.is_ood
    else:
        share = (trained.facts.get("unknown") or {}).get("share", 0.0)
        own_p = scores.p_unknown[is_own & usable]
        candidates = usable & (scores.p_unknown > candidate_threshold(own_p, share))
    classes = np.where(labelled, rows.labels, scores.classes)
    classes[candidates & ~searched] = -1  # rows of the run that belong to no class are no help
    vectors = np.zeros((len(rows), 1), np.float32) if scores.vectors is None else scores.vectors
    candidates &= searched
    groups = find_groups(vectors, candidates, classes, progress=progress)
    return Discovery(rows, scores, searched & ~labelled, candidates, groups, trained.preprocessor.columns)


def group_words(texts: Sequence[str], groups: Groups) -> list[list[str]]:
    """Return the words that mark each group: class TF-IDF.

    The frequency of a word in a group is weighted by the logarithm of its ratio to the frequency in all
    texts, so that common words count little in any language.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    pattern = r"(?u)\b[^\W\d]\w+\b"
    vectorizer = CountVectorizer(
        max_features=_MAX_WORDS, token_pattern=pattern, binary=True, stop_words="english"
    )
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # there is no word
        return [[] for _ in range(len(groups))]
    names = vectorizer.get_feature_names_out()
    inside = np.flatnonzero(groups.labels >= 0)
    entries = np.ones(len(inside)), (groups.labels[inside], inside)
    totals = (sparse.csr_array(entries, shape=(len(groups), len(texts))) @ counts).toarray()
    frequency = totals / np.maximum(totals.sum(1, keepdims=True), 1)
    overall = np.asarray(counts.sum(axis=0)).ravel() / counts.sum()
    weights = frequency * np.log(np.maximum(frequency, 1e-12) / overall)
    weights[totals < 2] = 0
    best = np.argsort(-weights, axis=1, kind="stable")[:, :MARKS]
    return [[str(names[word]) for word in row if weights[group, word] > 0] for group, row in enumerate(best)]


def column_marks(column: Column, cells: Array, groups: Groups) -> list[list[Mark]]:
    """Compare the cells of a column in each group with those of all rows, in standard deviations."""
    if column.kind == "category":
        return _category_marks(column.name, as_strings(cells), groups)
    marks: list[list[Mark]] = [[] for _ in range(len(groups))]
    for name, series in number_series(column, cells).items():
        values = series[:, 1]
        known = finite_rows(series)[:, 1]
        if not len(known) or (deviation := known.std()) == 0:
            continue
        for group, mark in enumerate(marks):
            members = values[groups.labels == group]
            members = members[np.isfinite(members)]
            if len(members):
                mean, overall = float(members.mean()), float(known.mean())
                mark.append(Mark(name, float((mean - overall) / deviation), mean, overall))
    return marks


def _category_marks(name: str, cells: Sequence[str], groups: Groups) -> list[list[Mark]]:
    """Return the category that is most overrepresented in each group."""
    values, codes = np.unique(np.array(cells, dtype=str), return_inverse=True)
    overall = np.bincount(codes, minlength=len(values)) / len(codes)
    deviations = np.sqrt(np.maximum(overall * (1 - overall), 1e-12))

    def strongest(members: Ints) -> list[Mark]:
        shares = np.bincount(members, minlength=len(values)) / len(members)
        differences = (shares - overall) / deviations
        best = int(differences.argmax())
        share = float(shares[best]), float(overall[best])
        return [Mark(name, float(differences[best]), *share, value=str(values[best]))]

    if len(values) < 2:
        return [[] for _ in range(len(groups))]
    return [strongest(codes[groups.labels == group]) for group in range(len(groups))]


def to_dict(discovery: Discovery, typical: int) -> list[dict[str, Any]]:
    """Return each group as plain values for JSON, with the ids of its most typical rows."""
    total, values = int(discovery.searched.sum()), []
    _, certainty = discovery.certainty
    for group, (words, marks) in enumerate(discovery.marks()):
        members = discovery.groups.members(group)
        name, share = discovery.likely_class(group)
        values.append(
            {
                "group": group + 1,
                "rows": len(members),
                "share": len(members) / max(total, 1),
                discovery.certainty[0]: float(certainty[members].mean()),
                "words": words,
                "columns": [vars(mark) for mark in marks],
                "typical": discovery.rows.ids[members[:typical]].tolist(),
                "predicted": {"class": name, "share": share},
            }
        )
    return values
