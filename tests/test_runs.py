from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from flowgmm_cli.errors import PluginError, RunError
from flowgmm_cli.files import write_json
from flowgmm_cli.metrics_log import MetricsLog
from flowgmm_cli.processes import process_info, start_time
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, create_run, find_run, link_latest, list_runs, open_run
from flowgmm_cli.training.pipeline import train

MakeRecipe = Callable[..., Recipe]


def fake_run(path: Path, *, status: str = "done", created: str = "2026-01-01T00:00:00") -> Run:
    write_json(path / "run.json", {"status": status, "created": created, "host": platform.node()})
    return Run(path)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def gone_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_new_run_holds_its_recipe_and_says_where_it_comes_from(moons: MakeRecipe, tmp_path: Path) -> None:
    recipe = moons("run.seed=3")
    run = create_run(recipe, argv=["train", "moons.yaml"])
    assert run.path.parent == tmp_path / "runs" / "moons"
    assert (run.path / "recipe.yaml").read_text() == recipe.origin.text
    assert run.recipe().to_dict() == recipe.to_dict()
    info = run.info()
    assert (info["status"], info["seed"], info["argv"]) == ("running", 3, ["train", "moons.yaml"])
    assert info["overrides"][-1] == "run.seed=3"
    assert info["overlays"] == []
    assert {"torch", "python", "flowgmm-cli"} <= info["versions"].keys()
    assert {"flow", "data", "prior", "objective", "regulariser", "score", "transform", "view"} == {
        one["kind"] for one in info["components"]
    }
    assert run.status() == "running"
    assert create_run(recipe, argv=[]).path != run.path


def test_an_empty_folder_may_become_a_run_and_a_full_one_is_left_alone(
    moons: MakeRecipe, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert create_run(moons(), argv=[], directory=folder).path == folder
    before = tree(tmp_path)
    with pytest.raises(RunError, match="exists already") as caught:
        create_run(moons(), argv=[], directory=folder)
    assert "--resume" in str(caught.value.hint)
    other = tmp_path / "file"
    other.write_text("precious")
    for place, reason in ((other, "exists already"), (other / "run", "cannot be created")):
        with pytest.raises(RunError, match=reason):
            create_run(moons(), argv=[], directory=place)
    assert other.read_text() == "precious"
    assert tree(tmp_path) == sorted([*before, "file"])


@pytest.mark.parametrize("place", [(os, "fsync"), (Path, "rename")])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_run_that_cannot_be_created_leaves_nothing(
    moons: MakeRecipe, tmp_path: Path, place: tuple[object, str], error: type[BaseException]
) -> None:
    recipe, folder = moons(), tmp_path / "place" / "run"
    folder.parent.mkdir()
    with patch.object(*place, side_effect=error), pytest.raises(error):
        create_run(recipe, argv=[], directory=folder)
    assert tree(folder.parent) == []


def test_a_directory_created_meanwhile_is_not_overwritten(
    moons: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = tmp_path / "run", Path.rename

    def overtaken(self: Path, target: Path) -> Path:
        target.mkdir()
        (target / "theirs").write_text("precious")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    with pytest.raises(RunError, match="cannot be created"):
        create_run(moons(), argv=[], directory=folder)
    assert tree(tmp_path) == sorted(["moons.yaml", "run", "run/theirs"])


def test_a_run_whose_process_is_gone_counts_as_killed(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", status="running")
    run.update(pid=os.getpid())
    assert run.status() == "running"
    run.update(pid=gone_pid())
    assert run.status() == "killed"
    run.update(host="elsewhere")  # of which nothing is known here
    assert run.status() == "running"
    run.update(**process_info())
    assert run.status() == "running"
    run.update(pid_start=start_time(os.getpid()) + 1)  # a process with the number of one that has ended
    assert run.status() == "killed"
    run.update(status="done")
    assert run.status() == "done"


def test_a_run_is_trained_by_one_process_at_a_time(new_run: Any) -> None:
    run = new_run("run")
    hold = "import sys; from pathlib import Path; from flowgmm_cli.runs import Run\n"
    hold += "with Run(Path(sys.argv[1])).lock(): print('locked', flush=True); input()"
    command = [sys.executable, "-c", hold, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        run.update(pid=process.pid)
        with pytest.raises(RunError, match=f"process {process.pid} on {platform.node()}"):
            train(run.recipe(), run)
        assert run.info()["pid"] == process.pid
        process.kill()
    with run.lock():  # a process that is gone locks nothing
        pass


def test_without_locks_of_files_the_process_in_run_json_counts(new_run: Any) -> None:
    run = new_run("run")
    run.update(pid=os.getppid(), pid_start=0)  # of the process that created it
    with patch("fcntl.flock", side_effect=OSError(errno.ENOLCK, "no locks")):
        with run.lock():
            run.update(processes=1)
        with pytest.raises(RunError, match=f"process {os.getppid()} on"), run.lock():
            pass
        run.update(pid=gone_pid())
        with run.lock():
            pass


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"components": "abc"}, "components"),
        ({"components": [{"kind": "flow", "name": 3}]}, "components.0.name"),
        ({"test": 7}, "test"),
        ({"test": {"accuracy": "high"}}, "test.accuracy"),
        ({"seconds": "x"}, "seconds"),
        ({"status": ["done"]}, "status"),
        ({"calibration": {"temperature": None}}, "calibration.temperature"),
        ({"rows": {"train": 1.5}}, "rows.train"),
        ({"best": 1}, "best"),
        ({"ood": {"default": "nll", "threshold": None}}, "ood.threshold"),
        ({"ood": {"default": "a", "threshold": 1, "choice": {"a": {"x": 1}, "b": {}}}}, "ood.choice"),
    ],
)
def test_values_of_other_types_are_named(tmp_path: Path, values: dict[str, Any], key: str) -> None:
    write_json(tmp_path / "run.json", values)
    with pytest.raises(RunError, match="other types") as caught:
        open_run(tmp_path)
    assert any(line.startswith(f"{key}: ") for line in caught.value.details)


