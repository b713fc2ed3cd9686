"""`flowgmm train`: its output and the run directory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, Outcome, numbers, read_json, save, shell

from flowgmm_cli.cli.train import _load as load
from flowgmm_cli.report.text import list_caveats
from flowgmm_cli.runs import Run

WORDS = ("train", "csv", "data.path=t.csv", "data.label=label", *SHORT)


First = tuple[Path, Outcome]


@pytest.fixture(autouse=True)
def _table(folder: Path) -> None:
    """A table `t.csv`."""
    save("t.csv", numbers(60, labelled=40))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    """A folder in which a process of its own, with pipes as its streams, trained a run."""
    folder = tmp_path_factory.mktemp("first")
    save(folder / "t.csv", numbers(60, labelled=40))
    line = f"cd {folder}; flowgmm {' '.join(WORDS)} --json"
    return folder, shell(line, FORCE_COLOR="", TTY_COMPATIBLE="")


def test_stdout_is_a_single_json_object(first: First) -> None:
    folder, process = first
    value = process.json
    assert (value["schema"], value["status"]) == ("flowgmm/train/1", "done")
    assert (value["epochs"], value["search"]) == (1, None)
    assert value["seconds"] > 0
    assert set(value["best"]) >= {"metric", "value"}
    assert set(value["test"]) >= {"accuracy", "nll", "ece"}
    assert 0 <= value["test"]["accuracy"] <= 1
    assert (folder / value["run"] / "model.safetensors").is_file()
    assert f"run     {value['run']}" in process.err
    assert "\x1b" not in process.err + process.out
    assert "\r" not in process.err


def test_the_run_directory_is_complete(first: First) -> None:
    folder, process = first
    run = folder / process.json["run"]
    files = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert files >= {
        "recipe.yaml", "resolved.yaml", "run.json", "metrics.jsonl", "model.safetensors", "model.json",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors", "eval/test.json",
    }  # fmt: skip
    assert not [name for name in files if name.endswith(".tmp") or "/." in name]
    info = read_json(run / "run.json")
    assert info["status"] == "done"
    assert info["overrides"] == list(WORDS[2:])
    assert info["argv"][:2] == ["train", "csv"]
    assert info["rows"] == {"train": 49, "labelled": 32, "val": 3, "val_labelled": 0, "test": 8} | {
        name: info["rows"][name] for name in ("train", "val")
    }
    assert {component["kind"] for component in info["components"]} >= {"data", "flow", "prior", "objective"}


def test_the_table_is_on_stdout_and_the_rest_on_stderr(flowgmm: Any, first: First) -> None:
    outcome = flowgmm(*WORDS)
    lines = outcome.out.splitlines()
    assert re.fullmatch(r"runs/csv/\S+: 8 test rows", lines[0])
    assert lines[1].split() == ["test", "value", "95", "%", "interval"]
    assert lines[-1].startswith("cross-fitted accuracy on all 32 labelled rows: ")
    assert [line.rsplit(maxsplit=1)[0].strip() for line in lines[3:-1]] == [
        "balanced accuracy", "macro F1", "NLL", "ECE",
    ]  # fmt: skip
    parts = ("data    ", "8 test rows", "device  ", "temperature ", "done in", "next: flowgmm eval runs/csv/")
    for part in parts:
        assert part in outcome.err
    # the same seed gives the same model, in another process too
    assert read_json(Path(lines[0].split(":")[0], "run.json"))["test"] == first[1].json["test"]


def test_quiet_prints_only_the_result_and_the_metrics_file_has_an_object_a_line(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "train.epochs=4", "train.batch_size=16", "run.log_every=1", "--quiet")
    assert outcome.err.startswith("warning: 8 test rows are few")
    assert outcome.err.count("\n") == 1
    assert "accuracy" in outcome.out
    (run,) = Path("runs/csv").glob("2*")
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


def test_a_dry_run_writes_nothing(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "--dry-run", "--json")
    assert set(outcome.json["terms"]) >= {"labelled", "unlabelled"}
    assert not Path("runs").exists()


def test_flags_for_seed_device_and_folder(flowgmm: Any, first: First) -> None:
    outcome = flowgmm(*WORDS, "--seed", "7", "--device", "cpu", "--run-dir", "here/x", "--json")
    assert outcome.json["run"] == str(Path("here/x"))
    info = read_json("here/x/run.json")
    assert (info["seed"], info["device"]) == (7, "cpu")
    assert info["test"] != first[1].json["test"]
    assert not Path("runs").exists()


def test_no_file_of_a_run_has_the_value_of_a_variable(
    flowgmm: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what reads the data of the training needs the variable."""
    from flowgmm_cli.training.callbacks import Interrupt

    monkeypatch.setenv("WORD", "s3cret")
    words = ["data.path=d-${env:WORD}/t.csv", "data.label=${env:Y:-label}", *SHORT]
    Path("d-s3cret").mkdir()
    Path("t.csv").rename("d-s3cret/t.csv")
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "is_requested", lambda self: True)
        flowgmm("train", "csv", *words, "train.epochs=3", "--run-dir", "r", code=130)
    monkeypatch.delenv("WORD")
    unset = flowgmm("train", "--resume", "r", code=5)
    assert "the environment variable WORD is not set" in unset.err
    monkeypatch.setenv("WORD", "s3cret")
    flowgmm("train", "--resume", "r")
    flowgmm("eval", "r")
    Path("d-s3cret/t.csv").rename("t.csv")
    flowgmm("report", "r")
    assert "no such file: d-${env:WORD}/t.csv" in Path("r/report.html").read_text("utf-8")
    monkeypatch.delenv("WORD")
    assert flowgmm("predict", "r", "t.csv").out.startswith("id,prediction")
    assert "the environment variable WORD is not set" in flowgmm("eval", "r", code=5).err
    written = [file for file in Path("r").rglob("*") if file.is_file()]
    assert not [file for file in written if b"s3cret" in file.read_bytes()]


