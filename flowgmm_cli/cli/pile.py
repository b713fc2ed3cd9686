"""The rows of a run that were not held out for the test, and those of another input, with their scores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flowgmm_cli.cli import output
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.api import Rows
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.data.splits import SplitData
    from flowgmm_cli.inference.scores import OODRule, Scores


def score_pile(
    session: Session, data: str | None, data_format: str | None, rule: OODRule | None, *, purpose: str
) -> tuple[SplitData, Rows, Scores, int]:
    """Score the training and validation rows of a run, and the rows of `data`; `purpose` is for messages.

    Returns:
        The run's rows by split; the rows of the pile, those of `data` last; their scores, which have the
        inputs of the flow as vectors; and the number of these rows that are the run's own.
    """
    from flowgmm_cli.inference.discovery import CollectingReader, score_in_memory
    from flowgmm_cli.inference.inputs import concatenate_rows, training_rows
    from flowgmm_cli.inference.scores import Scores

    own = session.own_rows(purpose)
    if own.chunked is not None and data is None:
        output.note(f"rows    the {len(own.train):,} rows of the run that are in memory are searched")
    pile = training_rows(own)
    parts: list[tuple[Rows, Scores]] = [(pile, score_in_memory(session.trained, pile, session.context, rule))]
    names = ["the run"]
    if data is not None:
        rows = session.open_rows(data, purpose=purpose, data_format=data_format, on_error="keep")
        reader = CollectingReader(rows)
        scored = list(session.score(reader, "score", space="input", rule=rule))
        if not scored:
            raise DataError(f"{reader.name} has no rows")
        parts.append((concatenate_rows(reader.rows), Scores.concatenate(scored)))
        names.append(reader.name)
    for name, (_, scores) in zip(names, parts, strict=True):
        if (bad := int((~scores.scorable).sum())) == len(scores):
            raise DataError(f"none of the {bad:,} rows of {name} could be scored")
        if bad:
            output.warn(f"{bad:,} of the {len(scores):,} rows of {name} could not be scored")
    columns = [column.name for column in session.trained.preprocessor.columns]
    inputs = [
        replace(part, columns={name: part.columns[name] for name in columns}, extras={}) for part, _ in parts
    ]
    places = zip(parts, (0, len(pile)), strict=False)
    scores = Scores.concatenate([replace(part, start=start) for (_, part), start in places])
    return own, concatenate_rows(inputs), scores, len(pile)
