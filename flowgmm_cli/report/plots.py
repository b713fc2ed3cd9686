"""The figures of `flowgmm eval --plots`: from a run's held-out rows to PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.prepare import SplitRows
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.files import write_bytes
from flowgmm_cli.report.confusion import confusion_figure
from flowgmm_cli.report.figures import png
from flowgmm_cli.report.latent import LatentRows, latent_figure
from flowgmm_cli.report.regions import Plane, grid_over, regions_figure
from flowgmm_cli.report.reliability import reliability_figure
from flowgmm_cli.runs import Run
from flowgmm_cli.trained import TrainedModel, encode
from flowgmm_cli.training.score import HeldOut, load_held_out

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_plots(run: Run, result: Evaluation, *, context: DataContext) -> list[Path]:
    """Draw what `result` found on a split of a run; the files are `eval/<split>-<figure>.png`.

    Args:
        run: the run.
        result: evaluation of one of its splits.
        context: surroundings of the data source.

    Returns:
        The files written, in the order drawn.

    Raises:
        DataError: the data is gone.
    """
    held = load_held_out(run, split=result.split, context=context)
    figures: dict[str, Figure] = {
        "reliability": reliability_figure(result.classification),
        "confusion": confusion_figure(result.classification),
    }
    if held.trained.preprocessor.dim >= 2:
        members = len(held.trained.model.parts)
        title = "Latent space" if members == 1 else f"Latent space of the first of {members} members"
        figures["latent"] = latent_figure(latent_rows(held), title=title)
    if (plane := input_plane(held.trained, held.rows, context)) is not None:
        figures["regions"] = regions_figure(plane)
    written = []
    for name, figure in figures.items():
        path = run.path / "eval" / f"{result.split}-{name}.png"
        write_bytes(path, png(figure))
        written.append(path)
    return written


def latent_rows(held: HeldOut) -> LatentRows:
    """The held-out rows in the latent space of the model; of an ensemble, of its first member."""
    first = held.trained.model.parts[0]
    means, scales = first.mixture.moments()
    return LatentRows(
        z=encode(first, held.split.x).z.double().numpy(),
        labels=held.split.labels.numpy(),
        means=means.detach().double().cpu().numpy(),
        scales=scales.detach().double().cpu().numpy(),
        class_names=held.trained.class_names,
    )


def input_plane(trained: TrainedModel, rows: SplitRows, context: DataContext) -> Plane | None:
    """What a model of two numeric features says of the plane around its training rows; None of any other."""
    names = trained.preprocessor.featuriser.feature_names
    columns = trained.preprocessor.featuriser.columns
    if len(names) != 2 or any(column.kind not in ("numeric", "vector") for column in columns):
        return None
    points = np.concatenate([_matrix(rows.train, column.name) for column in columns], axis=1)
    finite = np.isfinite(points).all(1)
    x, y = grid_over(points[finite])
    cells = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    count = len(cells)
    made: dict[str, Any] = {}
    start = 0
    for column in columns:
        width = int(np.prod(column.shape, dtype=int))
        made[column.name] = cells[:, start : start + width].reshape(count, *column.shape)
        start += width
    grid = Rows(made, np.full(count, -1), np.array([f"cell:{index}" for index in range(count)], dtype=object))
    found = trained.predict(trained.preprocessor.apply(grid, context))
    shape = (len(y), len(x))
    return Plane(
        x=x,
        y=y,
        probabilities=np.exp(found.log_probabilities).reshape(*shape, -1),
        log_density=found.log_density.reshape(shape),
        rows=points[finite],
        labels=rows.train.labels[finite],
        class_names=trained.class_names,
        feature_names=names,
    )


def _matrix(rows: Rows, name: str) -> Any:
    cells = np.asarray(rows.columns[name], dtype=np.float64)
    return cells.reshape(len(cells), -1)
