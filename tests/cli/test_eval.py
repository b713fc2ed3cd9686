"""`flowgmm eval`: its JSON contract, its tables, its gate, and which run it takes."""

from __future__ import annotations

import errno
import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import SHORT, Outcome, change, copy_table, numbers, read_json, save

from flowgmm_cli import files
from flowgmm_cli.__main__ import main
from flowgmm_cli.baselines.specs import SPECS as BASELINES
from flowgmm_cli.cli.eval import _print_classes
from flowgmm_cli.evaluation.metrics import Evaluation, classification_metrics
from flowgmm_cli.formatting import method_name


def test_the_json_keeps_its_contract(flowgmm: Any, run: Path) -> None:
    value = flowgmm("eval", str(run), "--json").json
    assert value["schema"] == "flowgmm/eval/1"
    assert (value["run"], value["split"], value["n"]) == (str(run), "test", 8)
    names = {"accuracy", "balanced_accuracy", "macro_f1", "nll", "bits_per_dim", "ece"}
    assert names <= set(value["metrics"])
    assert value["metrics"]["bits_per_dim"] is None
    assert [row["name"] for row in value["per_class"]] == ["no", "yes"]
    assert sum(row["support"] for row in value["per_class"]) == 8
    assert value["baselines"] == {}
    assert read_json(run / "eval" / "test.json") == value
    assert value["metrics"] == read_json(run / "run.json")["test"]
    lines = flowgmm("eval").out.splitlines()
    line = next(line for line in lines if line.startswith("calibration:"))
    for name in ("brier", "ece", "adaptive_ece"):
        assert f"{value['metrics'][name]:.4f}" in line
    chosen = read_json(run / "run.json")["ood"]
    start = next(index for index, line in enumerate(lines) if line.startswith("out-of-distribution scores"))
    marks = {line.split()[0]: line.split()[1] for line in lines[start + 2 :]}
    assert set(marks) == set(chosen["choice"])
    assert chosen["default"] == "blend"  # of these scores
    assert "blend flags above" in " ".join(lines[start : start + 3])


