"""A run from its recipe to a saved, calibrated and tested model, top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.devices import Engine, create_engine, deterministic
from flowgmm_cli.errors import InterruptedRunError, RunError
from flowgmm_cli.evaluation.evaluation_file import (
    collect_cross_fitted,
    collect_predictions,
    cross_fitted_file,
    evaluate_cross_fitted,
    save_evaluation,
)
from flowgmm_cli.evaluation.metrics import Evaluation, evaluate
from flowgmm_cli.evaluation.result_warnings import ResultWarning, label_warnings, model_warnings
from flowgmm_cli.inference.ood_fit import describe_ood, fit_ood, require_scores
from flowgmm_cli.inference.row_summary import summarise_rows
from flowgmm_cli.inference.sampling import recentre_components
from flowgmm_cli.processes import process_info
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.run_info import timestamp
from flowgmm_cli.runs import Run, Status, link_latest
from flowgmm_cli.seeds import seeded_layers
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.dataset import step_generator
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.fit_model import FittedModel, fit_model
from flowgmm_cli.training.guard import explain
from flowgmm_cli.training.optim import create_ema_model
from flowgmm_cli.training.prepare import PreparedData, prepare
from flowgmm_cli.training.start import Start


@dataclass(frozen=True)
class TrainResult(FittedModel):
    """A fitted model, as it was saved and tested.

    Attributes:
        trained: the saved model.
        results: evaluation of the test rows, or else of the cross-fitted rows; None without either.
        warnings: about its labels and probabilities.
        seconds: duration of the run, over all sessions.
    """

    trained: TrainedModel
    results: Evaluation | None
    warnings: tuple[ResultWarning, ...]
    seconds: float

    @property
    def test(self) -> Evaluation | None:
        """Evaluation of the test rows; None without any."""
        return self.results if self.results and self.results.split == "test" else None


def train(
    recipe: Recipe,
    run: Run,
    *,
    context: DataContext | None = None,
    callbacks: Callbacks | None = None,
    interrupt: Interrupt | None = None,
    group: Distributed | None = None,
) -> TrainResult:
    """Train a run to its end, from its last checkpoint if it has one.

    Where several processes train together, the main process calls this and the others call `assist`.

    Raises:
        FlowgmmError: the error that stopped the run; `run.json` then says `failed` or `interrupted`.
        RunError: another process trains the run.
    """
    context, group = context or DataContext(), group or Distributed()
    with run.lock():
        earlier, start = float(run.info().get("seconds") or 0.0), time.monotonic()

        def end(status: Status, error: str | None) -> float:
            seconds = earlier + time.monotonic() - start
            run.update(status=status, error=error, seconds=round(seconds, 3), ended=timestamp())
            return seconds

        run.update(status="running", error=None, processes=group.world_size, **process_info())
        try:
            with deterministic(recipe.run.deterministic):
                callbacks, interrupt = callbacks or Callbacks(), interrupt or Interrupt()
                train_context = _prepare(recipe, run, context, callbacks, interrupt, group)
                result = _train(train_context, run, context)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | InterruptedRunError)
            with contextlib.suppress(OSError, RunError):  # they must not hide the error, such as a full disk
                end("interrupted" if stopped else "failed", recipe.hide(str(error)) or type(error).__name__)
            raise
        seconds = end("done", None)
        link_latest(run)
        return dataclasses.replace(result, seconds=seconds)


def assist(recipe: Recipe, run: Run, context: DataContext, interrupt: Interrupt, group: Distributed) -> None:
    """Train with the main process, which does the rest of the run alone.

    Raises:
        FlowgmmError: the error that stopped the training.
    """
    with deterministic(recipe.run.deterministic):
        fit_model(_prepare(recipe, run, context, Callbacks(), interrupt, group), run=run)


def dry_run(
    recipe: Recipe, *, context: DataContext, callbacks: Callbacks, start: Run | None = None
) -> dict[str, float]:
    """Read the data, build the model and compute one step with its gradients; return the loss terms.

    `start` is a finished run to go on from.

    Raises:
        RunFailedError: a loss or gradient is not finite.
    """
    origin = Start.load(start.reference(), recipe, context) if start else None
    data = prepare(recipe, context, start=origin)
    engine = _create_engine(recipe, recipe.train.precision, data)
    train_context = TrainContext(recipe, data, engine, callbacks, Interrupt(), start=origin)
    for line in train_context.describe():
        callbacks.note(line)
    step = train_context.create_step(data.train.labels)
    teacher = create_ema_model(step.model)
    labelled, unlabelled = train_context.first_batch(data.train)
    rows = labelled.to(engine.device), unlabelled.to(engine.device)
    rng = step_generator(engine.device, recipe.run.seed, 0)
    with engine.autocast(), seeded_layers(rng):
        terms = step(teacher, *rows, rng)
    loss = torch.stack(list(terms.values())).sum()
    torch.autograd.backward(loss)
    gradients = [parameter.grad for parameter in step.model.parameters() if parameter.grad is not None]
    if not all(bool(value.isfinite().all()) for value in (loss, *gradients)):
        rng = step_generator(engine.device, recipe.run.seed, 0)
        raise explain(step, teacher, rows, rng, step=0, epoch=0.0)
    return {name: value.item() for name, value in terms.items()}


def _prepare(
    recipe: Recipe,
    run: Run,
    context: DataContext,
    callbacks: Callbacks,
    interrupt: Interrupt,
    group: Distributed,
) -> TrainContext:
    """Read the rows and choose device and precision, the same in all processes."""
    reference = run.info().get("from")
    start = Start.load(reference, recipe, context) if reference else None
    with group.main_process_first():  # the others read its preprocessor
        data = prepare(recipe, context, run=run, start=start)
        require_scores(recipe, data.preprocessor)
    # a resumed run keeps the precision it began with
    precision = group.broadcast_text(run.info().get("precision", recipe.train.precision))
    engine = _create_engine(recipe, precision, data)
    if precision == "auto":  # the faster one is measured, and processes may measure differently
        engine = _create_engine(recipe, group.broadcast_text(engine.precision), data)
    return TrainContext(recipe, data, engine, callbacks, interrupt, group, start=start)


def _create_engine(recipe: Recipe, precision: str, data: PreparedData) -> Engine:
    return create_engine(device=recipe.run.device, precision=precision, features=data.preprocessor.dim)


def _train(train_context: TrainContext, run: Run, context: DataContext) -> TrainResult:
    data, engine = train_context.data, train_context.engine
    for line in (f"run     {run.path}", *train_context.describe()):
        train_context.callbacks.note(line)
    run.update(
        device=str(engine.device),
        precision=engine.precision,
        rows=data.counts(),
        val_labels=data.rows.val_labels,
    )
    fitted = fit_model(train_context, run=run)
    trained = _save(train_context, fitted, run, context)
    run.update(unknown=trained.facts["unknown"])  # the evaluation reads it
    cross_fitted = _evaluate_cross_fitted(fitted, train_context, run)
    test = _test(trained, data, run)
    results = test or cross_fitted
    if results:
        summary = cross_fitted.cross_fitted if cross_fitted else None
        whole = dataclasses.replace(results, cross_fitted=summary)
        results = save_evaluation(run, whole, fingerprint=data.rows.fingerprint)
    warnings = [*_validation_warnings(data), *model_warnings(fitted.calibration.to_dict(), results)]
    first, progress = fitted.first, fitted.first.progress
    run.update(
        epochs=first.epochs,
        steps=fitted.steps,
        best={"metric": first.metric, "value": progress.best, "epoch": progress.best_epoch},
        members=[member.to_dict() for member in fitted.members],
        calibration=fitted.calibration.to_dict(),
        ood=trained.facts["ood"],
        test=test.metrics() if test else None,
        cross_fitted=cross_fitted.metrics() if cross_fitted else None,
        warnings=[warning.to_dict() for warning in warnings],
    )
    return TrainResult(
        **vars(fitted), trained=trained, results=results, warnings=tuple(warnings), seconds=0.0
    )


def _validation_warnings(data: PreparedData) -> list[ResultWarning]:
    """Warn of validation labels of a single class, which select and calibrate the model."""
    if data.val is None:
        return []
    labels = data.val.labels.numpy()
    counts = np.bincount(labels[labels >= 0], minlength=len(data.rows.class_names))
    by_class = dict(zip(data.rows.class_names, counts.tolist(), strict=True))
    found = label_warnings(by_class, "validation", "the best checkpoint is chosen by that class alone")
    return [warning for warning in found if warning.kind == "single_class"]


def _save(train_context: TrainContext, fitted: FittedModel, run: Run, context: DataContext) -> TrainedModel:
    """Fit the out-of-distribution scores and write the model."""
    data, model = train_context.data, fitted.model.cpu()
    facts = {
        "calibration": fitted.calibration.to_dict(),
        "rows": data.counts(),
        "val_labels": data.rows.val_labels,
        "inexact_density": list(data.preprocessor.inexact),
        "class_prior": model.class_prior().tolist(),
        "training_rows": summarise_rows(data.rows.train, data.preprocessor.columns),
        "unknown": fitted.unknown.to_dict() if fitted.unknown else None,
    }
    trained = TrainedModel(
        train_context.recipe, data.preprocessor, model, data.rows.class_names, facts, fitted.members
    )
    detector, ood = fit_ood(trained, data.rows, context)
    trained = dataclasses.replace(
        trained,
        detector=detector,
        sampling_model=recentre_components(trained.model, data.train.x),
        labelled_rows=_hash_labelled_rows(train_context),
        held_out=fitted.held_out,
        facts={**facts, "ood": ood},
    )
    train_context.callbacks.note(f"ood     {describe_ood(ood)}")
    trained.save(run.path)
    return trained


def _hash_labelled_rows(context: TrainContext) -> npt.NDArray[np.uint64]:
    """Return hashes of the rows whose labels the training used, or a run before it; ascending, each once."""
    data, start = context.data, context.start
    earlier = [] if start is None or start.trained.labelled_rows is None else [start.trained.labelled_rows]
    used = [data.rows.train, *([data.rows.val] if data.rows.val and data.rows.val_labels else [])]
    columns = data.preprocessor.columns
    hashes = [row_hashes(rows.take(rows.labels >= 0), columns) for rows in used]
    return np.unique(np.concatenate([*hashes, *earlier]))


def _evaluate_cross_fitted(fitted: FittedModel, context: TrainContext, run: Run) -> Evaluation | None:
    """Write and evaluate the predictions of the folds, also of a run before; None without folds."""
    rows, held_out, parts = context.data.rows, fitted.out_of_fold, []
    if held_out is not None and fitted.cross_fitted is not None:
        parts.append((fitted.cross_fitted, held_out.rows, held_out.folds))
    if context.start:
        parts.append(context.start.cross_fitted(rows))
    if not sum(len(part[1]) for part in parts):
        return None
    log_prob, positions, folds = (np.concatenate(part) for part in zip(*parts, strict=True))
    predictions = collect_cross_fitted(
        rows.train, rows.columns, log_prob, rows.class_names, positions=positions, folds=folds
    )
    predictions.save(cross_fitted_file(run))
    return evaluate_cross_fitted(predictions, run)


def _test(trained: TrainedModel, data: PreparedData, run: Run) -> Evaluation | None:
    if data.test is None or data.rows.test is None:
        return None
    outputs, names, unknown = trained.encode_rows(data.test), trained.class_names, trained.facts["unknown"]
    log_prob, log_density = outputs.log_posterior.numpy(), outputs.log_density.numpy()
    rows = collect_predictions(data.rows.test, data.rows.columns, log_prob, names)
    rows.save(run.path / "eval" / "test.npz")
    p_unknown, pixels = outputs.latents.p_unknown().numpy(), data.preprocessor.pixels
    figures = "test", log_prob, log_density, data.test.labels.numpy(), names
    return evaluate(*figures, pixels=pixels, unknown=unknown, p_unknown=p_unknown)
