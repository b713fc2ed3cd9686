"""From a recipe to a saved, calibrated and tested model: the way of a run, top to bottom."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from dataclasses import dataclass

from flowgmm_cli.api import DataContext
from flowgmm_cli.evaluation.evaluate import Evaluation, evaluate
from flowgmm_cli.evaluation.predictions import collect_predictions
from flowgmm_cli.files import write_json
from flowgmm_cli.inference.sampling import recentre_components
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, Status, process_info
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.calibrate import Calibration
from flowgmm_cli.training.detect import fit_detection, require_scores
from flowgmm_cli.training.engine import Engine, deterministic, make_engine
from flowgmm_cli.training.fitting import Fitting, Talk
from flowgmm_cli.training.inputs import Inputs, prepare
from flowgmm_cli.training.interrupt import Interrupt
from flowgmm_cli.training.learn import learn
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.search import Race


@dataclass(frozen=True)
class TrainResult:
    """What a run ends with.

    Attributes:
        trained: the saved model.
        test: evaluation of the test split; None where there is none.
        metric, best: the watched metric and its best value, of the first member; None where nothing was
            watched.
        epochs: passes over the unlabelled rows, of the first member.
        seconds: of the whole run, over all sittings.
        calibration: the temperature and where it comes from.
        race: the search for settings; None where the recipe has none.
    """

    trained: TrainedModel
    test: Evaluation | None
    metric: str | None
    best: float | None
    epochs: float
    seconds: float
    calibration: Calibration
    race: Race | None = None


def train(
    recipe: Recipe,
    run: Run,
    *,
    context: DataContext | None = None,
    talk: Talk | None = None,
    interrupt: Interrupt | None = None,
    processes: Processes | None = None,
) -> TrainResult:
    """Carry a run to its end, from its last checkpoint if it has one.

    Where several processes train together, the leader calls this and the others `assist`.

    Raises:
        FlowgmmError: whatever stopped it; `run.json` then says `failed` or `interrupted`.
    """
    before, start = float(run.info().get("seconds", 0.0)), time.monotonic()

    def end(status: Status, error: str | None) -> float:
        seconds = before + time.monotonic() - start
        run.update(status=status, error=error, seconds=round(seconds, 3))
        return seconds

    processes = processes or Processes()
    run.update(status="running", error=None, processes=processes.count, **process_info())
    try:
        with deterministic(recipe.run.deterministic):
            result = _train(
                recipe,
                run,
                context or DataContext(),
                talk or Talk(),
                interrupt or Interrupt(),
                processes,
            )
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", None) == 130
        with contextlib.suppress(OSError):  # a full disk must not hide what it made fail
            end("interrupted" if stopped else "failed", str(error) or type(error).__name__)
        raise
    return dataclasses.replace(result, seconds=end("done", None))


def assist(
    recipe: Recipe,
    run: Run,
    processes: Processes,
    *,
    context: DataContext | None = None,
    interrupt: Interrupt | None = None,
) -> None:
    """Train with the leader, whose run it is, to the end of training; the rest it does alone.

    Raises:
        FlowgmmError: whatever stopped the training.
    """
    with deterministic(recipe.run.deterministic):
        data = _prepare(recipe, run, context or DataContext(), processes)
        engine = _engine(recipe, run, data, processes)
        learn(Fitting(recipe, data, engine, Talk(), interrupt or Interrupt(), processes), run=run)


def _prepare(recipe: Recipe, run: Run, context: DataContext, processes: Processes) -> Inputs:
    with processes.in_turn():  # what the leader has fitted and kept, the others find
        return prepare(recipe, context, run=run)


def _engine(recipe: Recipe, run: Run, data: Inputs, processes: Processes) -> Engine:
    # a resumed run goes on with the arithmetic it began with
    precision = run.info().get("precision", recipe.train.precision)
    # what pays is measured, and the processes' measurements may differ
    precision = processes.told(precision)
    if precision == "auto":
        found = make_engine(device=recipe.run.device, precision=precision, features=data.preprocessor.dim)
        precision = processes.told(found.precision)
    return make_engine(device=recipe.run.device, precision=precision, features=data.preprocessor.dim)


def _train(
    recipe: Recipe,
    run: Run,
    context: DataContext,
    talk: Talk,
    interrupt: Interrupt,
    processes: Processes,
) -> TrainResult:
    data = _prepare(recipe, run, context, processes)
    require_scores(recipe, data.preprocessor)
    talk.note(f"run     {run.path}")
    for line in (*data.rows.notes, *data.preprocessor.notes, *data.describe()):
        talk.note(line)
    engine = _engine(recipe, run, data, processes)
    shared = "" if processes.alone else f", {processes.count} processes"
    shared += ", weights divided among them" if shared and recipe.train.fsdp else ""
    talk.note(f"device  {engine.describe()}{shared}")
    if recipe.train.fsdp and processes.alone:
        talk.note("fsdp    there is one process, which keeps all weights; `--processes N` divides them")
    fitting = Fitting(recipe, data, engine, talk, interrupt, processes)
    for line in fitting.short_of_ramps():
        talk.note(line)
    run.update(
        device=str(engine.device),
        precision=engine.precision,
        rows=data.counts(),
        val_labels=data.rows.val_labels,
    )

    learned = learn(fitting, run=run)
    first, calibration = learned.first, learned.calibration

    facts = {
        "calibration": calibration.to_dict(),
        "rows": data.counts(),
        "val_labels": data.rows.val_labels,
        "inexact_density": list(data.preprocessor.inexact),
        "class_prior": learned.model.class_prior().tolist(),
    }
    trained = TrainedModel(
        recipe, data.preprocessor, learned.model.cpu(), data.rows.class_names, facts, learned.members
    )
    detection = fit_detection(trained, data.rows, context)
    trained = dataclasses.replace(
        trained,
        detector=detection.detector,
        sampling_model=recentre_components(trained.model, data.train.x),
        facts={**facts, "ood": detection.to_dict()},
    )
    talk.note(f"ood     {detection.describe()}")
    trained.save(run.path)
    test = _test(trained, data, run)
    best = first.progress.best
    run.update(
        epochs=first.epochs,
        steps=learned.steps,
        best={"metric": first.metric, "value": best, "epoch": first.progress.best_epoch},
        members=[member.to_dict() for member in learned.members],
        calibration=calibration.to_dict(),
        ood=detection.to_dict(),
        test=test.metrics() if test else None,
    )
    return TrainResult(trained, test, first.metric, best, first.epochs, 0.0, calibration, learned.race)


def _test(trained: TrainedModel, data: Inputs, run: Run) -> Evaluation | None:
    if data.test is None or data.rows.test is None:
        return None
    found, names = trained.predict(data.test), trained.class_names
    result = evaluate(
        "test",
        found.log_probabilities,
        found.log_density,
        data.test.labels.numpy(),
        names,
        pixels=trained.preprocessor.pixels,
    )
    write_json(run.path / "eval" / "test.json", result.to_dict(str(run.path)))
    said = collect_predictions(data.rows.test, data.rows.columns, found.log_probabilities, names)
    said.save(run.path / "eval" / "test.npz")
    return result
