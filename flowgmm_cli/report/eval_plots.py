"""The figures of `flowgmm eval --plots`, as PNG files in the run directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm_cli.api import DataContext
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.files import write_bytes
from flowgmm_cli.inference.evaluate_run import load_held_out
from flowgmm_cli.report.confusion import confusion_figure
from flowgmm_cli.report.decision_regions import predict_plane, regions_figure
from flowgmm_cli.report.figures import png
from flowgmm_cli.report.latent import encode_latents, latent_figure
from flowgmm_cli.report.reliability import reliability_figure
from flowgmm_cli.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_plots(run: Run, evaluation: Evaluation, *, context: DataContext) -> list[Path]:
    """Draw the evaluation of a split of a run into `eval/<split>-<figure>.png`; return the files.

    Raises:
        DataError: the data cannot be read any more.
    """
    held = load_held_out(run, split=evaluation.split, context=context)
    figures: dict[str, Figure] = {
        "reliability": reliability_figure(evaluation.classification),
        "confusion": confusion_figure(evaluation.classification),
    }
    if held.trained.preprocessor.dim >= 2:
        members = len(held.trained.model.parts)
        title = "Latent space" if members == 1 else f"Latent space of the first of {members} members"
        latents = encode_latents(held.trained, held.split.x, held.split.labels)
        figures["latent"] = latent_figure(latents, title=title)
    plane = predict_plane(held.trained, held.rows, context)
    if plane is not None:
        figures["regions"] = regions_figure(plane)
    paths = []
    for name, figure in figures.items():
        paths.append(run.path / "eval" / f"{evaluation.split}-{name}.png")
        write_bytes(paths[-1], png(figure))
    return paths
