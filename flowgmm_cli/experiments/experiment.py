"""A folder with the runs of an experiment, which can be resumed but never mixed with other recipes.

experiment = Experiment(folder, kind="curve", recipe=recipe, keys=["labels"], overrides=overrides)
experiment.open(points)
for point in points:
    experiment.run_point(point, options)
experiment.read_results()
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import FlowgmmError, RunError
from flowgmm_cli.experiments.points import Point, SettingValue, no_accuracy
from flowgmm_cli.experiments.results import FLOWGMM, Result
from flowgmm_cli.files import read_json, write_json
from flowgmm_cli.messages import quote
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.report.text import read_forecasts
from flowgmm_cli.runs import Run, create_run, open_run
from flowgmm_cli.training.callbacks import Callbacks, Interrupt

SCHEMA = "flowgmm/study/1"
FILE = "study.json"
SPLITS = ("test", "cross_fitted")
_OTHER_KEYS = ("data.labels.count=", "run.")


@dataclass(frozen=True)
class RunOptions:
    """Options of all runs of an experiment."""

    context: DataContext = field(default_factory=DataContext)  # environment of data sources
    callbacks: Callbacks = field(default_factory=Callbacks)  # progress and notes
    interrupt: Interrupt = field(default_factory=Interrupt)  # a request to stop
    baselines: bool = False  # fit the baselines on the same vectors and labels too
    argv: Sequence[str] = ()  # the command line, for `run.json`


class Experiment:
    """The runs of a curve or sweep, with the recipe of any run and the overrides that all runs share.

    ==============================  ===========================================
    `study.json`                    kind, recipe and settings of the experiment
    `runs/<settings>/seed-<seed>/`  ordinary run directories
    ==============================  ===========================================
    """

    def __init__(
        self, folder: Path, *, kind: str, recipe: Recipe, keys: Sequence[str], overrides: Sequence[str]
    ) -> None:
        self.folder = folder
        self.header = {
            "schema": SCHEMA,
            "kind": kind,
            "recipe": recipe.name,
            "digest": hashlib.sha256(recipe.origin.text.encode()).hexdigest(),
            "keys": sorted(keys),
            "overlays": list(recipe.origin.overlays),
            "overrides": sorted(overrides),
        }

    def open(self, points: Sequence[Point]) -> None:
        """Create the folder, or check that it belongs to this experiment, and add the points' settings.

        Raises:
            RunError: the folder has other contents, or an experiment or run of another recipe.
        """
        groups = self.check(points) | {point.group: dict(point.settings) for point in points}
        try:
            write_json(self.folder / FILE, {**self.header, "groups": groups})
        except OSError as error:
            message = f"the folder {self.folder} cannot be created: {error.strerror}"
            raise RunError(message, hint="choose another: --out DIR") from error

    def check(self, points: Sequence[Point]) -> dict[str, Any]:
        """Return the settings of the points in the folder; it may be that of an experiment without runs.

        Raises:
            RunError: the folder has other contents, or an experiment or run of another recipe.
        """
        file = self.folder / FILE
        groups: dict[str, Any] = {}
        if file.is_file() and any(self.folder.glob("runs/*/*/run.json")):
            stored = read_json(file, "study")
            changed = [key for key, value in self.header.items() if stored.get(key) != value]
            if changed:
                raise self._conflict([self._describe_difference(key, stored.get(key)) for key in changed])
            groups = dict(stored.get("groups", {}))
        elif self.folder.is_file() or (
            self.folder.is_dir() and not file.is_file() and any(self.folder.iterdir())
        ):
            raise self._conflict([f"it has no {FILE}"])
        for point in points:
            self._find_run(point)
        return groups

    def is_of_same_settings(self) -> bool:
        """Return True if the folder's experiment differs at most in seeds, devices and numbers of labels."""
        try:
            stored = read_json(self.folder / FILE, "study")
        except RunError:
            return False
        return _settings(stored) == _settings(self.header)

    def is_finished(self, point: Point, *, baselines: bool) -> bool:
        """Return True if the run of a point is done, with its baselines if they are required."""
        run = self._find_run(point)
        return run is not None and _is_done(run) and bool(not baselines or _read_baselines(run))

    def run_point(self, point: Point, options: RunOptions) -> Result:
        """Train a point, resume its training, or only add its missing baselines.

        Raises:
            DataError: no label was held out, neither in test rows nor in training.
            FlowgmmError: training failed.
        """
        from flowgmm_cli.inference.evaluate_run import evaluate_run
        from flowgmm_cli.report.context import ReportContext
        from flowgmm_cli.report.trackers import Trackers
        from flowgmm_cli.training.pipeline import train

        context, callbacks = options.context, options.callbacks
        run = self._find_run(point)
        is_new = run is None
        if run is None:
            if point.settings.get("choose") == "suggest":
                from flowgmm_cli.experiments.simulation import write_labelled

                write_labelled(point, self._find_earlier(point), context)
            run = create_run(point.recipe, argv=options.argv, directory=self.path(point))
        if not _is_done(run):
            try:
                with Trackers(run, offline=context.offline, warn=callbacks.note) as trackers:
                    train(
                        point.recipe, run, context=context, callbacks=callbacks, interrupt=options.interrupt
                    )
                    trackers.send_results(ReportContext(run, context, callbacks.note))
            except FlowgmmError:
                if is_new and not run.checkpoints.exists():  # its rows could not be read
                    shutil.rmtree(run.path)
                raise
        if _split(run) is None:
            raise no_accuracy(point)
        if options.baselines and not _read_baselines(run):
            work: dict[str, Any] = {"progress": callbacks.progress, "warn": callbacks.note}
            evaluate_run(run, split="test", context=context, with_baselines=True, **work)
        return self._read_result(run, point.settings, point.seed)

    def read_results(self) -> list[Result]:
        """Read the results of all finished runs in the folder, in the order of settings and seeds."""
        groups = read_json(self.folder / FILE, "study").get("groups", {})
        results = []
        for group in _sort_groups(groups):
            files = self.folder.glob(f"runs/{group}/seed-*/run.json")
            runs = {int(file.parent.name.removeprefix("seed-")): Run(file.parent) for file in files}
            for seed, run in sorted(runs.items(), key=lambda item: item[0]):
                if _is_done(run) and _split(run):
                    results.append(self._read_result(run, groups[group], seed))
        return results

    def path(self, point: Point) -> Path:
        """Return the run directory of a point."""
        return self.folder / "runs" / point.group / f"seed-{point.seed}"

    def _find_run(self, point: Point) -> Run | None:
        """Return the run of a point if it exists. Raises `RunError` if it has another recipe."""
        path = self.path(point)
        if not path.exists():
            return None
        run = open_run(path)
        # the folder of the runs does not change their results
        stored, current = (
            {**values, "run": {**values["run"], "dir": None}}
            for values in (run.recipe().to_dict(), point.recipe.to_dict())
        )
        sections = [key for key in current if stored.get(key) != current[key]]
        if sections:
            raise self._conflict([f"{path} has another {', '.join(sections)} section"])
        return run

    def _find_earlier(self, point: Point) -> Run | None:
        """Return the finished run of the same seed and choice with the next smaller number of labels."""
        groups: Mapping[str, Mapping[str, Any]] = read_json(self.folder / FILE, "study").get("groups", {})
        smaller = {
            name: settings["labels"]
            for name, settings in groups.items()
            if {**settings, "labels": point.settings["labels"]} == point.settings
            and settings["labels"] < point.settings["labels"]
        }
        for name in sorted(smaller, key=smaller.__getitem__, reverse=True):
            run = Run(self.folder / "runs" / name / f"seed-{point.seed}")
            if run.path.is_dir() and _is_done(run):
                return run
        return None

    def _read_result(self, run: Run, settings: Mapping[str, SettingValue], seed: int) -> Result:
        info, split = run.info(), _split(run) or SPLITS[0]
        best = info.get("best") or {}
        return Result(
            settings=settings,
            seed=seed,
            run=run.path.relative_to(self.folder).as_posix(),
            methods={FLOWGMM: {**info[split], "seconds": info.get("seconds")}, **_read_baselines(run)},
            criterion=(best.get("metric"), best.get("value")),
            split=split,
        )

    def _conflict(self, details: Sequence[str]) -> RunError:
        kind, name = self.header["kind"], self.header["recipe"]
        return RunError(
            f"{self.folder} belongs to something other than this {kind} of {name}, so it cannot be resumed",
            details=details,
            hint=f"choose another folder: --out {quote(f'{self.folder}-2')}; "
            "or repeat the arguments of the first call",
        )

    def _describe_difference(self, key: str, stored: object) -> str:
        if key == "digest":
            return "the recipe file has changed since"
        values = (stored, self.header[key])
        texts = [" ".join(value) or "none" if isinstance(value, list) else value for value in values]
        return f"{key}: stored {texts[0]}, now {texts[1]}"


