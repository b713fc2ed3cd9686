"""Evaluation of a finished run on its held-out rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.data.splits import SplitRows
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.evaluation.baselines import run_baselines
from flowgmm_cli.evaluation.metrics import Evaluation, evaluate
from flowgmm_cli.evaluation.predictions import collect_predictions
from flowgmm_cli.inference.inputs import load_run_rows
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel


def evaluate_run(
    run: Run,
    *,
    split: str,
    context: DataContext,
    with_baselines: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Evaluate a run on its `test` or `val` rows; writes its predictions to `eval/<split>.npz`.

    Args:
        run: a finished run.
        split: `test` or `val`.
        context: context of the data source.
        with_baselines: fit the baselines on the same training rows and labels.
        progress: progress of the baselines.
        warn: called if the data has changed since the training.

    Raises:
        RunError: the run has no model.
        DataError: the data is missing, or the split has no labels.
    """
    data = load_held_out(run, split=split, context=context, warn=warn)
    trained, held_out = data.trained, data.split
    predictions = trained.predict(held_out)
    labels = held_out.labels.numpy()
    is_labelled = labels >= 0
    baselines = None
    if with_baselines:
        train = trained.preprocessor.apply(data.rows.train, context)
        baselines = run_baselines(
            train.x.numpy(),
            train.labels.numpy(),
            held_out.x.numpy()[is_labelled],
            labels[is_labelled],
            seed=trained.recipe.run.seed,
            progress=progress,
        )
    chosen = data.rows.test if split == "test" else data.rows.val
    if chosen is not None:
        stored = collect_predictions(
            chosen, data.rows.columns, predictions.log_probabilities, trained.class_names
        )
        stored.save(run.path / "eval" / f"{split}.npz")
    return evaluate(
        split,
        predictions.log_probabilities,
        predictions.log_density,
        labels,
        trained.class_names,
        baselines,
        pixels=trained.preprocessor.pixels,
    )


@dataclass(frozen=True)
class HeldOutRows:
    """A trained model with rows that it was not trained on.

    Attributes:
        trained: the model.
        rows: all rows, split as in training.
        split: the held-out rows, preprocessed, with their labels.
    """

    trained: TrainedModel
    rows: SplitRows
    split: Tensors


def load_held_out(
    run: Run, *, split: str, context: DataContext, warn: Callable[[str], None] = lambda text: None
) -> HeldOutRows:
    """Load a finished run's model and its `test` or `val` rows; arguments and errors as in `evaluate_run`."""
    if not (run.path / "model.json").is_file():
        raise RunError(
            f"run {run.path} has no model yet; its status is {run.info().get('status')}",
            hint=f"flowgmm train --resume {run.path}",
        )
    trained = TrainedModel.load(run.path, context=context)
    rows = load_run_rows(run, trained, context, warn=warn, purpose="an evaluation")
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
    return HeldOutRows(trained, rows, trained.preprocessor.apply(chosen, context))