@pytest.mark.parametrize(
    "name", ["eval", "report", "checkpoints", "members", "members/1", "members/1/checkpoints"]
)
def test_a_folder_of_a_run_that_is_a_link_is_a_run_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / "runs" / "a" / "b")
    link = run.path / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path)
    for given in (str(run.path), None):
        with pytest.raises(RunError, match=f"{name} is a link to another folder"):
            find_run(given, {})
    link.unlink()
    whole = tmp_path / "link"
    whole.symlink_to(run.path)
    assert find_run(str(whole), {})[0].path == run.path


def test_another_folder_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "runs" / "digits" / "2026-a")
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(RunError, match="not a run directory"):
            open_run(path)
    with pytest.raises(RunError, match="did you mean `runs/digits/2026-a`"):
        open_run(Path("runs/digits/2026-b"))
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="not readable JSON"):
        open_run(tmp_path)


def test_a_damaged_recipe_is_a_run_error_and_a_missing_plugin_a_plugin_error(moons: MakeRecipe) -> None:
    run = create_run(moons(), argv=[])
    file = run.path / "resolved.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("use: realnvp", "use: gone"))
    with pytest.raises(PluginError, match="gone"):
        run.recipe()
    cut = whole[: whole.index("couplings: 2") + 4]  # in the middle of a word
    for damaged in (cut, "", whole.replace("couplings: 2", "couplings: two")):
        file.write_text(damaged)
        with pytest.raises(RunError, match="damaged"):
            run.recipe()
    file.unlink()
    with pytest.raises(RunError, match=r"no resolved\.yaml"):
        run.recipe()


