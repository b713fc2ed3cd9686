"""`eval/` of a run: the results of its evaluations, which are merged, and its cross-fitted predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.metrics import CrossFitted, Evaluation, classification_metrics
from flowgmm_cli.evaluation.predictions import CrossFittedPredictions, StoredPredictions
from flowgmm_cli.evaluation.result_warnings import evaluation_warnings
from flowgmm_cli.files import MALFORMED, file_digest, read_json, write_json
from flowgmm_cli.runs import Run

CROSS_FITTED = "cross_fitted"
"""Split of an evaluation of cross-fitted rows."""


def cross_fitted_file(run: Run) -> Path:
    """Return the file of the cross-fitted predictions, which may be missing."""
    return run.path / "eval" / f"{CROSS_FITTED}.npz"


def evaluate_cross_fitted(predictions: CrossFittedPredictions, run: Run) -> Evaluation:
    """Evaluate the labelled rows that the training of a run held out; `run.json` has their number."""
    labelled = int((run.info().get("rows") or {}).get("labelled", len(predictions)))
    metrics = classification_metrics(
        predictions.log_probabilities, predictions.labels, predictions.class_names
    )
    return Evaluation(CROSS_FITTED, metrics, None, cross_fitted=CrossFitted.summarise(metrics, labelled))


def save_evaluation(
    run: Run, evaluation: Evaluation, *, fingerprint: str, warn: Callable[[str], None] = lambda text: None
) -> Evaluation:
    """Write `eval/<split>.json`; baselines of an earlier evaluation of the same model and rows are kept.

    `fingerprint` is that of the rows. Baselines of other rows or of another model are dropped, and `warn` is
    called.
    """
    basis = {"data": fingerprint, "model": file_digest(run.path / "model.safetensors")}
    evaluation = dataclasses.replace(evaluation, basis=basis)
    path = run.path / "eval" / f"{evaluation.split}.json"
    earlier = load_evaluation(path)
    if earlier and earlier.baselines and not evaluation.baselines:
        if earlier.basis == basis:
            evaluation = dataclasses.replace(evaluation, baselines=earlier.baselines, verdict=earlier.verdict)
        else:
            changed = "data" if earlier.basis.get("data") != fingerprint else "model"
            warn(f"the {changed} has changed since the baselines were fitted, so their results are dropped")
    found = [warning.to_dict() for warning in evaluation_warnings(evaluation)]
    write_json(path, {**evaluation.to_dict(str(run.path)), "warnings": found})
    return evaluation


def load_predictions(run: Run, split: str) -> StoredPredictions | None:
    """Read the predictions for the rows of a split, or for cross-fitted rows; None without any."""
    kind = CrossFittedPredictions if split == CROSS_FITTED else StoredPredictions
    return kind.load(run.path / "eval" / f"{split}.npz")


def load_results(run: Run) -> Evaluation | None:
    """Read the results on test rows, or on cross-fitted rows of a run without test rows."""
    return load_evaluation(run.path / "eval" / "test.json") or load_evaluation(
        run.path / "eval" / f"{CROSS_FITTED}.json"
    )


def load_evaluation(path: Path) -> Evaluation | None:
    """Read a file that `save_evaluation` wrote; None if it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        return Evaluation.from_dict(read_json(path, "evaluation"))
    except (RunError, *MALFORMED):
        return None
