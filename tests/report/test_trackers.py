from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import accelerate.tracking
import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.trackers import Trackers
from flowgmm_cli.runs import Run
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import train


class StopError(BaseException):
    """Stands for the end of the process."""


def train_tracked(run: Run, *, stop_at: int | None = None) -> list[str]:
    """Train a run with its trackers, which it leaves at a step; the warnings."""

    def progress(done: int, total: int, title: str, detail: str) -> None:
        if done == stop_at:
            raise StopError

    warnings: list[str] = []
    with Trackers(run, offline=True, warn=warnings.append) as tracked:
        train(run.recipe(), run, callbacks=Callbacks(progress=progress))
        tracked.send_results(ReportContext(run, DataContext(), warnings.append))
    return warnings


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, int | None]]:
    """The calls of a class in the place of accelerate's for TensorBoard; another one always fails."""
    calls: list[tuple[str, Any, int | None]] = []

    class Recorder:
        def __init__(self, run_name: str, logging_dir: str) -> None:
            calls.append(("open", Path(logging_dir, run_name), None))

        def __getattr__(self, name: str) -> Any:
            return lambda values=None, step=None, **options: calls.append((name, values, step))

    class Broken(Recorder):
        def __init__(self, run_name: str, **options: Any) -> None:
            pass

        def start(self) -> None:
            pass

        def store_init_configuration(self, values: Any) -> None:
            raise ConnectionError("no route to host")

    classes = {"tensorboard": Recorder, "trackio": Broken}
    monkeypatch.setattr(accelerate.tracking, "LOGGER_TYPE_TO_CLASS", classes)
    return calls


def test_a_resumed_run_goes_on_and_a_broken_tracker_stops_nothing(new_run: Any, calls: Any) -> None:
    run = new_run("run", "run.trackers=[tensorboard,trackio]", "checkpoint.every_steps=5")
    with pytest.raises(StopError):
        train_tracked(run, stop_at=8)
    assert [name for name, *_ in calls[:3]] == ["open", "start", "store_init_configuration"]
    assert calls[0][1] == run.path.absolute() / "tensorboard"
    assert calls[2][1]["train.epochs"] == 4
    assert calls[2][1]["regularisers.0.use"] == "consistency"
    del calls[0]
    warnings = [text for text in train_tracked(run) if "tracker" in text]
    assert warnings == [
        "the tracker trackio gets nothing further of this run (ConnectionError: no route to host)"
    ]
    logged = [(values, step) for name, values, step in calls if name == "log"]
    lines = read_metrics(run.metrics)
    assert [(values["epoch"], step) for values, step in logged[:-2]] == [
        (line["epoch"], line["step"]) for line in lines
    ]
    assert logged[-2][0]["test.accuracy"] == run.info()["test"]["accuracy"]
    assert "| flowgmm |" in logged[-1][0]["results"]
    images = next(values for name, values, _ in calls if name == "log_images")
    assert {"figures/loss", "figures/confusion", "figures/reliability"} <= set(images)
    assert images["figures/loss"].shape[-1] == 3
    assert [name for name, *_ in calls].count("store_init_configuration") == 1
    assert [name for name, *_ in calls].count("finish") == 2


def test_a_run_without_trackers_imports_none(shared_run: Any) -> None:
    run, _ = shared_run()
    with Trackers(run, offline=True, warn=pytest.fail) as tracked:
        assert not tracked.names
    assert not {"tensorboard", "mlflow", "trackio", "wandb"} & set(sys.modules)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries
@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "trackio"])
def test_trackers_have_what_the_run_has(
    name: str, new_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = [name, *(["sqlalchemy"] if name == "mlflow" else [])]
    if not all(map(find_spec, packages)):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = new_run("run", f"run.trackers=[{name}]", "checkpoint.every_steps=5")
    with pytest.raises(StopError):
        train_tracked(run, stop_at=8)
    assert train_tracked(run) == []
    assert "MLFLOW_TRACKING_URI" not in os.environ
    losses, settings, results, figures = READERS[name](run)
    expected = [(line["step"], line["loss"]) for line in read_metrics(run.metrics) if "loss" in line]
    assert [step for step, _ in losses] == [step for step, _ in expected]
    np.testing.assert_allclose([x for _, x in losses], [x for _, x in expected], rtol=1e-6)
    assert "0.01" in settings
    assert f"{run.info()['test']['accuracy']:.4f}" in results
    assert {"loss", "confusion", "reliability"} <= figures


Read = tuple[list[tuple[int, float]], str, str, set[str]]


def read_tensorboard(run: Run) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.path / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    (file,) = run.path.glob("tensorboard/*/hparams.yml")
    table = events.Tensors("results/text_summary")[0].tensor_proto.string_val[0].decode()
    figures = {tag.removeprefix("figures/") for tag in events.Tags()["images"]}
    return losses, file.read_text(), table, figures


def read_mlflow(run: Run) -> Read:
    import mlflow
    from mlflow import MlflowClient

    uri = f"sqlite:///{run.path / 'mlflow' / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(run.recipe().name)
    (found,) = client.search_runs([experiment.experiment_id])
    key = found.info.run_id
    losses = [(item.step, item.value) for item in client.get_metric_history(key, "loss")]
    figures = {Path(item.path).stem for item in client.list_artifacts(key, "figures")}
    table = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/results.md")
    assert found.info.status == "FINISHED"
    return losses, found.data.params["train.lr"], table, figures


def read_trackio(run: Run) -> Read:
    from trackio.sqlite_storage import SQLiteStorage

    assert SQLiteStorage.get_runs("moons") == [run.path.name]
    logs = SQLiteStorage.get_logs("moons", run.path.name)
    losses = [(line["step"], line["loss"]) for line in logs if "loss" in line]
    settings = SQLiteStorage.get_run_config("moons", run.path.name)
    figures = {name.removeprefix("figures/") for name in logs[-1] if name.startswith("figures/")}
    return losses, str(settings["train.lr"]), str(logs[-1]["results"]), figures


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio}
