"""Errors: the documented exit code, place and cause, a hint, and no half-written file."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, change, numbers, save, shell

from flowgmm_cli.runs import list_runs

RECIPE = """\
version: 1
data:
  use: csv
  path: t.csv
  label: label
train:
  lr: 1e-3
"""


@pytest.fixture(autouse=True)
def _files(folder: Path) -> None:
    """A sound table `t.csv` and a sound recipe `my.yaml` to spoil."""
    save("t.csv", numbers(30))
    save("my.yaml", RECIPE)


def spoil(old: str, new: str) -> Callable[[], None]:
    def change() -> None:
        assert old in RECIPE
        Path("my.yaml").write_text(RECIPE.replace(old, new), encoding="utf-8")

    return change


def table(rows: Sequence[Sequence[str]]) -> Callable[[], None]:
    return lambda: save("t.csv", [list(row) for row in rows]) and None


def with_cells(**cells: str) -> list[list[str]]:
    rows = numbers(30)
    for place, cell in cells.items():
        row, column = place.removeprefix("r").split("c")
        rows[int(row)][int(column)] = cell
    return rows


def nothing() -> None:
    pass


def assert_refused(outcome: Any, *parts: str) -> None:
    assert outcome.out == ""
    assert not [word for word in ("Traceback", "bug") if word in outcome.err]
    for part in ("error: ", "\nhint: ", *parts):
        assert part in outcome.err


def assert_nothing_left() -> None:
    left = [path for path in Path().rglob("*") if path.name not in ("t.csv", "e.csv", "my.yaml")]
    assert [path for path in left if path.is_file()] == []
    assert list_runs(Path("runs")) == []


CASES: dict[str, tuple[Callable[[], None], list[str], int, list[str]]] = {
    "unknown key": (
        spoil("train:", "train:\n  epoch: 3"), [], 3, ["my.yaml:7", "train.epoch", "did you mean `epochs`"],
    ),
    "typo in an override": (
        nothing, ["train.eopchs=3"], 3, ["train.eopchs", "did you mean `epochs`", "command line"],
    ),
    "two errors at once": (
        spoil("lr: 1e-3", "lr: fast\n  epochs: 0"), [],
        3, ["2 problems", "my.yaml:7", "my.yaml:8", "train.epochs"],
    ),
    "no data.path": (spoil("  path: t.csv\n", ""), [], 3, ["data.path", "is required", "data.path=..."]),
    "no recipe": (nothing, [], 3, ["there is no file and no bundled recipe `cvs`", "did you mean `csv`"]),
    "malformed override": (nothing, ["train.epochs"], 3, ["train.epochs", "="]),
    "unknown flow": (
        spoil("train:", "flow: {use: realnpv}\ntrain:"), [], 4, ["my.yaml:6", "did you mean `realnvp`"],
    ),
    "missing file": (nothing, ["data.path=tt.csv"], 5, ["no such file: tt.csv", "did you mean `t.csv`"]),
    "missing test file": (nothing, ["data.test_path=a b/e.csv"], 5, ["no such file: a b/e.csv"]),
    "missing label column": (
        nothing, ["data.label=lable"],
        5, ["t.csv has no column `lable`", "did you mean `label`", "x1, x2, label"],
    ),
    "no labels": (table(numbers(30, labelled=0)), [], 5, ["label"]),
    "one class": (table(numbers(30, classes=("yes",))), [], 5, ["of the class `yes`"]),
    "a new class in the test file": (
        lambda: save("e.csv", numbers(9, classes=("yes", "perhaps"))) and None,
        ["data.test_path=e.csv"], 5, ["class `perhaps`: 4 test rows"],
    ),
    "NaN cells": (
        table(with_cells(r4c0="", r9c0="NaN")), ["data.missing=error", "data.split={test: 0, val: 0}"],
        5, ["column `x1` is missing", "2 rows, the first is train:4", "data.missing=median"],
    ),
    "infinite cells": (
        table(with_cells(r5c1="inf")), ["data.missing=error", "data.split={test: 0, val: 0}"],
        5, ["column `x2` is missing or infinite", "the first is train:5"],
    ),
    "too many labels asked for": (
        nothing, ["data.labels.count=99"], 5, ["99 labelled rows", "24 rows have a label"],
    ),
    "no such device": (nothing, ["run.device=cuda"], 2, ["run.device=cuda", "run.device=auto"]),
    "runs where a file is": (nothing, ["run.dir=t.csv"], 6, ["t.csv", "cannot be created"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_has_its_code_place_and_next_step(
    flowgmm: Any, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "no such device":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    prepare, words, code, parts = CASES[case]
    prepare()
    outcome = flowgmm("train", "cvs" if case == "no recipe" else "my.yaml", *words, "--json", code=code)
    assert_refused(outcome, *parts)
    assert_nothing_left()


def test_a_damaged_model_or_checkpoint_is_6(flowgmm: Any, run: Path) -> None:
    garbage = b"\x80\x04pickled, perhaps"
    (run / "model.safetensors").write_bytes(garbage)
    assert_refused(flowgmm("eval", "--json", code=6), str(run))
    change(run, status="interrupted")
    (run / "checkpoints" / "last.safetensors").write_bytes(garbage)
    assert_refused(flowgmm("train", "--resume", str(run), "--json", code=6), "last.safetensors")


def test_an_existing_run_directory_is_never_overwritten(flowgmm: Any, run: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    outcome = flowgmm("train", "my.yaml", *SHORT, "--run-dir", str(run), code=6)
    assert_refused(outcome, f"{run} exists already")
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before


def test_a_failed_resume_keeps_the_run(flowgmm: Any, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    Path("t.csv").unlink()
    assert_refused(flowgmm("eval", "--json", code=5), "no such file", "t.csv")
    assert_refused(flowgmm("train", "--resume", str(run), code=5), "no such file")
    assert (run / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("*", []),
        ("preprocessor.json", ["there is no checkpoint yet", "--resume runs"]),
        ("last.safetensors", ["the last checkpoint is intact", "--resume runs"]),
    ],
)
def test_a_disk_that_is_full_keeps_what_it_has(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch, file: str, parts: list[str]
) -> None:
    real = os.fsync

    def full(handle: int) -> None:
        if file == "*" or list(Path("runs").rglob(file)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        outcome = flowgmm("train", "my.yaml", "train.epochs=2", *SHORT[1:], "--json", code=1)
    assert_refused(outcome, "the disk is full", *parts)
    if not parts:
        assert "checkpoint" not in outcome.err
        assert_nothing_left()
        return
    (run,) = list_runs(Path("runs"))
    assert run.status() != "done"
    assert list(Path("runs").rglob("*.tmp")) == []
    assert flowgmm("train", "--resume", str(run.path), "--json").json["epochs"] == 2


NOT_THERE = [
    "nobody/nothing is neither a local folder nor in the cache",
    "\nhint: set data.path to a local folder",
]


@pytest.mark.slow
def test_a_hub_out_of_reach_is_5(tmp_path: Path) -> None:
    environ = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "NO_PROXY": "127.0.0.1"}
    line = "flowgmm train my.yaml data.use=hf_text data.path=nobody/nothing"
    assert_refused(shell(line, code=5, **environ), *NOT_THERE, "the hub cannot be reached")
    assert list_runs(Path("runs")) == []


def test_a_data_set_that_is_not_in_the_cache_is_5_without_the_network(flowgmm: Any) -> None:
    words = ["train", "my.yaml", "data.use=hf_text", "data.path=nobody/nothing", "--offline"]
    assert_refused(flowgmm(*words, code=5), *NOT_THERE, "offline")
    assert list_runs(Path("runs")) == []
