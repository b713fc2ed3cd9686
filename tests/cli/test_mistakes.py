"""Commands that use a run: each mistake has its exit code and a message, and leaves nothing behind."""

from __future__ import annotations

import array
import fcntl
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, save, shell

from flowgmm_cli.files import read_tensors, write_tensors

Change = Callable[[Path], object]

MISSPELT, UNKNOWN = "'{use: csv, pathh: t.csv}'", "'{use: nothing_like_it}'"
REPLACED, STDOUT = "would replace the rows that are read", "both write to stdout"

USAGE = [
    ("predict --no-such-flag", "no-such-flag"),
    ("predict runs/csv/first --run other", "two runs were named"),
    ("predict --data t.csv --save t.csv", REPLACED),
    ("predict --data t.csv --save - --json", STDOUT),
    ("predict --data t.csv --save o.xls", "`.xls` is not known"),
    ("predict --data t.csv --save no/o.csv", "there is no folder"),
    ("predict --data t.csv --save t.csv/o.csv", "t.csv is not a folder"),
    ("report --save t.csv/r.html", "cannot be written: t.csv is not a folder"),
    ("report --save folder.html", "cannot be written: it is a folder"),
    ("discover --plot t.csv/d.png", "cannot be written: t.csv is not a folder"),
    ("ood --out t.csv --plot t.csv/h.png", "cannot be written: t.csv is not a folder"),
    ("runs compare runs/csv/first runs/csv/first --save folder.html", "it is a folder"),
    ("predict --data t.csv --only idd", "did you mean `id`"),
    ("predict --data t.csv --with x3", "t.csv has no column `x3`"),
    ("predict --with x1", "name the rows: --data FILE"),
    ("predict --data x.npy --with all", "keeps columns of a table"),
    ("predict --data t.csv --on-error skip", "'fail'"),
    ("predict --data t.csv --fpr 1", "between 0 and 1"),
    ("predict --data t.csv --score nil", "no score `nil`"),
    ("predict --data t.csv --device gpu", "auto, cpu or cuda"),
    ("predict --data t.csv --format xls", "no such format"),
    ("embed --space pixels", "'latent'"),
    ("embed --map lda", "'tsne'"),
    ("embed --only z_0", "no column `z_0`"),
    ("embed --data t.csv --save t.csv", REPLACED),
    ("sample --class yess", "did you mean `yes`"),
    ("sample --class yes --means", "do not go together"),
    ("sample --data t.csv", "--save FILE"),
    ("sample -n 0", "--number"),
    ("sample --temperature -1", "at least 0"),
    ("sample --temperature 0.3,", "is not a number"),
    ("sample --temperature nan", "at least 0"),
    ("sample --interpolate 1,2 3", "2 first rows and 1 last rows"),
    ("sample --interpolate 1 2 --steps 1", "--steps"),
    ("sample --interpolate 1 2 --path curved", "'linear'"),
    ("sample --transfer al", "no class `al`"),
    ("sample --around nothing", "'rows'"),
    ("sample --save s.png", "does not make images"),
    ("sample --save s.docx", "suffix"),
    ("features --layer 99", "the layers 0 to"),
    ("features --layer 0 --channel 7", "the channels 0 to 1"),
    ("features --channel 0", "--channel needs --layer"),
    ("features --save s.csv", "--save needs --layer"),
    ("features --layer 0 --save s.png", "does not make images"),
    ("features --layer 0 --reach 0", "above 0"),
    ("features --layer 0 --where there", "'bump'"),
    ("features --layer 0 --at 3", "not a row and a column"),
    ("ood", "--out  rows to read"),
    ("ood --in - --out -", "cannot both be read from stdin"),
    ("ood --out t.csv --fpr 1", "fpr is 1"),
    ("ood --out t.csv --score entropi", "did you mean `entropy`"),
    ("ood --out t.csv --plot h.pdf", "h.png"),
    ("ood --out t.csv --gallery g.png", "this run has no image column"),
    ("ood --out t.csv --gallery g.jpg", "PNG files"),
    ("ood --out - --gallery g.png", "reads the rows twice"),
    ("ood --out t.csv --fail-under fpr95=1", "no gate on `fpr95`"),
    ("ood --out t.csv --save s.xyz", "s.xyz"),
    ("ood --out t.csv --save t.csv", REPLACED),
    ("eval --fail-under acuracy=1", "did you mean `accuracy`"),
    ("eval --fail-under accuracy=80", "accuracy=0.8"),
    ("ood --out t.csv --fail-under auroc=1.1", "auroc lies between 0 and 1"),
    ("predict t.csv --data t.csv", "the rows are named twice"),
    ("train digits --epochs 10", "settings are KEY=VALUE: train.epochs=10"),
    ("curve digits --batch-size 3", "settings are KEY=VALUE: train.batch_size=3"),
    ("train csv --label y", "settings are KEY=VALUE: data.label=y"),
    ("train digits --nothing 1", "--nothing"),
    ("eval --fail-under accuracy=high", "`high` is not a number"),
    ("eval --data t.csv --baselines", "--baselines is for the run's own rows"),
    ("eval --data t.csv --split val", "--split is for the run's own rows"),
    ("report --save r.pdf", "a report is an HTML file"),
    ("check --rows 0", "--rows"),
    ("init", "FILE"),
    ("init t.csv --label label --save t.csv/my.yaml", "cannot be written"),
    ("runs compare runs/csv/first", "two runs or more"),
    ("runs compare runs/csv/first runs/csv/first", "named twice"),
    ("runs compare runs/csv/first nowhere --save c.png", "an HTML file"),
    ("train --resume runs/x my.yaml", "--resume takes a run and nothing else"),
    ("train", "name a recipe"),
    ("train two_moons --dry-run --processes 2", "--dry-run takes one step in one process"),
    ("train two_moons --processes 0", "--processes"),
]
OTHERS = [
    # a data spec is a piece of a recipe
    (3, f"predict --data {MISSPELT}", "did you mean `path`"),
    (3, f"ood --out {MISSPELT}", "did you mean `path`"),
    (4, f"predict --data {UNKNOWN}", "nothing_like_it"),
    (4, f"ood --out {UNKNOWN}", "nothing_like_it"),
    (5, "predict --data gone.csv", "no such file: gone.csv"),
    (5, "init https://a.org/gone.csv", "a.org/gone.csv is an address, not a file"),
    (5, "predict gone.csv", "no such file: gone.csv"),
    (5, "predict r.csv", "no such file: r.csv; did you mean `t.csv`?"),
    (5, "eval s3://rows/gone.csv", "s3://rows/gone.csv is an address, not a file"),
    (5, "predict no*.csv", "no such file: no*.csv"),
    (5, "sample --transfer no --data gone.csv", "gone.csv"),
    (5, "sample --interpolate 1 999", "no row `999`"),
    (5, "ood --out gone.csv", "--save file to write"),
    (5, "ood --in gone.csv --out t.csv", "--in gone.csv"),
    (5, "eval --data unlabelled.csv", "no row has a label"),
    (5, "eval --data others.csv", "no label is a class of the model, such as `maybe`"),
    (5, "init gone.csv", "gone.csv"),
    *((6, f"{verb} nowhere", "nowhere") for verb in ("predict", "report", "check")),
    (6, "eval runs/digits/latest", "no finished run under runs/digits"),
    (6, "eval runs/csv/firsx", "did you mean `runs/csv/first`"),
    (6, "eval csv", "name runs/csv/latest"),
    (6, "eval csv/first", "name runs/csv/first"),
    (6, "ood nowhere --out t.csv", "nowhere"),
    (6, "runs show t.csv", "not a run directory"),
    (6, "runs compare runs/csv/first nowhere", "not a run directory"),
    (6, "train --resume runs/nowhere", "not a run directory"),
    (3, "train csv", "the recipe csv needs data.path and data.label"),
    (3, "train t.csv", "`flowgmm init t.csv` writes a recipe"),
    (3, "train runs", "flowgmm init runs"),
    (6, "predict runs", "if it holds rows: --data runs"),
    (7, "ood --out t.csv --fail-under auroc=1", "gate not met"),
]
CASES = [(2, *case) for case in USAGE] + OTHERS


