"""Evaluation of a finished run on its held-out rows, or on other rows with labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.baselines.run import ComparedRows, compare_with_baselines
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.evaluation.evaluation_file import (
    CROSS_FITTED,
    CrossFittedPredictions,
    collect_predictions,
    cross_fitted_file,
    evaluate_cross_fitted,
    save_evaluation,
)
from flowgmm_cli.evaluation.metrics import Evaluation, evaluate
from flowgmm_cli.formatting import method_name
from flowgmm_cli.inference.inputs import load_run_rows
from flowgmm_cli.inference.scores import Scores
from flowgmm_cli.messages import quote
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.user_files import allow_read_only

_MAX_UNKNOWN_CLASSES = 100
_OTHER = "(other)"


def evaluate_run(
    run: Run,
    *,
    split: str,
    context: DataContext,
    with_baselines: bool = False,
    progress: Callable[[int, int, str, str], None] = lambda done, total, what, detail: None,
    warn: Callable[[str], None] = lambda text: None,
) -> Evaluation:
    """Evaluate a finished run on its `test` or `val` rows; write `eval/<split>.json` and `eval/<split>.npz`.

    The baselines are fitted on the same training rows and labels; `progress` is called with the number of
    those that are done, that of all, `baselines` and the name of the next. Without them those of an
    earlier evaluation are kept. `warn` is called if the data has changed since the training, and for a
    baseline of a plugin that fails.

    A run without test rows is evaluated on its cross-fitted rows; the split of the result says so.

    Raises:
        RunError: the run has no model.
        DataError: the data is missing, or the split has no labels.
    """
    trained, rows = load_model_and_rows(run, context, warn=warn)
    cross_fitted = CrossFittedPredictions.load(cross_fitted_file(run))
    summary = evaluate_cross_fitted(cross_fitted, run) if cross_fitted else None
    held_out, stored = None, None
    if split == "test" and rows.test is None and summary is not None:
        result = summary
    else:
        chosen, names = select_split(rows, split), trained.class_names
        held_out = trained.preprocessor.apply(chosen, context)
        outputs = trained.encode_rows(held_out)
        log_p, log_density = outputs.log_posterior.numpy(), outputs.log_density.numpy()
        stored = collect_predictions(chosen, rows.columns, log_p, names)
        with allow_read_only(run.path, lambda text: None):  # its JSON file, written last, calls `warn`
            stored.save(run.path / "eval" / f"{split}.npz")
        pixels = trained.preprocessor.pixels
        result = evaluate(
            split,
            log_p,
            log_density,
            held_out.labels.numpy(),
            names,
            pixels=pixels,
            unknown=trained.facts.get("unknown"),
            p_unknown=outputs.latents.p_unknown().numpy(),
        )
        result = dataclasses.replace(result, cross_fitted=summary.cross_fitted if summary else None)
    if with_baselines:
        train = trained.preprocessor.apply(rows.train, context)
        x = held_out.x[held_out.labels >= 0] if held_out else train.x[:0]
        if rows.fingerprint != run.info().get("fingerprint"):
            cross_fitted = None  # other rows may stand at its positions
        compared = ComparedRows(train.x.numpy(), train.labels.numpy(), cross_fitted, x.numpy(), stored)

        def report(done: int, total: int, name: str) -> None:
            progress(done, total, "baselines", method_name(name))

        work: dict[str, Any] = {"seed": trained.recipe.run.seed, "progress": report, "warn": warn}
        result = compare_with_baselines(result, compared, classes=len(trained.class_names), **work)
    return save_evaluation(run, result, fingerprint=rows.fingerprint, warn=warn)


def evaluate_scores(scores: Scores, name: str, trained: TrainedModel) -> Evaluation:
    """Compare scored rows with their labels; rows without a label, or with one of training, are left out.

    A label that is no class of the model is a class of its own, of which no prediction is right. The NLL is
    that of the other rows, for its likelihood is 0. More than 100 such classes count as one. `trained` is the
    model that scored the rows.

    Raises:
        DataError: no such row has a label that is a class of the model.
    """
    known = scores.testable
    if scores.known.any() and not known.any():
        raise DataError(
            f"{name}: the model was trained on all {scores.known.sum():,} labelled rows",
            hint="name other rows; `flowgmm eval` without --data evaluates rows that were held out",
        )
    unknown = {place: label for place, label in scores.unknown_labels.items() if known[place]}
    if len(unknown) == known.sum():
        classes = ", ".join(scores.class_names[:20])
        if not unknown:
            raise DataError(f"{name}: no row has a label", hint="name rows that have the label column")
        raise DataError(
            f"{name}: no label is a class of the model, such as `{next(iter(unknown.values()))}`",
            hint=f"its classes are {classes}",
        )
    others = sorted(set(unknown.values()))
    others = others if len(others) <= _MAX_UNKNOWN_CLASSES else [_OTHER]
    names = [*scores.class_names, *others]
    code = {label: len(scores.class_names) + index for index, label in enumerate(others)}
    labels = scores.labels.copy()
    labels[list(unknown)] = [code.get(label, len(scores.class_names)) for label in unknown.values()]
    log_p = np.pad(scores.log_probabilities, ((0, 0), (0, len(others))), constant_values=-np.inf)
    result = evaluate(
        name,
        log_p[known],
        scores.log_density[known],
        labels[known],
        names,
        pixels=trained.preprocessor.pixels,
        unknown=trained.facts.get("unknown"),
        p_unknown=None if scores.p_unknown is None else scores.p_unknown[known],
    )
    if not unknown:
        return result
    rows = np.flatnonzero(known & (scores.labels >= 0))
    nll = float(-scores.log_probabilities[rows, scores.labels[rows]].mean())
    return dataclasses.replace(result, classification=dataclasses.replace(result.classification, nll=nll))


def load_model_and_rows(
    run: Run, context: DataContext, *, warn: Callable[[str], None] = lambda text: None
) -> tuple[TrainedModel, SplitData]:
    """Load a finished run's model and all its rows; `warn` is called if these have changed.

    Raises:
        RunError: the run has no model.
        DataError: the data is missing, or its classes are others.
    """
    if not (run.path / "model.json").is_file():
        raise RunError(
            f"run {run.path} has no model yet; its status is {run.info().get('status')}",
            hint=f"flowgmm train --resume {quote(run.path)}",
        )
    trained = TrainedModel.load(run.path, context=context)
    rows = load_run_rows(run, trained, context, warn=warn, purpose="an evaluation")
    if rows.class_names != trained.class_names:
        raise DataError(
            "the classes of the data are no longer those of the model",
            details=[f"data: {', '.join(rows.class_names)}", f"model: {', '.join(trained.class_names)}"],
        )
    return trained, rows


def select_split(rows: SplitData, split: str) -> Rows:
    """Return the rows of an evaluation. Raises `DataError` if the split has no labels."""
    if split == CROSS_FITTED:
        return rows.train.take(rows.train.labels >= 0)
    chosen = rows.test if split == "test" else rows.val
    if chosen is None or not (chosen.labels >= 0).any():
        raise DataError(
            f"this run has no labelled {split} rows",
            hint="data.split.test makes a test split; data.split.val_labels uses labels of the held-out rows",
        )
    return chosen