@pytest.fixture(scope="module")
def evaluated(trained_table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A folder with a run that was evaluated with baselines, and the output."""
    folder = tmp_path_factory.mktemp("evaluated")
    copy_table(trained_table, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["flowgmm", "eval", "--baselines"])
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main()
    assert not stop.value.code
    return folder, Outcome(0, out.getvalue(), err.getvalue())


@pytest.fixture
def evaluated_run(evaluated: tuple[Path, Outcome], folder: Path) -> Path:
    """Such a run for one test, relative to its folder."""
    shutil.copytree(evaluated[0], folder, dirs_exist_ok=True)
    return Path("runs", "csv", "first")


def test_baselines_stand_beside_the_model(evaluated_run: Path, evaluated: tuple[Path, Outcome]) -> None:
    run, (_, outcome) = evaluated_run, evaluated
    assert "warning: 8 test rows are few: the 95 % interval" in outcome.err
    assert "density: mean -log p(x)" in outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == f"{run}: 8 test rows"
    first = [line.split("  ")[0] for line in lines]
    methods = set(map(method_name, BASELINES))
    assert {"method", "flowgmm", "class", "no", "yes"} | methods <= set(first)
    value = read_json(run / "eval" / "test.json")
    assert set(value["baselines"]) == set(BASELINES)
    assert all(0 <= baseline["accuracy"] <= 1 for baseline in value["baselines"].values())
    assert {"best", "difference", "interval", "p", "text"} <= set(value["verdict"])
    assert value["verdict"]["n"] == 8 + 32  # test rows and labelled rows
    assert value["verdict"]["text"] in lines
    assert f"cross-fitted accuracy on all {value['cross_fitted']['n']} labelled rows: " in outcome.out
    assert "32 labelled rows, cross-fitted" in lines
    table = lines[2 : 2 + len(BASELINES) + 1]
    accuracy = [float(line[len("logistic regression") :].split()[0]) for line in table]
    assert accuracy == sorted(accuracy, reverse=True)


def test_the_model_card_shows_baselines_unless_it_was_edited(flowgmm: Any, evaluated_run: Path) -> None:
    card = evaluated_run / "MODEL_CARD.md"
    assert "| label spreading |" in card.read_text(encoding="utf-8")
    card.write_text("mine", encoding="utf-8")
    assert f"{card} was edited and stays as it is" in flowgmm("eval", "--baselines").err
    assert card.read_text(encoding="utf-8") == "mine"


def test_baselines_are_kept_by_later_evaluations_of_the_same_rows_and_model(
    flowgmm: Any, evaluated_run: Path
) -> None:
    run = evaluated_run
    baselines = read_json(run / "eval" / "test.json")["baselines"]
    assert baselines
    for words in (["--fail-under", "accuracy=0"], []):
        outcome = flowgmm("eval", *words, "--json")
        assert outcome.json["baselines"] == baselines
        assert "dropped" not in outcome.err
    assert "label spreading" in flowgmm("eval").out


@pytest.mark.parametrize("changed", ["data", "model"])
def test_baselines_of_other_rows_or_of_another_model_are_dropped(
    flowgmm: Any, evaluated_run: Path, changed: str
) -> None:
    if changed == "data":
        text = Path("t.csv").read_text(encoding="utf-8")
        Path("t.csv").write_text(text + "1.0,2.0,yes\n", encoding="utf-8")
    else:
        file = evaluated_run / "eval" / "test.json"
        values = read_json(file)
        values["basis"]["model"] = "that of an earlier training"
        file.write_text(json.dumps(values), encoding="utf-8")
    outcome = flowgmm("eval", "--json", "--quiet")
    assert outcome.json["baselines"] == {}
    assert f"warning: the {changed} has changed since the baselines were fitted" in outcome.err
    assert ("the data has changed since this run" in outcome.err) == (changed == "data")
    assert "baselines" not in flowgmm("eval", "--json").err


def test_a_run_without_test_rows_is_evaluated_on_its_cross_fitted_rows(flowgmm: Any, run: Path) -> None:
    words = ["data.path=t.csv", "data.label=label", "data.split.test=0", "train.epochs=2"]
    trained = flowgmm("train", "csv", *words, *SHORT[1:], "--run-dir", "all", "--json").json
    assert trained["test"] is None
    outcome = flowgmm("eval", "all", "--fail-under", "accuracy=0", "--baselines", "--plots", "--json")
    value = outcome.json
    assert (value["split"], value["n"]) == ("cross_fitted", 40)
    assert value["metrics"]["nll"] == trained["cross_fitted"]["metrics"]["nll"]
    assert value["metrics"]["density_nll"] is None
    assert read_json(Path("all/eval/cross_fitted.json")) == value
    assert flowgmm("eval", "all").out.startswith("all: 40 cross-fitted rows")
    assert "accuracy" in flowgmm("eval", "all", "--fail-under", "accuracy=1", code=7).err


def test_a_gate_that_is_not_met_is_7_and_the_answer_is_still_given(flowgmm: Any, run: Path) -> None:
    save("new.csv", numbers(40, seed=1))
    words = ["--data", "new.csv", "--fail-under", "accuracy=1", "--fail-under", "balanced_accuracy=0"]
    assert flowgmm("eval", *words, "--json", code=7).json["metrics"]["accuracy"] <= 1
    outcome = flowgmm("eval", *words, code=7)
    assert "error: gate not met\n  accuracy " in outcome.err
    assert "is below 1.0" in outcome.err
    assert "balanced_accuracy" not in outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == f"{run}: 40 labelled rows"
    assert {"class", "no", "yes", "confidence"} <= {line.split("  ")[0] for line in lines}
    assert flowgmm("eval", "--data", "{use: csv, path: new.csv}", "--json").json["n"] == 40


def test_val_rows_without_labels_cannot_be_evaluated(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("eval", "--split", "val", code=5)
    assert "no labelled val rows" in outcome.err
    assert "data.split.val_labels" in outcome.err


def test_data_of_another_folder_is_named_with_both_folders(
    flowgmm: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = Path.cwd(), run.absolute()
    Path("my [1] data").mkdir()
    Path("t.csv").rename("my [1] data/t.csv")
    for file in (run / "resolved.yaml", run / "model.json"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("t.csv", "my [1] data/t.csv"), encoding="utf-8")
    change(run, folder=str(folder))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    outcome = flowgmm("eval", str(path), code=5)
    assert "no such file: my [1] data/t.csv\n" in outcome.err
    assert f"  it is looked for in {folder / 'elsewhere'}\n  the run was trained in {folder}\n" in outcome.err
    assert f"hint: cd {folder}" in outcome.err


# --- rows of a file ---------------------------------------------------------------------------------------


def test_rows_of_a_file_are_evaluated_and_unknown_classes_count_as_wrong(flowgmm: Any, run: Path) -> None:
    header, *rows = numbers(40, seed=1)
    for row, label in ((0, "maybe"), (4, "maybe"), (5, "never"), (6, "")):
        rows[row][-1] = label
    rows[7][0] = "abc"
    save("new.csv", [header, *rows])
    outcome = flowgmm("eval", "--data", "new.csv", "--json")
    value = outcome.json
    assert read_json(run / "eval" / "data-new.json") == value
    assert (value["split"], value["n"]) == ("new.csv", 38)
    counts = {name: value[name] for name in ("data", "unlabelled", "unscorable", "unknown_labels")}
    unknown = {"maybe": 2, "never": 1}
    assert counts == {"data": "new.csv", "unlabelled": 1, "unscorable": 1, "unknown_labels": unknown}
    assert [(row["name"], row["support"]) for row in value["per_class"]][2:] == list(unknown.items())
    right = sum(value["confusion"][place][place] for place in range(2))
    assert value["metrics"]["accuracy"] == pytest.approx(right / 38)
    assert 0 < value["metrics"]["nll"] < 5
    assert "3 of the 38 labels of new.csv are `maybe` and 1 more class: no class of the model" in outcome.err
    assert "1 of the 39 rows have no label and are left out" in outcome.err
    assert "1 of the 40 rows of new.csv could not be scored" in outcome.err
    predicted = flowgmm("predict", "--data", "new.csv", "--json")
    assert predicted.json["accuracy"] == value["metrics"]["accuracy"]
    assert predicted.json["unknown_labels"] == unknown


# --- which run --------------------------------------------------------------------------------------------


@pytest.fixture
def second(run: Path) -> Path:
    """A run made after `run`."""
    other = run.parent / "second"
    shutil.copytree(run, other)
    change(other, ended="2999-01-01T00:00:00.000+00:00")
    return other


def test_the_newest_finished_run_is_taken_and_named(flowgmm: Any, run: Path, second: Path) -> None:
    outcome = flowgmm("eval", "--json")
    assert outcome.json["run"] == str(second)
    assert f"run     {second} (the newest finished run under ./runs)" in outcome.err


@pytest.mark.parametrize(
    ("words", "variable", "how"),
    [
        (["runs/csv/first", "--run", "runs/csv/first"], "runs/csv/second", "as given"),
        ([], "runs/csv/first", "from FLOWGMM_RUN"),
    ],
)
def test_a_run_can_be_named(
    flowgmm: Any, second: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], variable: str, how: str
) -> None:
    monkeypatch.setenv("FLOWGMM_RUN", variable)
    outcome = flowgmm("eval", *words, "--json")
    assert outcome.json["run"] == str(Path("runs/csv/first"))
    assert f"({how})" in outcome.err


# --- figures ----------------------------------------------------------------------------------------------


def test_plots_are_written_beside_the_results_and_named(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("eval", "--plots")
    names = {path.name for path in (run / "eval").glob("*.png")}
    assert names == {f"test-{name}.png" for name in ("reliability", "confusion", "latent", "regions")}
    for name in names:
        assert f"written {run / 'eval' / name}" in outcome.err
        assert (run / "eval" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("classes", [40, 41])
def test_of_many_classes_the_largest_are_listed(classes: int, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.append(np.arange(classes), classes - 1)
    metrics = classification_metrics(np.log(np.full((len(labels), classes), 1 / classes)), labels)
    _print_classes(Evaluation("test", metrics, None))
    captured = capsys.readouterr()
    names = [line.split()[0] for line in captured.out.split("\n")[2:] if line]
    assert len(names) == 40
    if classes == 40:
        assert (names[0], captured.err) == ("0", "")
    else:
        assert names[:2] == ["40", "0"]
        assert "the 40 of 41 with the most rows are listed" in captured.err


def test_a_read_only_run_is_evaluated(flowgmm: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Path:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    Path("far.csv").write_text("x1,x2\n" + "5,-5\n" * 9, encoding="utf-8")
    monkeypatch.setattr(files, "temporary_path", refuse)
    for words, schema in ((("eval",), "eval"), (("ood", "--out", "f*r.csv"), "ood")):
        outcome = flowgmm(*words, "--json")
        assert outcome.json["schema"] == f"flowgmm/{schema}/1"
        assert f"the result is not kept in {run}, which is read-only" in outcome.err
