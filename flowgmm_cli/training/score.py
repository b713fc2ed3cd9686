"""A finished run's model on the rows it was not trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import SplitRows, load_rows
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.evaluation.baselines import run_baselines
from flowgmm_cli.evaluation.evaluate import Evaluation, evaluate
from flowgmm_cli.evaluation.predictions import collect_predictions
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel


def score_run(
    run: Run,
    *,
    split: str,
    context: DataContext,
    with_baselines: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Evaluate a run on its `test` or `val` rows; what it said of each row is kept in `eval/<split>.npz`.

    Args:
        run: a finished run.
        split: `test` or `val`.
        context: surroundings of the data source.
        with_baselines: fit the baselines on the same training rows and labels.
        progress: of the baselines.
        warn: told if the data is no longer what the model was trained on.

    Raises:
        RunError: the run has no model.
        DataError: the data is missing, or the split has no labels.
    """
    held = load_held_out(run, split=split, context=context, warn=warn)
    trained, held_out = held.trained, held.split
    found = trained.predict(held_out)
    labels = held_out.labels.numpy()
    known = labels >= 0
    baselines = None
    if with_baselines:
        train = trained.preprocessor.apply(held.rows.train, context)
        baselines = run_baselines(
            train.x.numpy(),
            train.labels.numpy(),
            held_out.x.numpy()[known],
            labels[known],
            seed=trained.recipe.run.seed,
            progress=progress,
        )
    chosen = held.rows.test if split == "test" else held.rows.val
    if chosen is not None:
        said = collect_predictions(chosen, held.rows.columns, found.log_probabilities, trained.class_names)
        said.save(run.path / "eval" / f"{split}.npz")
    return evaluate(
        split,
        found.log_probabilities,
        found.log_density,
        labels,
        trained.class_names,
        baselines,
        pixels=trained.preprocessor.pixels,
    )


@dataclass(frozen=True)
class HeldOut:
    """A run's model with rows it was not trained on.

    Attributes:
        trained: the model.
        rows: all rows, divided as in training.
        split: the held-out ones, preprocessed, with their labels.
    """

    trained: TrainedModel
    rows: SplitRows
    split: Tensors


def load_held_out(
    run: Run, *, split: str, context: DataContext, warn: Callable[[str], None] = lambda text: None
) -> HeldOut:
    """Load a finished run's model and its `test` or `val` rows; arguments and errors as in `score_run`."""
    info = run.info()
    if not (run.path / "model.json").is_file():
        raise RunError(
            f"run {run.path} has no model yet; its status is {info.get('status')}",
            hint=f"flowgmm train --resume {run.path}",
        )
    trained = TrainedModel.load(run.path, context=context)
    rows = load_rows(trained.recipe.data, context)
    if rows.fingerprint != info.get("fingerprint"):
        warn("the data has changed since this run was trained: rows it is tested on may be rows it has seen")
    if rows.class_names != trained.class_names:
        raise DataError(
            "the classes of the data are no longer those of the model",
            details=[f"data: {', '.join(rows.class_names)}", f"model: {', '.join(trained.class_names)}"],
        )
    chosen = rows.test if split == "test" else rows.val
    if chosen is None or not (chosen.labels >= 0).any():
        raise DataError(
            f"this run has no labelled {split} rows",
            hint="data.split.test makes a test split; data.split.val_labels uses labels of the held-out rows",
        )
    return HeldOut(trained, rows, trained.preprocessor.apply(chosen, context))
