"""Rows of `flowgmm sample`: draws, class means, paths between rows, and transfer between classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from flowgmm_cli.cli import output
from flowgmm_cli.inference.inputs import read_first_rows, select_rows
from flowgmm_cli.inference.interpolation import (
    InterpolationPath,
    column_errors,
    interpolate,
    round_trip_error,
    transfer,
    transfer_all,
)
from flowgmm_cli.inference.samples import class_index, concatenate_generated
from flowgmm_cli.inference.sampling import draw_samples

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.api import Rows
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.data.readers.base import RowReader
    from flowgmm_cli.inference.samples import GeneratedRows
    from flowgmm_cli.model import Model
    from flowgmm_cli.trained_model import TrainedModel

ALL = "all"
"""Value of `--transfer` that stands for every class, unless a class has this name."""


def draw(
    trained: TrainedModel,
    classes: Sequence[str] | None,
    n: int,
    temperatures: Sequence[float],
    *,
    seed: int,
    source: Model,
) -> GeneratedRows:
    """Draw `n` rows of each class, or in all by the classes' weights, at each temperature."""
    indices = [class_index(trained, name) for name in classes] if classes else None
    draws = [
        draw_samples(
            trained,
            n,
            classes=indices,
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),  # the same numbers for all
            source=source,
        )
        for temperature in temperatures
    ]
    return _concatenate(draws, "temperature", temperatures)


def interpolate_pairs(
    session: Session,
    reader: RowReader,
    pairs: Sequence[tuple[str, str]],
    *,
    steps: int,
    path: InterpolationPath,
) -> tuple[GeneratedRows, Rows]:
    """Generate `steps` rows on the path between the rows of each pair; also return the rows of the pairs."""
    rows = select_rows(reader, [name for pair in pairs for name in pair])
    x = _note_round_trip(session, rows)
    paths = [interpolate(session.trained, ends, steps=steps, path=path) for ends in torch.split(x, 2)]
    return _concatenate(paths, "path", [f"{first} to {last}" for first, last in pairs]), rows


def transfer_rows(
    session: Session, reader: RowReader, target: str, max_rows: int | None
) -> tuple[GeneratedRows, Rows]:
    """Transfer the first rows, or all, into a class, or into each (`ALL`); also return those rows."""
    trained = session.trained
    index = None if target == ALL and ALL not in trained.class_names else class_index(trained, target)
    rows = read_first_rows(reader, max_rows)
    x = _note_round_trip(session, rows)
    if index is None:
        return transfer_all(trained, x, ids=rows.ids), rows
    return transfer(trained, x, index, ids=rows.ids), rows


def _concatenate(parts: Sequence[GeneratedRows], column: str, values: Sequence[Any]) -> GeneratedRows:
    """Concatenate several parts, with a column that says which part a row belongs to."""
    return parts[0] if len(parts) == 1 else concatenate_generated(parts, extra_columns={column: values})


def _note_round_trip(session: Session, rows: Rows) -> torch.Tensor:
    """Return the flow's inputs of rows; a note says how exactly flow and transforms can be inverted."""
    trained = session.trained
    x = trained.preprocessor.apply(rows, session.context).x
    error = round_trip_error(trained, x)
    output.note(f"the rows come back from the latent space with an error of at most {error:.1g}")
    errors = {name: share for name, share in column_errors(trained, rows, x).items() if share > 1e-4}
    for name, share in errors.items():
        output.note(f"`{name}` comes back within {share:.2%} of its range: the transforms lose the rest")
    for reason in trained.preprocessor.inexact if errors else ():
        output.debug(reason)
    return x


def find_nearest_texts(session: Session, rows: GeneratedRows, k: int) -> dict[str, npt.NDArray[Any]]:
    """Return columns of the k nearest training texts of each row; none if the model reads no texts."""
    encoder = session.trained.preprocessor.feature_encoder
    if not any(column.kind == "text" for column in encoder.columns):
        return {}
    from flowgmm_cli.inference.nearest_texts import nearest_text_columns

    training = session.own_rows("showing texts near to a sample").train
    return nearest_text_columns(encoder, rows.features, training, session.context, k=k)