def test_a_stopped_run_resumes_without_a_recipe(flowgmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.training.callbacks import Interrupt

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "is_requested", lambda self: True)
        stopped = flowgmm(*WORDS, "train.epochs=3", "--json", code=130)
    assert stopped.out == ""
    (run,) = Path("runs/csv").iterdir()
    assert f"hint: flowgmm train --resume {run}" in stopped.err
    assert read_json(run / "run.json")["status"] == "interrupted"
    resumed = flowgmm("train", "--resume", str(run), "--json")
    assert resumed.json["epochs"] == 3
    assert read_json(run / "run.json")["status"] == "done"


def test_without_test_rows_the_cross_fitted_rows_are_the_result(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "data.split.test=0")
    title, _, accuracy, *_ = outcome.out.splitlines()
    run, rows = title.split(": ")
    assert rows == "40 cross-fitted rows"
    assert "\ncross-fitted accuracy on all 40 labelled rows: " in outcome.out
    info = read_json(Path(run, "run.json"))
    assert info["test"] is None
    assert accuracy.split()[1] == f"{info['cross_fitted']['accuracy']:.4f}"
    (listed,) = flowgmm("runs", "list", "--json").json["runs"]
    assert (listed["test"], listed["cross_fitted"]) == (None, info["cross_fitted"])
    assert flowgmm("runs", "list").out.splitlines()[1].split()[-3:-1] == [accuracy.split()[1], "cross-fitted"]


def test_a_training_with_a_search_shows_the_candidates_and_ends_with_the_verdict(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS[:-1], "search={keep: 1, folds: 2, candidates: {plain: {}}}")
    lines = outcome.out.splitlines()
    assert lines[0] == "search, on labels that the training did not use"
    assert lines[1].split() == ["candidate", "NLL", "accuracy", "agreement", "density", "score"]
    assert (lines[2].split()[0], lines[2].split()[-1]) == ("plain", "kept")
    assert "search  " in outcome.err
    run = outcome.out.split(": 8 test rows")[0].splitlines()[-1]
    verdict = read_json(Path(run, "eval", "test.json"))["verdict"]
    assert verdict["text"] == lines[-1]
    assert verdict["n"] == 40
    assert "the recipe is kept as it is" in outcome.out
    assert verdict["text"][1:] in Path(run, "MODEL_CARD.md").read_text(encoding="utf-8").replace("\\", "")
    assert f"next: flowgmm report {run}" in outcome.err
    assert flowgmm("eval", "--json").json["verdict"] == verdict


