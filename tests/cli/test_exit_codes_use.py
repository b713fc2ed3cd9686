"""Exit codes and JSON of the commands that use a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.files import read_tensors, write_tensors

Change = Callable[[Path], None]


def start(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    drop = ("FLOWGMM_RUN", "FLOWGMM_TRACEBACK", "FLOWGMM_DISABLE_PLUGINS", "FLOWGMM_OFFLINE")
    environ = {name: value for name, value in os.environ.items() if name not in drop}
    command = [sys.executable, "-m", "flowgmm_cli", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environ, "TERM": "dumb"}, **options
    )


def nothing(run: Path) -> None:
    """Leave the run as it is."""


def without_model(run: Path) -> None:
    (run / "model.json").unlink()


def with_a_missing_plugin(run: Path) -> None:
    for name in ("resolved.yaml", "model.json"):
        text = (run / name).read_text(encoding="utf-8")
        (run / name).write_text(text.replace("realnvp", "gone_flow"), encoding="utf-8")


def with_nan(run: Path) -> None:
    tensors, metadata = read_tensors(run / "model.safetensors", "model")
    name = next(name for name in tensors if name.startswith("model.flow") and name.endswith("weight"))
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = float("nan")
    write_tensors(run / "model.safetensors", tensors, metadata)


def with_a_twin(run: Path) -> None:
    shutil.copytree(run, run.parent / "twin")


def with_a_damaged_twin(run: Path) -> None:
    with_a_twin(run)
    (run.parent / "twin" / "run.json").write_text("{", encoding="utf-8")


RUN = "runs/csv/first"
TWIN = "runs/csv/twin"
MISSPELT, UNKNOWN = "{use: csv, pathh: t.csv}", "{use: nothing_like_it}"

# --- what succeeds, and the object it prints --------------------------------------------------------------

KEYS: dict[tuple[str, ...], set[str]] = {
    ("predict", RUN, "--data", "t.csv", "--save", "o.csv"): {"run", "n", "saved", "classes", "flagged"},
    ("embed", RUN, "--data", "t.csv", "--save", "o.npz"): {"run", "n", "saved", "dim"},
    ("sample", RUN, "-n", "2", "--save", "o.csv"): {"run"},
    ("ood", RUN, "--in", "t.csv", "--out", "far.csv", "--save", "o.csv"): {
        "run",
        "n_in",
        "n_out",
        "default_score",
        "scores",
        "threshold",
        "flagged_fraction",
    },
    ("report", RUN): {"run", "report", "sections", "figures"},
    ("check", RUN): {"run", "verdict", "checks", "layers"},
    ("init", "t.csv", "--label", "label"): {"recipe", "label", "classes", "columns"},
    ("runs", "compare", RUN, TWIN): {"runs", "differences", "settings", "versions"},
}


@pytest.mark.slow
@pytest.mark.parametrize("words", KEYS, ids=lambda words: words[0])
def test_stdout_holds_a_single_json_object(run: Path, words: tuple[str, ...]) -> None:
    with_a_twin(run)
    Path("far.csv").write_text("x1,x2\n" + "900,-900\n" * 20, encoding="utf-8")
    done = start(*words, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    value = json.loads(done.stdout)
    assert value["schema"] == f"flowgmm/{'compare' if words[0] == 'runs' else words[0]}/1"
    assert KEYS[words] <= set(value)
    if words[0] == "ood":
        for metrics in value["scores"].values():
            assert {"auroc", "aupr_in", "aupr_out", "fpr95"} <= set(metrics)
        assert value["flagged_fraction"] == 1


# --- what fails -------------------------------------------------------------------------------------------

CASES: list[Any] = [
    # 1: the run itself failed
    (1, with_nan, ("check", RUN), ""),
    # 2: usage
    (2, nothing, ("predict", RUN, "--no-such-flag"), "no-such-flag"),
    (2, nothing, ("predict", RUN, "--run", "other"), "two runs were named"),
    (2, nothing, ("predict", RUN, "--on-error", "perhaps"), "--on-error"),
    (2, nothing, ("embed", RUN, "--space", "outer"), "--space"),
    (2, nothing, ("sample", RUN, "--class", "maybe"), "maybe"),
    (2, nothing, ("ood", RUN), "--out"),
    (2, nothing, ("report", RUN, "--save", "r.pdf"), "HTML"),
    (2, nothing, ("check", RUN, "--rows", "0"), "--rows"),
    (2, nothing, ("init",), "FILE"),
    (2, lambda run: Path("t.yaml").write_text(""), ("init", "t.csv", "--label", "label"), "exists already"),
    (2, nothing, ("runs", "compare", RUN), "two runs"),
    (2, nothing, ("report", RUN, "--save", "t.csv/r.html"), "cannot be written"),
    (2, nothing, ("predict", RUN, "--data", "t.csv", "--save", "t.csv/o.csv"), "cannot be written"),
    (2, with_a_twin, ("runs", "compare", RUN, TWIN, "--save", "t.csv/c.html"), "cannot be written"),
    (2, nothing, ("init", "t.csv", "--label", "label", "--save", "t.csv/my.yaml"), "cannot be written"),
    # 3: a data spec is a piece of a recipe
    (3, nothing, ("predict", RUN, "--data", MISSPELT), "did you mean `path`"),
    (3, nothing, ("embed", RUN, "--data", MISSPELT), "did you mean `path`"),
    (3, nothing, ("ood", RUN, "--out", MISSPELT), "did you mean `path`"),
    (3, nothing, ("check", RUN, "--data", MISSPELT), "did you mean `path`"),
    (3, nothing, ("sample", RUN, "--transfer", "no", "--data", MISSPELT), "did you mean `path`"),
    # 4: plugins
    (4, nothing, ("predict", RUN, "--data", UNKNOWN), "nothing_like_it"),
    (4, nothing, ("ood", RUN, "--out", UNKNOWN), "nothing_like_it"),
    (4, with_a_missing_plugin, ("predict", RUN, "--data", "t.csv"), "gone_flow"),
    (4, with_a_missing_plugin, ("embed", RUN, "--data", "t.csv"), "gone_flow"),
    (4, with_a_missing_plugin, ("sample", RUN), "gone_flow"),
    (4, with_a_missing_plugin, ("ood", RUN, "--out", "t.csv"), "gone_flow"),
    (4, with_a_missing_plugin, ("report", RUN), "gone_flow"),
    (4, with_a_missing_plugin, ("check", RUN), "gone_flow"),
    # 5: data
    (5, nothing, ("predict", RUN, "--data", "gone.csv"), "gone.csv"),
    (5, nothing, ("embed", RUN, "--data", "gone.csv"), "gone.csv"),
    (5, nothing, ("ood", RUN, "--out", "gone.csv"), "--save"),
    (5, nothing, ("check", RUN, "--data", "gone.csv"), "gone.csv"),
    (5, nothing, ("sample", RUN, "--transfer", "no", "--data", "gone.csv"), "gone.csv"),
    (5, nothing, ("init", "gone.csv"), "gone.csv"),
    (5, nothing, ("init", "t.csv", "--label", "lable"), "did you mean `label`"),
    # 6: runs
    *(
        (6, nothing, (verb, "nowhere"), "nowhere")
        for verb in ("predict", "embed", "sample", "report", "check")
    ),
    (6, nothing, ("ood", "nowhere", "--out", "t.csv"), "nowhere"),
    (6, nothing, ("runs", "compare", RUN, "nowhere"), "nowhere"),
    (6, with_a_damaged_twin, ("runs", "compare", RUN, TWIN), "run.json"),
    (6, without_model, ("predict", RUN, "--data", "t.csv"), "model"),
    (6, without_model, ("embed", RUN, "--data", "t.csv"), "model"),
    (6, without_model, ("sample", RUN), "model"),
    (6, without_model, ("ood", RUN, "--out", "t.csv"), "model"),
    (6, without_model, ("check", RUN), "model"),
    # 7: gates
    (7, nothing, ("ood", RUN, "--out", "t.csv", "--fail-under", "auroc=1.1"), "gate not met"),
]


@pytest.mark.parametrize(("code", "change", "words", "text"), CASES)
def test_every_documented_code(
    flowgmm: Any, run: Path, code: int, change: Change, words: tuple[str, ...], text: str
) -> None:
    change(run)
    outcome = flowgmm(*words)
    assert outcome.code == code, outcome.err
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    if code != 1 or text:
        assert outcome.out == "" or words[0] in ("ood", "runs")
        lines = outcome.err.strip().splitlines()
        assert any(line.startswith("error: ") or "Error" in line or "Usage" in line for line in lines)


@pytest.mark.parametrize(
    ("code", "words", "text"),
    [
        (2, ("predict", RUN, "--on-error", "perhaps"), "--on-error"),
        (2, ("ood", RUN), "--out"),
        (6, ("runs", "compare", RUN, "nowhere"), "nowhere"),
    ],
)
def test_the_code_of_a_real_process(run: Path, code: int, words: tuple[str, ...], text: str) -> None:
    process = start(*words)
    assert (process.returncode, process.stdout) == (code, "")
    assert text in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(
    "words", [("predict", RUN, "--data", "-", "--save", "o.csv"), ("ood", RUN, "--out", "-")]
)
def test_130_when_stopped_by_the_user_and_nothing_is_left_behind(run: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "flowgmm_cli", *words]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write("x1,x2\n1,2\n")
    process.stdin.flush()
    for line in process.stderr:  # its signal handlers are in place
        if "loading torch" in line:
            break
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for more rows
        process.wait(timeout=12)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not Path("o.csv").exists()
    assert not [file for file in Path().iterdir() if file.name.startswith(".")]
