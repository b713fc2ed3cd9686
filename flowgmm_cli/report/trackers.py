"""Trackers of a training: TensorBoard, MLflow, trackio and Weights & Biases, by the classes of accelerate.

A thread of its own sends the lines that a training adds to `metrics.jsonl`, so that a slow tracker delays no
training. A tracker that fails gets nothing further, with a warning.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from flowgmm_cli.errors import PluginError
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run

if TYPE_CHECKING:
    from flowgmm_cli.report.context import ReportContext

_SECONDS = 2.0  # between two looks at the metrics
_PATIENCE = 60.0  # seconds for the last results
_MLFLOW_URI = "MLFLOW_TRACKING_URI"
_NO_METRICS = ("step", "split", "seconds")
_IDENTITY = "flowgmm_run"  # tag of MLflow


def require_trackers(recipe: Recipe) -> None:
    """Raise `PluginError` if the package of a tracker that a recipe names is not installed."""
    missing = [name for name in recipe.run.trackers if find_spec(name) is None]
    if missing:
        raise PluginError(
            f"run.trackers names {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed",
            hint=f"pip install {' '.join(missing)}; or go without: run.trackers=[]",
        )


@dataclass(frozen=True)
class _Results:
    """The end of a run, for people."""

    metrics: Mapping[str, float]
    figures: Mapping[str, Any]  # images of Pillow, by name
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


class Trackers:
    """The trackers of a run's recipe, in a block that trains the run.

    A resumed run goes on in the same run of each tracker. Trackers begin with the first logged step, and have
    the metrics of the first member of an ensemble.

    Args:
        run: the run to track.
        offline: use no network.
        warn: receives a line for each tracker that fails.
    """

    def __init__(self, run: Run, *, offline: bool, warn: Callable[[str], None]) -> None:
        self.run, self.recipe, self.offline, self.warn = run, run.recipe(), offline, warn
        self.names = tuple(dict.fromkeys(self.recipe.run.trackers))
        self._trackers: dict[str, Any] = {}
        self._sent: dict[str, int] = {}  # last step, by split
        self._results: _Results | None = None
        self._uri = None if offline else os.environ.get(_MLFLOW_URI)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="trackers", daemon=True)
        self._stdout = redirect_stdout(sys.stderr)  # trackers print
        if self.names:
            deque(self._new_lines(), maxlen=0)  # an earlier session has sent these
        self.is_resumed = bool(self._sent)

    def __enter__(self) -> Trackers:
        if self.names:
            self._stdout.__enter__()
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.names:
            return
        self._ended.set()
        self._thread.join(_PATIENCE)
        self._stdout.__exit__(None, None, None)
        if self._thread.is_alive():
            self.warn(f"{', '.join(self._trackers)} did not take the last results within {_PATIENCE:.0f} s")

    def send_results(self, context: ReportContext) -> None:
        """Send results, figures and the final table at the end of the block."""
        from PIL import Image

        from flowgmm_cli.report import baselines, learning_curves, predictions
        from flowgmm_cli.report.page import Plot
        from flowgmm_cli.report.report import build_section

        if not self.names:
            return
        builders = (
            learning_curves.curves_section,
            predictions.confusion_section,
            predictions.reliability_section,
        )
        parts = [part for build in builders for part in build_section("", "", build, context).parts]
        images = {part.name: Image.open(io.BytesIO(part.png)) for part in parts if isinstance(part, Plot)}
        evaluation = context.evaluation
        table = baselines.comparison_tables(evaluation)[0] if evaluation else None
        metrics = evaluation.metrics() if evaluation else {}
        self._results = _Results(
            {f"{evaluation.split}.{name}": x for name, x in metrics.items() if evaluation and x is not None},
            {name: image.convert("RGB") for name, image in images.items()},
            table.columns if table else (),
            table.rows if table else (),
        )

    # --- in the thread ---

    def _work(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._ended.wait(_SECONDS)
            lines = list(self._new_lines())
            if not self._trackers and (lines or self._results):
                self._start()
                self._each(self._send_settings)
            for line in lines:
                values = {key: x for key, x in line.items() if key not in _NO_METRICS and x is not None}
                self._each(partial(self._send_metrics, values, line["step"]))
            if not self.names:
                return
        if results := self._results:
            self._each(lambda name: self._send_results(name, results))
        self._each(self._finish)

    def _each(self, action: Callable[[str], None]) -> None:
        """Call a function with each tracker's name; those that fail are left out."""
        for name in self.names:
            try:
                action(name)
            except Exception as error:
                self.names = tuple(other for other in self.names if other != name)
                reason = next(iter(str(error).strip().splitlines()), "")
                self.warn(
                    f"the tracker {name} gets nothing further of this run ({type(error).__name__}: {reason})"
                )

    def _new_lines(self) -> Iterator[Mapping[str, Any]]:
        """Read lines of steps that were not sent yet; a resumed training may log a step again."""
        for line in read_metrics(self.run.metrics) if self.run.metrics.is_file() else ():
            if line["step"] > self._sent.get(line["split"], -1):
                self._sent[line["split"]] = line["step"]
                yield line

    def _start(self) -> None:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())  # the loggers of accelerate need it
        self._each(self._open)

    def _open(self, name: str) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        folder, resume = self.run.path.absolute(), "allow" if self.is_resumed else "never"
        options: dict[str, Any] = {"run_name": self.recipe.name, "name": folder.name, "resume": resume}
        if name == "tensorboard":
            options = {"run_name": name, "logging_dir": str(folder)}
        elif name == "mlflow":
            options = self._mlflow_options()
        elif name == "trackio":
            if self.offline and (os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")):
                raise ConnectionError("it sends to a server, and this command is offline")
            options |= {"embed": False, "auto_log_cpu": False, "auto_log_gpu": False}
        elif name == "wandb":
            import wandb

            os.environ.setdefault("WANDB_CONSOLE", "off")  # it would write progress to a file
            options |= {"id": self._identity(), "dir": str(folder)}
            if self.offline or not (os.environ.get("WANDB_MODE") or wandb.login(prompt=False)):
                options["mode"] = "offline"  # there is no account
        tracker = LOGGER_TYPE_TO_CLASS[name](**options)
        tracker.main_process_only = False  # this is the main process
        tracker.start()
        self._trackers[name] = tracker

    def _mlflow_options(self) -> dict[str, Any]:
        """Take the server of the user's environment, or else a database in the run directory."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        import mlflow

        folder, run_id = self.run.path.absolute() / "mlflow", None
        if not self._uri:
            folder.mkdir(exist_ok=True)
            mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        if self.is_resumed:
            earlier = mlflow.search_runs(
                filter_string=f"tags.{_IDENTITY} = '{self._identity()}'",
                search_all_experiments=True,
                output_format="list",
            )
            run_id = earlier[0].info.run_id if earlier else None
        return {
            "experiment_name": self.recipe.name,
            "logging_dir": None if self._uri else str(folder / "artifacts"),
            "run_id": run_id,
            "run_name": self.run.path.name,
            "tags": {_IDENTITY: self._identity()},
        }

    def _identity(self) -> str:
        """Return a text that belongs to this run alone."""
        info = self.run.info()
        return hashlib.sha256(f"{info.get('created')} {info.get('argv')}".encode()).hexdigest()[:16]

    def _send_metrics(self, values: dict[str, float], step: int, name: str) -> None:
        self._trackers[name].log(values, step=step)

    def _send_settings(self, name: str) -> None:
        if not self.is_resumed or name == "trackio":  # which forgets them
            self._trackers[name].store_init_configuration(flatten(self.recipe.to_stored()))

    def _send_results(self, name: str, results: _Results) -> None:
        tracker, step = self._trackers[name], max(self._sent.values(), default=0)
        tracker.log(dict(results.metrics), step=step)
        if name == "tensorboard":
            import numpy as np

            images = {f"figures/{key}": np.asarray(image)[None] for key, image in results.figures.items()}
            tracker.log_images(images, step=step, dataformats="NHWC")
            tracker.log({"results": results.markdown()}, step=step)
        elif name == "mlflow":
            import mlflow

            for key, image in results.figures.items():
                mlflow.log_image(image, artifact_file=f"figures/{key}.png")
            mlflow.log_text(results.markdown(), "results.md")
        elif name == "trackio":
            import pandas as pd
            import trackio

            frame = pd.DataFrame(list(results.rows), columns=list(results.columns))
            images = {f"figures/{key}": trackio.Image(image) for key, image in results.figures.items()}
            tracker.log({**images, "results": trackio.Table(dataframe=frame)}, step=step)
        else:
            tracker.log_images({f"figures/{key}": [image] for key, image in results.figures.items()}, step)
            tracker.log_table(
                "results", list(results.columns), [list(row) for row in results.rows], step=step
            )

    def _finish(self, name: str) -> None:
        if name == "mlflow":
            import mlflow

            mlflow.end_run("FINISHED" if self._results else "KILLED")
            if not self._uri:
                os.environ.pop(_MLFLOW_URI, None)  # set by `set_tracking_uri`, and meant for this run
        self._trackers[name].finish()


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Name each value of a recipe by its path; lists of values become JSON.

    >>> flatten({"train": {"lr": 0.1}, "regularisers": [{"use": "vat"}], "dims": [1, 2], "search": None})
    {'train.lr': 0.1, 'regularisers.0.use': 'vat', 'dims': '[1, 2]', 'search': 'null'}
    """
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        items = list(enumerate(value))
    elif isinstance(value, bool | int | float | str):
        return {key: value}
    else:
        return {key: json.dumps(value)}
    below = f"{key}." if key else ""
    return {name: x for part, item in items for name, x in flatten(item, f"{below}{part}").items()}
