"""A folder of runs that belong together: made once, gone on with, never mixed with those of another recipe.

study = Study(folder, kind="curve", recipe=recipe, keys=["labels"], words=words)
study.claim(points)
for point in points:
    study.carry_out(point, work)
study.results()
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError, FlowgmmError, RunError
from flowgmm_cli.experiments.points import Point, Setting
from flowgmm_cli.experiments.results import OURS, Result
from flowgmm_cli.files import read_json, write_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, create_run, open_run
from flowgmm_cli.training.fitting import Talk
from flowgmm_cli.training.interrupt import Interrupt

SCHEMA = "flowgmm/study/1"


@dataclass(frozen=True)
class Work:
    """What carrying out a point needs beside the point.

    Attributes:
        context: surroundings of data sources.
        talk: progress and notes.
        interrupt: a request to stop.
        baselines: fit the baselines on the same vectors and labels too.
        argv: the command line, for `run.json`.
    """

    context: DataContext = field(default_factory=DataContext)
    talk: Talk = field(default_factory=Talk)
    interrupt: Interrupt = field(default_factory=Interrupt)
    baselines: bool = False
    argv: Sequence[str] = ()


class Study:
    """The runs of one curve or sweep.

    ==============================  ===========================================================
    `study.json`                    what it is a study of, and its settings
    `runs/<settings>/seed-<seed>/`  ordinary run directories
    ==============================  ===========================================================

    Args:
        folder: where it lies.
        kind: `curve` or `sweep`.
        recipe: any recipe of it; its name, file and overlays count.
        keys: what its settings are about; all points have these.
        words: the overrides that all its runs share, as given.
    """

    def __init__(
        self, folder: Path, *, kind: str, recipe: Recipe, keys: Sequence[str], words: Sequence[str]
    ) -> None:
        self.folder = folder
        self.header = {
            "schema": SCHEMA,
            "kind": kind,
            "recipe": recipe.name,
            "digest": hashlib.sha256(recipe.origin.text.encode()).hexdigest(),
            "keys": sorted(keys),
            "overlays": list(recipe.origin.overlays),
            "overrides": sorted(words),
        }

    def claim(self, points: Sequence[Point]) -> None:
        """Make the folder, or take it up again, and add the points' settings.

        Raises:
            RunError: the folder holds something else, or a study or run of another recipe.
        """
        file = self.folder / "study.json"
        groups: dict[str, Any] = {}
        if file.is_file():
            before = {"overlays": [], **read_json(file, "study")}  # there were none in the beginning
            differing = [key for key, value in self.header.items() if before.get(key) != value]
            if differing:
                raise self._foreign([self._difference(key, before.get(key)) for key in differing])
            groups = dict(before.get("groups", {}))
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise self._foreign(["it has no study.json"])
        for point in points:
            self._existing(point)
        groups |= {point.group: dict(point.settings) for point in points}
        try:
            write_json(file, {**self.header, "groups": groups})
        except OSError as error:
            raise RunError(
                f"the folder {self.folder} cannot be made: {error.strerror}", hint="choose another: --out DIR"
            ) from error

    def finished(self, point: Point, *, baselines: bool) -> bool:
        """Whether nothing is left to do at this point."""
        run = self._existing(point)
        return run is not None and _is_done(run) and bool(not baselines or _baselines(run))

    def carry_out(self, point: Point, work: Work) -> Result:
        """Train a point, or go on with it, or only add the baselines it lacks.

        Raises:
            DataError: the data has no test rows.
            FlowgmmError: whatever stopped training.
        """
        from flowgmm_cli.training.pipeline import train

        run = self._existing(point)
        new = run is None
        if run is None:
            run = create_run(point.recipe, argv=work.argv, directory=self.path(point))
        if not _is_done(run):
            _require_nobody_else(run)
            try:
                train(point.recipe, run, context=work.context, talk=work.talk, interrupt=work.interrupt)
            except FlowgmmError:
                if new and not run.checkpoints.exists():  # its rows could not be read: nothing to keep
                    shutil.rmtree(run.path)
                raise
        if run.info().get("test") is None:
            raise DataError(
                "there are no test rows, so there is no accuracy to compare", hint="data.split.test=0.2"
            )
        if work.baselines and not _baselines(run):
            _add_baselines(run, work)
        return self._read(run, point.settings, point.seed)

    def results(self) -> list[Result]:
        """What all finished runs of the folder found, in the order of settings and seeds."""
        groups = read_json(self.folder / "study.json", "study").get("groups", {})
        found = []
        for group, settings in groups.items():
            for file in self.folder.glob(f"runs/{group}/seed-*/run.json"):
                run = Run(file.parent)
                if _is_done(run) and run.info().get("test") is not None:
                    found.append(self._read(run, settings, int(run.path.name.removeprefix("seed-"))))
        order = {group: place for place, group in enumerate(_ordered(groups))}
        return sorted(found, key=lambda one: (order[Path(one.run).parent.name], one.seed))

    def path(self, point: Point) -> Path:
        """The run directory of a point."""
        return self.folder / "runs" / point.group / f"seed-{point.seed}"

    def _existing(self, point: Point) -> Run | None:
        """The run of a point if there is one. Raises `RunError` if it was made with another recipe."""
        path = self.path(point)
        if not path.exists():
            return None
        run = open_run(path)
        before, now = _essence(run.recipe()), _essence(point.recipe)
        if before != now:
            sections = [key for key in now if before.get(key) != now[key]]
            raise self._foreign([f"{path} has another {', '.join(sections)} section"])
        return run

    def _read(self, run: Run, settings: Mapping[str, Setting], seed: int) -> Result:
        info = run.info()
        best = info.get("best") or {}
        return Result(
            settings=settings,
            seed=seed,
            run=run.path.relative_to(self.folder).as_posix(),
            methods={OURS: {**info["test"], "seconds": info.get("seconds")}, **_baselines(run)},
            criterion=(best.get("metric"), best.get("value")),
        )

    def _foreign(self, details: Sequence[str]) -> RunError:
        kind, name = self.header["kind"], self.header["recipe"]
        return RunError(
            f"{self.folder} was not made by this {kind} of {name}, so it cannot be gone on with",
            details=details,
            hint=f"choose another folder: --out {self.folder}-2; or give the words it was made with",
        )

    def _difference(self, key: str, before: object) -> str:
        if key == "digest":
            return "the recipe file has changed since"
        now = self.header[key]
        if isinstance(before, list):
            return f"{key}: it has {' '.join(before) or 'none'}, now {' '.join(now) or 'none'}"
        return f"{key}: it has {before}, now {now}"


def _ordered(groups: Mapping[str, Mapping[str, Setting]]) -> list[str]:
    """Groups by their settings where these are numbers, else as they came."""
    numeric = all(isinstance(value, int) for one in groups.values() for value in one.values())
    if not numeric:
        return list(groups)
    return sorted(groups, key=lambda group: tuple(int(value) for value in groups[group].values()))


def _is_done(run: Run) -> bool:
    return bool(run.info().get("status") == "done")


def _baselines(run: Run) -> dict[str, dict[str, Any]]:
    file = run.path / "eval" / "test.json"
    return dict(read_json(file, "evaluation").get("baselines", {})) if file.is_file() else {}


def _add_baselines(run: Run, work: Work) -> None:
    from flowgmm_cli.training.score import score_run

    result = score_run(
        run,
        split="test",
        context=work.context,
        with_baselines=True,
        progress=lambda done, total, what: work.talk.progress(done, total, "baselines", what),
        warn=work.talk.note,
    )
    write_json(run.path / "eval" / "test.json", result.to_dict(str(run.path)))


def _essence(recipe: Recipe) -> dict[str, Any]:
    """What decides the result of a run: all of the recipe but where its runs would go."""
    values = recipe.to_dict()
    values["run"] = {key: value for key, value in values["run"].items() if key != "dir"}
    return values


def _require_nobody_else(run: Run) -> None:
    info = run.info()
    if run.status() == "running" and info.get("host") == platform.node() and info.get("pid") != os.getpid():
        raise RunError(
            f"another process ({info.get('pid')}) is at work on {run.path}",
            hint="wait for it, or stop it first",
        )
