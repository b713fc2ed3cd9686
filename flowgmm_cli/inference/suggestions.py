"""Suggested rows: which to label next, with the reason for each, as a table or as tasks of Label Studio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.array_types import Array, Bools, Columns, FloatArray, Floats, Ints
from flowgmm_cli.data.pile import Pile
from flowgmm_cli.data.writers.base import to_arrow
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.inference.inputs import add_inputs
from flowgmm_cli.inference.row_choice import Pick, choose_rows
from flowgmm_cli.inference.scores import Scores
from flowgmm_cli.trained_model import TrainedModel, encode

UNKNOWN = "unlike the named classes"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Suggestions:
    """Rows to label next, the most useful first.

    Attributes:
        rows: the rows.
        columns: their input columns.
        reasons: why each was chosen.
        suggested: likeliest class of each row, None without a model.
        confidence: its probability, NaN without a model.
    """

    rows: Rows
    columns: tuple[Column, ...]
    reasons: tuple[str, ...]
    suggested: Array
    confidence: Floats

    def __len__(self) -> int:
        return len(self.rows)

    def table(self) -> Columns:
        """Return the columns `id`, `label`, which is empty, `suggested`, `reason`, and those of the input.

        Images have the column `file`.
        """
        own: dict[str, Array] = {
            "id": self.rows.ids,
            "label": np.full(len(self), None),
            "suggested": self.suggested,
            "reason": np.array(self.reasons, dtype=object),
        }
        if self.shows_images:
            own["file"] = self.rows.ids
        return add_inputs(own, self.rows, self.columns)

    @property
    def shows_images(self) -> bool:
        """True if the rows are images, whose ids are their paths."""
        return any(column.kind == "image" for column in self.columns)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as plain values, without their input."""
        values = zip(
            self.rows.ids.tolist(),
            self.suggested.tolist(),
            self.confidence.tolist(),
            self.reasons,
            strict=True,
        )
        return [
            {"id": str(name), "suggested": suggested, "confidence": confidence, "reason": reason}
            for name, suggested, confidence, reason in values
        ]

    def tasks(self, texts: Sequence[str], version: str) -> list[dict[str, Any]]:
        """Return tasks for Label Studio, whose labelling interface has `Choices` named `label`.

        Args:
            texts: a line about each row to read; images are shown instead.
            version: name of the model of the predictions.
        """
        shown = "image" if self.shows_images else "text"
        inputs = {
            name: to_arrow(cells).to_pylist()
            for name, cells in add_inputs({}, self.rows, self.columns).items()
        }
        tasks = []
        for place, (row, text) in enumerate(zip(self.to_dicts(), texts, strict=True)):
            data = {"id": row["id"], shown: row["id"] if shown == "image" else text, "reason": row["reason"]}
            cells = {name: values[place] for name, values in inputs.items()}  # exports may lack the id
            task: dict[str, Any] = {"data": {**data, **cells}, "predictions": []}
            if row["suggested"] is not None:
                choice = {"type": "choices", "from_name": "label", "to_name": shown}
                result = {**choice, "value": {"choices": [row["suggested"]]}}
                scored = {"model_version": version, "score": row["confidence"], "result": [result]}
                task["predictions"] = [scored]
            tasks.append(task)
        return tasks


def suggest_of_pile(pile: Pile, count: int, progress: Progress) -> Suggestions:
    """Suggest rows of a pile without a model: the typical ones of its groups."""
    picks = choose_rows(pile.x, pile.rows.labels, count, progress=progress)
    rows = pile.rows.take(np.array([pick.place for pick in picks], np.int64))
    reasons = tuple(map(_describe_group, picks))
    none = np.full(len(rows), None)
    return Suggestions(rows, pile.columns, reasons, none, np.full(len(rows), np.nan))


def suggest_of_run(
    trained: TrainedModel, rows: Rows, scores: Scores, own: int, count: int, progress: Progress
) -> Suggestions:
    """Suggest unlabelled rows of a run, or of another input.

    Args:
        trained: the model.
        rows: the run's own rows, then those of another input if there is one.
        scores: of these rows, with the inputs of the flow as vectors.
        own: number of the run's own rows.
        count: number of rows.
        progress: see `choose_rows`.
    """
    hidden = np.zeros(len(rows), bool)
    if own < len(rows):  # of the run's own rows only the labelled ones count
        hidden[:own] = rows.labels[:own] < 0
    picks = choose_scored(trained, rows.labels, scores, count, hidden=hidden, progress=progress)
    places = np.array([pick.place for pick in picks], np.int64)
    return Suggestions(
        rows.take(places),
        trained.preprocessor.columns,
        _describe(picks, scores),
        scores.prediction[places],
        scores.confidence[places],
    )


def choose_scored(
    trained: TrainedModel,
    labels: Ints,
    scores: Scores,
    count: int,
    *,
    hidden: Bools | None = None,
    seed: int = 0,
    progress: Progress = lambda done, total: None,
) -> list[Pick]:
    """Choose rows by their vectors and class probabilities, but none of the `hidden`; see `choose_rows`."""
    if scores.vectors is None:
        raise ValueError("the rows were scored without vectors")
    usable = scores.scorable if hidden is None else scores.scorable & ~hidden
    x = np.where(usable[:, None], scores.vectors, np.float32(np.nan))
    kinds = np.where(_is_unknown(scores), len(scores.class_names), scores.classes)
    doubt = measure_doubt(scores.log_probabilities) + _disagreement(trained, x)
    return choose_rows(x, labels, count, doubt=doubt, classes=kinds, seed=seed, progress=progress)


def measure_doubt(log_probabilities: Floats) -> Floats:
    """Return one minus the difference of the two largest probabilities of each row, `(N,)`."""
    probabilities = np.sort(np.exp(log_probabilities), axis=1)
    runner_up = probabilities[:, -2] if probabilities.shape[1] > 1 else 0.0
    return np.asarray(1 - probabilities[:, -1] + runner_up)


def _disagreement(trained: TrainedModel, vectors: FloatArray) -> Floats | float:
    """Return the variance of the members' probabilities, summed over classes `(N,)`; 0 of one member."""
    model, x = trained.model, torch.from_numpy(vectors)
    if len(model.parts) == 1:
        return 0.0
    members = torch.stack([model.log_posterior(encode(part, x)).exp() for part in model.parts])
    return np.asarray(members.var(dim=0, correction=0).sum(1).numpy())


def _is_unknown(scores: Scores) -> Any:
    return np.zeros(len(scores), bool) if scores.p_unknown is None else scores.p_unknown > 0.5


def _describe(picks: Sequence[Pick], scores: Scores) -> tuple[str, ...]:
    unknown = _is_unknown(scores)
    likeliest = np.argsort(-scores.log_probabilities, axis=1)[:, :2]
    reasons = []
    for pick in picks:
        between = " and ".join(scores.class_names[k] for k in sorted(likeliest[pick.place].tolist()))
        reason = _describe_group(pick) if pick.rows else f"between {between}"
        reasons.append(UNKNOWN if unknown[pick.place] else reason)
    return tuple(reasons)


def _describe_group(pick: Pick) -> str:
    rows = pluralise(pick.rows, "row")
    return f"typical of {rows} " + (
        f"with {pluralise(pick.labels, 'label')}" if pick.labels else "without labels"
    )