def test_without_held_out_labels_nothing_is_tested(flowgmm: Any) -> None:
    outcome = flowgmm(*WORDS, "data.split.test=0", "calibration.method=none")
    assert outcome.out.startswith("runs/csv/")
    info = read_json(Path(outcome.out.strip(), "run.json"))
    assert (info["test"], info["cross_fitted"]) == (None, None)
    assert "nothing was tested" in outcome.err
    flowgmm("eval", code=5)


def test_labels_that_the_columns_cannot_tell_are_warned_of(flowgmm: Any) -> None:
    header, *rows = numbers(60)
    save("t.csv", [header, *([*cells[:-1], ("no", "yes")[row // 2 % 2]] for row, cells in enumerate(rows))])
    outcome = flowgmm(*WORDS, "--json")
    found = json.loads(outcome.out)["warnings"][0]
    assert found["kind"] == "uninformative"
    assert " cross-fitted labels no better than the frequencies of the classes do (NLL 0." in found["text"]
    assert f"warning: {found['text']}" in outcome.err
    (run,) = Path("runs", "csv").glob("2*")
    for line in ("eval", "predict --data t.csv --save p.csv"):
        assert f"warning: {found['text']}" in flowgmm(*line.split(" ")).err
    capital = f"T{found['text'][1:]}."
    assert capital in (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert capital in " ".join(list_caveats(Run(run).info(), None, {}))


def test_labels_of_one_class_in_a_split_are_warned_of(flowgmm: Any) -> None:
    header, *rows = numbers(60)
    save("t.csv", [header, *rows])
    save("one.csv", [header, *(row for row in numbers(60, seed=1)[1:] if row[-1] == "yes")])
    outcome = flowgmm(*WORDS, "data.test_path=one.csv", "--json")
    assert "single_class" in [found["kind"] for found in json.loads(outcome.out)["warnings"]]
    assert "warning: all 30 labelled test rows are of the class `yes`, one of 2" in outcome.err
    outcome = flowgmm(*WORDS, "data.val_path=one.csv", "data.split.val_labels=true")
    assert "warning: all 30 labelled validation rows are of the class `yes`, one of 2" in outcome.err
    assert "cross-fitted on the" in outcome.err  # not on the validation labels


def test_auto_adds_the_standard_search_and_no_auto_removes_one(flowgmm: Any) -> None:
    assert load("two_moons", [], [], auto=False).search is None
    search = load("two_moons", [], [], auto=True).search
    assert search is not None
    assert list(search.candidates) == [
        "as_given", "little_noise", "much_noise", "deep", "spread", "estimated_prior",
    ]  # fmt: skip
    assert load("csv", [*WORDS[2:4]], [], auto=False).search is not None
    assert flowgmm(*WORDS[:-1], "--no-auto", "--json").json["search"] is None


def test_a_missing_tracker_is_named_before_training(flowgmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm_cli.report.trackers.find_spec", lambda name: None)
    told = flowgmm("train", "digits", "run.trackers=[mlflow]", code=4).err
    assert "run.trackers names mlflow, which is not installed" in told
    assert "pip install mlflow" in told
    assert not Path("runs").exists()
    told = flowgmm("train", "digits", "run.trackers=[mlflo]", code=3).err
    assert "run.trackers  expected a list of tensorboard, mlflow, trackio" in told


def test_a_run_to_go_on_from_is_named_with_a_recipe_and_finished(flowgmm: Any, run: Path) -> None:
    error = flowgmm("train", "--from", str(run), code=2).err
    assert f"hint: flowgmm train RECIPE --from {run}" in error
    error = flowgmm("train", "--resume", str(run), "--from", str(run), code=2).err
    assert "--resume takes a run and nothing else" in error
    Run(run).update(status="interrupted")
    error = flowgmm(*WORDS, "--from", str(run), code=6).err
    assert f"hint: continue it: flowgmm train --resume {run}" in error
    Run(run).update(status="done")
    error = flowgmm(*WORDS, "flow.hidden=16", "--from", str(run), "--run-dir", "next", code=3).err
    assert "flow.hidden is 16, in the run 8" in error
    assert not Path("next").exists()
    terms = flowgmm(*WORDS, "--from", str(run), "--dry-run", "--json").json["terms"]
    assert terms["labelled"] > 0
