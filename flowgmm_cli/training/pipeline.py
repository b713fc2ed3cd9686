"""From a recipe to a saved, calibrated and tested model: the way of a run, top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import DataContext, Latents
from flowgmm_cli.evaluation.evaluate import Evaluation, evaluate
from flowgmm_cli.files import write_json
from flowgmm_cli.model import FlowGMM
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, Status, process
from flowgmm_cli.trained import TrainedModel, see
from flowgmm_cli.training.build import training_temperature
from flowgmm_cli.training.calibrate import Calibration, calibrate, fold_epochs, set_temperature
from flowgmm_cli.training.engine import deterministic, make_engine
from flowgmm_cli.training.fitting import Fitting, Talk
from flowgmm_cli.training.inputs import Inputs, prepare
from flowgmm_cli.training.interrupt import Interrupt


@dataclass(frozen=True)
class TrainResult:
    """What a run ends with.

    Attributes:
        trained: the saved model.
        test: evaluation of the test split; None where there is none.
        metric, best: the watched metric and its best value; None where nothing was watched.
        epochs: passes over the unlabelled rows.
        seconds: of the whole run, over all sittings.
        calibration: the temperature and where it comes from.
    """

    trained: TrainedModel
    test: Evaluation | None
    metric: str | None
    best: float | None
    epochs: float
    seconds: float
    calibration: Calibration


def train(
    recipe: Recipe,
    run: Run,
    *,
    context: DataContext | None = None,
    talk: Talk | None = None,
    interrupt: Interrupt | None = None,
) -> TrainResult:
    """Carry a run to its end, from its last checkpoint if it has one.

    Raises:
        FlowgmmError: whatever stopped it; `run.json` then says `failed` or `interrupted`.
    """
    before, start = float(run.info().get("seconds", 0.0)), time.monotonic()

    def end(status: Status, error: str | None) -> float:
        seconds = before + time.monotonic() - start
        run.update(status=status, error=error, seconds=round(seconds, 3))
        return seconds

    run.update(status="running", error=None, **process())
    try:
        with deterministic(recipe.run.deterministic):
            result = _train(recipe, run, context or DataContext(), talk or Talk(), interrupt or Interrupt())
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", None) == 130
        with contextlib.suppress(OSError):  # a full disk must not hide what it made fail
            end("interrupted" if stopped else "failed", str(error) or type(error).__name__)
        raise
    return dataclasses.replace(result, seconds=end("done", None))


def _train(recipe: Recipe, run: Run, context: DataContext, talk: Talk, interrupt: Interrupt) -> TrainResult:
    data = prepare(recipe, context, run=run)
    talk.note(f"run     {run.path}")
    for line in (*data.rows.notes, *data.preprocessor.notes, *data.describe()):
        talk.note(line)
    # a resumed run goes on with the arithmetic it began with
    precision = run.info().get("precision", recipe.train.precision)
    engine = make_engine(device=recipe.run.device, precision=precision, features=data.preprocessor.dim)
    talk.note(f"device  {engine.describe()}")
    run.update(
        device=str(engine.device),
        precision=engine.precision,
        rows=data.counts(),
        val_labels=data.rows.val_labels,
    )

    labels = data.train.labels.numpy()
    fitting = Fitting(recipe, data, engine, talk, interrupt)
    result = fitting.fit(labels, run=run)
    calibration = _calibrate(fitting, result.model, labels)
    set_temperature(result.model, calibration)

    facts = {
        "calibration": calibration.to_dict(),
        "rows": data.counts(),
        "val_labels": data.rows.val_labels,
        "inexact_density": list(data.preprocessor.inexact),
    }
    trained = TrainedModel(recipe, data.preprocessor, result.model.cpu(), data.rows.class_names, facts)
    trained.save(run.path)
    test = _test(trained, data)
    if test:
        write_json(run.path / "eval" / "test.json", test.to_dict(str(run.path)))
    progress = result.progress
    run.update(
        epochs=result.epochs,
        steps=progress.step,
        best={"metric": result.metric, "value": progress.best, "epoch": progress.best_epoch},
        calibration=calibration.to_dict(),
        test=test.metrics() if test else None,
    )
    return TrainResult(trained, test, result.metric, progress.best, result.epochs, 0.0, calibration)


def _calibrate(fitting: Fitting, model: FlowGMM, labels: npt.NDArray[np.int64]) -> Calibration:
    recipe, data = fitting.recipe, fitting.data
    val = None
    if data.val is not None and bool((data.val.labels >= 0).any()):
        val = see(model, data.val.x), data.val.labels.numpy()

    def train_fold(visible: npt.NDArray[np.int64], index: int, what: str) -> FlowGMM:
        epochs = fold_epochs(recipe.calibration, recipe.train.epochs)
        limit = recipe.train.max_steps
        steps = limit and fold_epochs(recipe.calibration, limit)
        shorter = recipe.train.model_copy(update={"epochs": epochs, "max_steps": steps})
        fold = dataclasses.replace(recipe, train=shorter)
        return dataclasses.replace(fitting, recipe=fold).fit(visible, what=what).model

    def see_rows(fold: FlowGMM, index: npt.NDArray[np.intp]) -> Latents:
        return see(fold, data.train.x[torch.from_numpy(index)])

    return calibrate(
        recipe.calibration,
        val=val,
        labels=labels,
        temperature=training_temperature(recipe, features=data.preprocessor.dim),
        train_fold=train_fold,
        see=see_rows,
        seed=recipe.run.seed,
    )


def _test(trained: TrainedModel, data: Inputs) -> Evaluation | None:
    if data.test is None:
        return None
    found = trained.predict(data.test)
    labels = data.test.labels.numpy()
    return evaluate("test", found.log_probabilities, found.log_density, labels, trained.class_names)
