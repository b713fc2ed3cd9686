"""`flowgmm train`: what goes to stdout, what to stderr, and what is left in the run directory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, numbers, save

WORDS = ("train", "csv", "data.path=t.csv", "data.label=label", *SHORT)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table `t.csv`."""
    monkeypatch.chdir(tmp_path)
    save("t.csv", numbers(60, labelled=40))
    return tmp_path


def command(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, its streams being pipes."""
    return subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        check=False,
    )


def test_stdout_is_one_json_object_and_nothing_else() -> None:
    done = command(*WORDS, "--json", FORCE_COLOR="", TTY_COMPATIBLE="")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["schema"] == "flowgmm/train/1"
    assert value["status"] == "done"
    assert value["epochs"] == 1
    assert value["seconds"] > 0
    assert set(value["best"]) >= {"metric", "value"}
    assert set(value["test"]) >= {"accuracy", "nll", "ece"}
    assert 0 <= value["test"]["accuracy"] <= 1
    assert Path(value["run"], "model.safetensors").is_file()
    assert f"run     {value['run']}" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert "\r" not in done.stderr


def test_the_table_is_the_answer_and_the_rest_is_on_stderr(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"runs/csv/\S+: 8 test rows", lines[0])
    assert lines[1].split() == ["test", "value", "95", "%", "interval"]
    assert [line.rsplit(maxsplit=1)[0].strip() for line in lines[3:]] == [
        "balanced accuracy", "macro F1", "NLL", "ECE",
    ]  # fmt: skip
    parts = ("data    ", "8 test rows", "device  ", "temperature ", "done in", "next: flowgmm eval runs/csv/")
    for part in parts:
        assert part in outcome.err


def test_quiet_says_nothing_but_the_answer(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    assert "accuracy" in outcome.out
    outcome = flowgmm(*WORDS, "-q", "-j")
    assert (outcome.code, outcome.err) == (0, "")
    assert json.loads(outcome.out)["status"] == "done"


def test_the_run_directory_is_complete(flowgmm: Any) -> None:
    run = Path(json.loads(flowgmm(*WORDS, "--json").out)["run"])
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert files >= {
        "recipe.yaml", "resolved.yaml", "run.json", "metrics.jsonl", "model.safetensors", "model.json",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors", "eval/test.json",
    }  # fmt: skip
    assert not [name for name in files if name.endswith(".tmp") or "/." in name]
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "done"
    assert info["overrides"] == list(WORDS[2:])
    assert info["argv"][:2] == ["train", "csv"]
    assert info["rows"] == {"train": 49, "labelled": 32, "val": 3, "val_labelled": 0, "test": 8} | {
        name: info["rows"][name] for name in ("train", "val")
    }
    assert {one["kind"] for one in info["components"]} >= {"data", "flow", "prior", "objective"}


def test_metrics_are_one_object_a_line(flowgmm: Any) -> None:
    words = [*WORDS, "train.epochs=4", "train.batch_size=16", "run.log_every=1", "--json"]
    run = Path(json.loads(flowgmm(*words).out)["run"])
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line, parse_constant=lambda name: pytest.fail(f"a bare {name}")) for line in lines]
    steps = [row["step"] for row in rows if row["split"] == "train"]
    assert steps == sorted(set(steps))
    assert len(steps) >= 4
    for row in rows:
        assert {"step", "epoch", "split", "seconds"} <= set(row)
        if row["split"] == "train":
            assert {"loss", "loss.labelled", "loss.unlabelled", "loss.consistency"} <= set(row)
    assert {row["split"] for row in rows} == {"train", "val"}


def test_a_dry_run_keeps_nothing(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    assert set(json.loads(outcome.out)["terms"]) >= {"labelled", "unlabelled"}
    assert not Path("runs").exists()
    assert "nothing was kept" in flowgmm(*WORDS, "--dry-run").err


def test_flags_for_seed_device_and_folder(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "--seed", "7", "--device", "cpu", "--run-dir", "here/x", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["run"] == str(Path("here/x"))
    info = json.loads(Path("here/x/run.json").read_text(encoding="utf-8"))
    assert (info["seed"], info["device"]) == (7, "cpu")
    assert not Path("runs").exists()


def test_the_same_seed_gives_the_same_answer(flowgmm: Any) -> None:
    first, second, other = (
        json.loads(flowgmm(*WORDS, "--json", "--seed", seed).out)["test"] for seed in ("1", "1", "2")
    )
    assert first == second
    assert first != other


def test_a_run_that_was_stopped_goes_on_without_a_recipe(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowgmm_cli.training.interrupt import Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "requested", lambda self: True)
        stopped = flowgmm(*WORDS, "train.epochs=3", "--json")
    assert (stopped.code, stopped.out) == (130, "")
    (run,) = Path("runs/csv").iterdir()
    assert f"hint: flowgmm train --resume {run}" in stopped.err
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    resumed = flowgmm("train", "--resume", str(run), "--json")
    assert resumed.code == 0, resumed.err
    assert json.loads(resumed.out)["epochs"] == 3
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["status"] == "done"


def test_without_test_rows_nothing_is_tested(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "data.split.test=0", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["test"] is None
    outcome = flowgmm(*WORDS, "data.split.test=0")
    assert outcome.out.startswith("runs/csv/")
    assert "nothing was tested" in outcome.err
    assert flowgmm("eval").code == 5


def test_notes_about_overrides_are_on_stderr(flowgmm: Any) -> None:
    words = ["data.use=sklearn", "data.name=two_moons", "data.n=60", "data.test_n=20", "data.labels.count=10"]
    words += ["data.views.strong=[{use: noise}]"]  # there are no words to drop
    outcome = flowgmm("train", "text", *words, *SHORT, "--json")
    assert outcome.code == 0, outcome.err
    assert "data is now sklearn: dropped" in outcome.err
    assert json.loads(outcome.out)["test"]["accuracy"] >= 0


RACE = "search={keep: 1, folds: 2, candidates: {plain: {}, wide: {flow.hidden: 12}}}"


def test_a_race_is_shown_beside_the_test_and_told_in_json(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS[:-1], RACE)
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "search, on labels that the training did not use"
    assert lines[1].split() == ["candidate", "NLL", "accuracy", "agreement", "density", "score"]
    assert {lines[2].split()[0], lines[3].split()[0]} == {"plain", "wide"}
    assert lines[2].endswith("kept")
    assert "search  " in outcome.err
    value = json.loads(flowgmm(*WORDS[:-1], RACE, "--json").out)
    assert value["search"]["kept"] == [lines[2].split()[0]]
    assert "has the best score" in value["search"]["reason"]
    assert {one["name"] for one in value["search"]["candidates"]} == {"plain", "wide"}


def test_auto_gives_a_recipe_without_a_search_the_standard_one(flowgmm: Any) -> None:
    words = (
        "two_moons",
        "data.n=60",
        "data.test_n=20",
        "train.epochs=1",
        "flow.hidden=8",
        "calibration.folds=2",
    )
    without = json.loads(flowgmm("train", *words, "--json").out)
    assert without["search"] is None
    value = json.loads(flowgmm("train", *words, "--auto", "--json").out)
    names = {one["name"] for one in value["search"]["candidates"]}
    assert names == {"as_given", "little_noise", "much_noise", "deep", "spread", "estimated_prior"}
    assert len(value["search"]["kept"]) == 3


def test_no_auto_trains_a_recipe_with_a_search_as_it_is(flowgmm: Any) -> None:
    value = json.loads(flowgmm(*WORDS[:-1], "--no-auto", "--json").out)
    assert value["search"] is None