def test_the_argument_comes_before_the_environment_and_that_before_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, named = fake_run(tmp_path / "given"), fake_run(tmp_path / "named")
    old = fake_run(tmp_path / "runs/a/old", created="2026-01-01T00:00:00")
    fake_run(tmp_path / "runs/a/new", created="2026-03-01T00:00:00")
    fake_run(tmp_path / "runs/b/middle", created="2026-02-01T00:00:00")
    fake_run(tmp_path / "runs/b/unfinished", status="failed", created="2026-04-01T00:00:00")

    environ = {"FLOWGMM_RUN": str(named.path)}
    assert find_run(str(given.path), environ) == (given, "as given")
    assert find_run(None, environ) == (named, "from FLOWGMM_RUN")
    assert find_run(None, {"FLOWGMM_RUN": ""}) == find_run(None, {})
    newest, how = find_run(None, {})
    assert newest.path == Path("runs/a/new")
    assert "newest finished" in how
    assert find_run("runs/b/latest", environ)[0].path == Path("runs/b/middle")
    for word in ("runs/latest", "latest"):
        assert find_run(word, environ)[0].path == Path("runs/a/new")
    with pytest.raises(RunError, match="no finished run under b") as caught:
        find_run("b/latest", environ)
    assert caught.value.hint == "name runs/b/latest"
    assert find_run(None, {"FLOWGMM_RUN": "runs/b/latest"})[0].path == Path("runs/b/middle")
    monkeypatch.setenv("FLOWGMM_RUN", str(named.path))
    assert find_run(None)[0] == named
    old.update(ended="2026-05-01T00:00:00")  # the time at which a run ended counts
    assert find_run(None, {})[0].path == Path("runs/a/old")
    latest = fake_run(tmp_path / "latest")  # a run of that name
    assert find_run("latest", {})[0].path == Path("latest")
    assert find_run(str(latest.path), {}) == (latest, "as given")


def test_unfinished_runs_are_named_with_their_steps(
    new_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = new_run("runs/moons/a")  # 4 epochs of 3 steps
    MetricsLog(run.metrics).write(step=6, epoch=2.0, split="train", seconds=1.0)
    with pytest.raises(RunError) as caught:
        find_run("runs/moons/latest", {})
    assert [line.split("  ")[0] for line in caught.value.details] == ["runs/moons/a"]
    assert re.search(r"running, begun at \d\d:\d\d on .* \(step 6 of 12\)", caught.value.details[0])
    assert "wait for its end" in str(caught.value.hint)
    run.update(status="interrupted")
    with pytest.raises(RunError) as caught:
        find_run("runs/moons/latest", {})
    assert "train --resume runs/moons/a" in str(caught.value.hint)


def test_links_lead_to_the_newest_finished_run(moons: MakeRecipe, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    first, second = (create_run(moons("train.epochs=1"), argv=[]) for _ in range(2))
    train(first.recipe(), first)
    for link in (root / "latest", root / "moons" / "latest"):
        assert link.resolve() == first.path
        assert not link.readlink().is_absolute()
        assert open_run(link) == first
    link_latest(second)
    assert (root / "latest" / "run.json").samefile(second.path / "run.json")
    assert find_run(str(root / "latest"), {})[0] == first  # the second is not finished
    assert list_runs(root) == sorted([first, second], key=lambda run: run.path)


def test_a_folder_named_latest_stays_and_links_are_not_needed(moons: MakeRecipe, tmp_path: Path) -> None:
    run = create_run(moons(), argv=[])
    (tmp_path / "runs" / "latest").mkdir()
    link_latest(run)
    assert not (tmp_path / "runs" / "latest").is_symlink()
    (tmp_path / "runs" / "moons" / "latest").unlink()
    with patch.object(Path, "symlink_to", side_effect=PermissionError(errno.EPERM, "no symbolic links here")):
        link_latest(run)
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]
    link_latest(create_run(moons(), argv=[], directory=tmp_path / "elsewhere"))
    assert not (tmp_path / "latest").exists()


def test_listing_leaves_out_what_is_hidden_or_unreadable(tmp_path: Path) -> None:
    good = [fake_run(tmp_path / "a" / "one"), fake_run(tmp_path / "two")]
    fake_run(tmp_path / "a" / ".one.1234.tmp")
    bad = {"cut": b"{", "deep": b"[" * 200_000, "bytes": b'{"a": "\xff"}', "types": b'{"status": 1}'}
    for name, content in bad.items():
        fake_run(tmp_path / name).path.joinpath("run.json").write_bytes(content)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    (tmp_path / "folder" / "run.json").mkdir(parents=True)
    huge = fake_run(tmp_path / "huge").path / "run.json"
    os.truncate(huge, 2**40)
    (tmp_path / "a" / "none").mkdir()
    notes: list[str] = []
    assert list_runs(tmp_path, notes.append) == good
    assert len(notes) == len(bad) + 3
    for name in (*bad, "pipe", "folder", "huge"):
        assert any(f"{tmp_path / name}" in note for note in notes)
    assert list_runs(tmp_path / "nowhere") == []
