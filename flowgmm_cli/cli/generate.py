"""Rows of `flowgmm sample`: draws, class means, paths between rows, and transfer between classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
from flowgmm_cli.inference.sampling import class_means, draw_samples

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.api import Rows
    from flowgmm_cli.cli.session import Session
    from flowgmm_cli.inference.samples import GeneratedRows

ALL = "all"
"""Value of `--transfer` that stands for every class, unless a class has this name."""


@dataclass(frozen=True)
class Request:
    """Options of `flowgmm sample`.

    Attributes:
        classes: classes to draw from; None draws them by their weights.
        n: rows of each class, or rows in all.
        temperatures: factors on the standard deviations.
        seed: of the random numbers.
        around: draw around the training rows of each class, or around the class means.
        means: generate the class means.
        pairs: the two rows of each path.
        steps: rows of a path, both ends included.
        path: shape of a path.
        target: class, or `ALL`, that rows are transferred into.
        max_rows: number of rows to transfer; None for all.
        data, data_format: rows to start from; None for the run's own.
    """

    classes: Sequence[str] | None
    n: int
    temperatures: Sequence[float]
    seed: int
    around: Literal["rows", "means"]
    means: bool
    pairs: Sequence[tuple[str, str]]
    steps: int
    path: InterpolationPath
    target: str | None
    max_rows: int | None
    data: str | None
    data_format: str | None

    @property
    def mode(self) -> str:
        """The way rows are generated: `interpolate`, `transfer`, `means` or `draw`."""
        if self.pairs:
            return "interpolate"
        return "transfer" if self.target else "means" if self.means else "draw"


def generate(session: Session, request: Request) -> tuple[GeneratedRows, Rows | None]:
    """Generate rows; also return the rows that they were generated from, if any."""
    trained = session.trained
    source = trained.sampling_model if request.around == "rows" else trained.model
    if request.mode == "means":
        return class_means(trained, source=source), None
    if request.mode == "draw":
        classes = [class_index(trained, name) for name in request.classes] if request.classes else None
        draws = [
            draw_samples(
                trained,
                request.n,
                classes=classes,
                temperature=temperature,
                generator=torch.Generator().manual_seed(request.seed),  # the same numbers for all
                source=source,
            )
            for temperature in request.temperatures
        ]
        return _concatenate(draws, "temperature", request.temperatures), None
    reader = session.open_rows(
        request.data, purpose=f"--{request.mode}", data_format=request.data_format, on_error="fail"
    )
    if request.mode == "interpolate":
        rows = select_rows(reader, [name for pair in request.pairs for name in pair])
        x = _note_round_trip(session, rows)
        paths = [
            interpolate(trained, ends, steps=request.steps, path=request.path) for ends in torch.split(x, 2)
        ]
        names = [f"{first} to {last}" for first, last in request.pairs]
        return _concatenate(paths, "path", names), rows
    target = request.target or ALL
    index = None if target == ALL and ALL not in trained.class_names else class_index(trained, target)
    rows = read_first_rows(reader, request.max_rows)
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
