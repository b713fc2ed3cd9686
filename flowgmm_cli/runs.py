"""Run directories: create, find and describe them. `Run` lists their files."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from flowgmm_cli.errors import FlowgmmError, RecipeError, RunError, did_you_mean
from flowgmm_cli.files import atomic_folder, file_digest, temporary_path, write_json, write_text
from flowgmm_cli.hub import fetch_run, is_address
from flowgmm_cli.messages import quote
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.processes import is_alive, lock_file
from flowgmm_cli.recipe.load import load_resolved
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.run_info import initial_info, read_info, timestamp

Status = Literal["running", "done", "interrupted", "failed"]
LATEST = "latest"
"""Name of the link to the newest finished run of a folder."""

_MAX_STATES = 5
_PATIENCE = 2.0  # seconds
_USER_ERRORS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
}


@dataclass(frozen=True)
class Run:
    """One run directory.

    ======================  ================================================================
    `recipe.yaml`           the recipe as given
    `resolved.yaml`         the same with overrides, interpolation and defaults
    `run.json`              status, versions, plugin provenance, argv, device, seed, times
    `metrics.jsonl`         one line per logged step
    `checkpoints/`          `last` and `best` (safetensors) and the fitted preprocessor
    `model.safetensors`     weights for inference, with `model.json`
    `eval/`                 results of evaluations, and predictions of each row (npz): `cross_fitted.npz`
                            has labelled training rows, predicted by models that have not seen their label
    `MODEL_CARD.md`         description of the model, its quality and its use
    `report.html`           the report, with its figures as PNG files in `report/`
    `search.json`           results of the search, if the recipe has one, with `search.safetensors`
    `members/`              metrics and checkpoints of the further members of an ensemble, by number
    ======================  ================================================================
    """

    path: Path

    @property
    def name(self) -> str:
        """`<recipe>/<timestamp>-<hash>`."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def metrics(self) -> Path:
        """File of training metrics."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    def member(self, index: int) -> Run:
        """Return the directory of a member's metrics and checkpoints; the run itself for the first one."""
        if index == 0:
            return self
        member = Run(self.path / "members" / str(index))
        member.path.mkdir(parents=True, exist_ok=True)
        return member

    def info(self) -> dict[str, Any]:
        """Return the contents of `run.json`. Raises `RunError` if it is missing or damaged."""
        return read_info(self.path / "run.json")

    def status(self) -> str:
        """Return the status in `run.json`, or `killed` if the process that trained the run is gone."""
        info = self.info()
        status = str(info.get("status", "unknown"))
        is_local = info.get("host") == platform.node()
        if status == "running" and is_local and not is_alive(info.get("pid"), info.get("pid_start")):
            return "killed"
        return status

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from training the run while a block runs.

        Raises:
            RunError: another process trains the run.
        """
        try:
            # the one file that every run has and nothing replaces
            with lock_file(self.path / "resolved.yaml") as is_locked:
                if not is_locked and self._is_busy():
                    raise BlockingIOError
                yield
        except BlockingIOError:
            raise self._busy_error() from None

    def _is_busy(self) -> bool:
        """Return True if another process of this machine trains the run, by `run.json`."""
        info = self.info()
        # before it trains, `run.json` names the process that created the run
        return self.status() == "running" and "processes" in info and info.get("pid") != os.getpid()

    def _busy_error(self) -> RunError:
        deadline = time.monotonic() + _PATIENCE
        while self.status() != "running" and time.monotonic() < deadline:
            time.sleep(0.05)  # the other process has just begun and not yet written its number
        info = self.info()
        return RunError(
            f"process {info.get('pid')} on {info.get('host')} is training {self.path} already",
            hint="wait for its end, or stop it first; `flowgmm runs list` shows the state of each run",
        )

    def update(self, **values: Any) -> None:
        """Update values in `run.json`."""
        write_json(self.path / "run.json", {**self.info(), **values, "updated": timestamp()})

    def require_same_data(self, fingerprint: str) -> None:
        """Raise `RunError` if the run began with data of another fingerprint."""
        if self.info().get("fingerprint") not in (None, fingerprint):
            raise RunError(
                f"the data has changed since {self.path} began, so it cannot be resumed",
                hint="start a new run with the same recipe",
            )

    def require_finished(self) -> None:
        """Raise `RunError` unless the run has ended well."""
        if (status := self.status()) != "done":
            resume = f"continue it: flowgmm train --resume {quote(self.path)}"
            hint = "wait for its end" if status == "running" else resume
            raise RunError(f"{self.path} is not finished: its status is {status}", hint=hint)

    def reference(self) -> dict[str, Any]:
        """Return the run as runs that go on from it name it, with the runs before it."""
        info, weights = self.info(), self.path / "model.safetensors"
        digest = file_digest(weights) if weights.is_file() else None
        earlier = {"from": info["from"]} if info.get("from") else {}
        return {
            "run": str(self.path.absolute()),
            "fingerprint": info.get("fingerprint"),
            "weights": digest,
            **earlier,
        }

    def recipe(self) -> Recipe:
        """Return the resolved recipe. Raises `RunError` if it is missing or damaged."""
        file = self.path / "resolved.yaml"
        if not file.is_file():
            raise RunError(f"run {self.path} has no resolved.yaml", hint="`flowgmm runs list` shows the runs")
        try:
            return load_resolved(file, components=self.info().get("components") or ())
        except RecipeError as error:
            raise RunError(f"run {self.path} is damaged: {error.message}", details=error.details) from error


def create_run(
    recipe: Recipe, *, argv: Sequence[str], directory: Path | None = None, start: Run | None = None
) -> Run:
    """Create a run directory under `run.dir`, or exactly `directory`; it appears complete or not at all.

    `start` is the finished run whose model the training goes on from.

    Raises:
        RunError: `directory` exists already and is not empty, or cannot be created.
    """
    if directory is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        directory = Path(recipe.run.dir).expanduser() / recipe.name / f"{stamp}-{secrets.token_hex(2)}"
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise RunError(
            f"{directory} exists already",
            hint=f"flowgmm train --resume {quote(directory)} resumes it; or choose another --run-dir",
        )
    info = initial_info(recipe, argv) | ({"from": start.reference()} if start else {})
    try:
        with atomic_folder(directory) as folder:
            write_text(folder / "recipe.yaml", recipe.origin.text)
            write_text(folder / "resolved.yaml", recipe.to_yaml())
            write_json(folder / "run.json", info)
            if directory.exists():
                directory.rmdir()
    except OSError as error:
        if error.errno not in _USER_ERRORS:
            raise
        raise RunError(
            f"the run directory {directory} cannot be created: {error.strerror}",
            hint="choose another directory: --run-dir DIR, or run.dir=DIR",
        ) from error
    return Run(directory)


def open_run(path: Path) -> Run:
    """Return the run at `path`.

    Raises:
        RunError: `path` is not a run directory, or is damaged, or a folder in it is a link.
    """
    if path.is_symlink():  # such as `latest`
        path = Path(os.path.normpath(path.parent / path.readlink()))
    run = Run(path)
    if not (path / "run.json").is_file():
        similar = did_you_mean(str(path), [f"runs/{known.name}" for known in list_runs(Path("runs"))])
        hint = "`flowgmm runs list` shows the runs"
        if (folder := Path("runs", path)).is_dir():
            hint = f"name {folder if (folder / 'run.json').is_file() else folder / LATEST}"
        raise RunError(f"{path} is not a run directory{similar}", hint=hint)
    run.info()
    for folder in (path, *path.glob("members"), *path.glob("members/*/")):  # where commands write
        links = sorted(entry.path for entry in os.scandir(folder) if entry.is_symlink() and entry.is_dir())
        if links:
            raise RunError(
                f"{links[0]} is a link to another folder, and what commands write to a run stays in it",
                hint="replace the link by a folder; --run-dir puts a whole run on another disk",
            )
    return run


def find_run(
    given: str | None,
    environ: Mapping[str, str] | None = None,
    note: Callable[[str], None] = lambda text: None,
    *,
    offline: bool = False,
) -> tuple[Run, str]:
    """Return the run of a command, and the way it was selected; `note` is that of `list_runs`.

    The first of these counts: `given`, `$FLOWGMM_RUN`, the newest finished run under `./runs`. A last path
    component `latest` means the newest finished run of that folder, alone that of `./runs`, and
    `hf://owner/name` a run of the hub.

    Raises:
        PluginError: a package that a run of the hub needs is not installed.
        RunError: there is no such run.
    """
    environ = os.environ if environ is None else environ
    if is_address(address := given or environ.get("FLOWGMM_RUN") or ""):
        folder, commit = fetch_run(address, offline=offline, note=note)
        return open_run(folder), f"{address}, commit {commit[:7]}"
    if given:
        path, how = Path(given).expanduser(), "as given"
    elif environ.get("FLOWGMM_RUN"):
        path, how = Path(environ["FLOWGMM_RUN"]).expanduser(), "from FLOWGMM_RUN"
    else:
        path, how = Path("runs/latest"), "the newest finished run under ./runs"
    if str(path) == LATEST and not path.exists():
        path = Path("runs/latest")
    if path.name != LATEST or (path.exists() and not path.is_symlink()):
        return open_run(path), how
    runs = list_runs(path.parent, note)
    finished = [run for run in runs if run.info().get("status") == "done"]
    if not finished:
        raise _no_finished_run(path.parent, runs)
    newest = max(finished, key=lambda run: str(run.info().get("ended") or run.info().get("created", "")))
    return open_run(newest.path), f"the newest finished run under {path.parent}" if given else how


def _no_finished_run(root: Path, runs: Sequence[Run]) -> RunError:
    hint = "train one: flowgmm train digits; or name a run: --run DIR"
    if not root.is_dir() and Path("runs", root).is_dir():
        hint = f"name {Path('runs', root, LATEST)}"
    states = [(run, run.status()) for run in runs]
    stopped = [run for run, status in states if status in ("interrupted", "killed")]
    if any(status == "running" for _, status in states):
        hint = "wait for its end, or name another run: --run DIR"
    elif stopped:
        hint = f"continue it: flowgmm train --resume {stopped[-1].path}"
    details = [f"{run.path}  {_describe_state(run, status)}" for run, status in states[-_MAX_STATES:]]
    return RunError(f"there is no finished run under {root}", details=details, hint=hint)


def _describe_state(run: Run, status: str) -> str:
    """Return the status of an unfinished run with the time of its start and its last logged step."""
    with contextlib.suppress(ValueError):
        created = datetime.fromisoformat(str(run.info().get("created")))
        status += f", begun at {created.astimezone():%H:%M on %d %B}"
    lines = read_metrics(run.metrics) if run.metrics.is_file() else []
    if not lines:
        return status
    step, epoch, total = lines[-1]["step"], float(lines[-1].get("epoch") or 0.0), ""
    with contextlib.suppress(FlowgmmError, ZeroDivisionError):
        train = run.recipe().train
        steps = round(step / epoch * train.epochs)
        total = f" of {min(steps, train.max_steps or steps):,}"
    return f"{status} (step {step:,}{total})"


def link_latest(run: Run) -> None:
    """Let `latest` beside a run of `run.dir`, and `latest` in `run.dir`, point to the run.

    A file or folder of this name stays, and file systems without symbolic links have no such links.
    """
    root = Path(run.recipe().run.dir).expanduser()
    if run.path.parent.parent.absolute() != root.absolute():
        return
    for folder in (run.path.parent, root):
        link = folder / LATEST
        if link.exists() and not link.is_symlink():
            continue
        temporary = temporary_path(link)
        with contextlib.suppress(OSError):
            temporary.symlink_to(run.path.relative_to(folder), target_is_directory=True)
            temporary.replace(link)


def list_runs(root: Path, note: Callable[[str], None] = lambda text: None) -> list[Run]:
    """Return all readable runs in `root` or one level below it, by path; `note` receives the others."""
    runs = []
    for file in sorted([*root.glob("*/run.json"), *root.glob("*/*/run.json")]):
        run = Run(file.parent)
        # a directory whose name begins with a dot is incomplete
        if run.path.name.startswith(".") or (run.path.name == LATEST and run.path.is_symlink()):
            continue
        try:
            run.info()
        except RunError as error:
            note("; ".join([f"left out: {error.message}", *error.details[:1]]))
        else:
            runs.append(run)
    return runs