def _sort_groups(groups: Mapping[str, Mapping[str, SettingValue]]) -> list[str]:
    """Sort groups by the settings that are numbers; else keep the order."""

    def numbers(name: str) -> list[int]:
        return [value for value in groups[name].values() if isinstance(value, int)]

    return sorted(groups, key=numbers)


def find_forecasts(recipe: Recipe) -> list[str]:
    """Read the forecasts of the recipe's curve in the working folder, a line each; none without a curve."""
    folder, words = Path("curves", recipe.name), recipe.origin.overrides
    curve = Experiment(folder, kind="curve", recipe=recipe, keys=["labels"], overrides=words)
    return read_forecasts(folder) if curve.is_of_same_settings() else []


def _is_done(run: Run) -> bool:
    return bool(run.info().get("status") == "done")


def _split(run: Run) -> str | None:
    """Return the rows that the accuracy of a run is of: `test`, else `cross_fitted`, or None without any."""
    info = run.info()
    return next((split for split in SPLITS if info.get(split) is not None), None)


def _read_baselines(run: Run) -> dict[str, dict[str, Any]]:
    file = run.path / "eval" / f"{_split(run)}.json"
    return dict(read_json(file, "evaluation").get("baselines", {})) if file.is_file() else {}


def _settings(header: Mapping[str, Any]) -> list[Any]:
    words = [word for word in header.get("overrides", ()) if not word.startswith(_OTHER_KEYS)]
    return [*(header.get(key) for key in ("kind", "digest", "overlays")), words]