@pytest.mark.parametrize(("code", "line", "text"), CASES, ids=[case[1] for case in CASES])
def test_a_mistake_has_its_code_and_leaves_nothing(
    flowgmm: Any, run: Path, code: int, line: str, text: str
) -> None:
    save("unlabelled.csv", numbers(5, labelled=0))
    save("others.csv", numbers(5, classes=("maybe", "never")))
    np.save("x.npy", np.zeros((3, 2)))
    Path("folder.html").mkdir()
    before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    outcome = flowgmm(*shlex.split(line), code=code)
    assert text in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == "" or code == 7
    assert any(word in outcome.err for word in ("error: ", "Error", "Usage"))
    assert before == {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}


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


def with_a_damaged_twin(run: Path) -> None:
    shutil.copytree(run, run.parent / "twin")
    (run.parent / "twin" / "run.json").write_text("{", encoding="utf-8")


VERBS = ("predict --data t.csv", "sample", "check")


@pytest.mark.parametrize(
    ("code", "change", "line", "text"),
    [
        (6, with_nan, "check", "model.safetensors is not the file"),
        *((4, with_a_missing_plugin, verb, "gone_flow") for verb in (*VERBS, "report")),
        *((6, without_model, verb, "model") for verb in VERBS),
        (6, without_model, "eval", "flowgmm train --resume runs/csv/first"),
        (6, with_a_damaged_twin, "runs compare runs/csv/first runs/csv/twin", "run.json"),
    ],
)
def test_a_run_that_cannot_be_used_has_its_code(
    flowgmm: Any, run: Path, code: int, change: Change, line: str, text: str
) -> None:
    change(run)
    outcome = flowgmm(*shlex.split(line), code=code)
    assert text in outcome.err
    assert "Traceback" not in outcome.err


# --- processes of their own -------------------------------------------------------------------------------


def test_the_code_of_a_real_process(run: Path) -> None:
    for code, line, text in ((2, "ood", "--out"), (6, "runs compare runs/csv/first nowhere", "nowhere")):
        done = shell(f"flowgmm {line}", code=code, TERM="dumb")
        assert done.out == ""
        assert text in done.err
        assert "Traceback" not in done.err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sees in the pipe that its rows were read")
def test_130_when_stopped_by_the_user_and_nothing_is_left_behind(run: Path) -> None:
    words = ["predict", "runs/csv/first", "--data", "-", "--save", "o.csv"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flowgmm_cli", *words],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell lets its jobs in the background ignore the signal
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(b"x1,x2\n1,2\n")
    process.stdin.flush()
    unread = array.array("i", [1])
    while unread[0]:
        assert process.poll() is None
        time.sleep(0.05)
        fcntl.ioctl(process.stdin, termios.FIONREAD, unread)
    process.send_signal(signal.SIGINT)  # while it waits for more rows
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert not Path("o.csv").exists()
    assert not [file for file in Path().iterdir() if file.name.startswith(".")]


def test_an_unexpected_word_cannot_write_to_the_terminal(flowgmm: Any) -> None:
    outcome = flowgmm("sample", "runs/x", "-n", "3", "\u202e\x1b[31m", "o.npz", code=2)
    assert "\u202e" not in outcome.err
    assert "\x1b" not in outcome.err
    assert "\\u202e\\x1b[31m" in outcome.err
