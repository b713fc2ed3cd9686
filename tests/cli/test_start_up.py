"""Start-up: help imports next to nothing, and a mistake is reported before torch is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

TABLES = ("datasets", "sklearn", "pandas")
HEAVY = (*TABLES, "torch", "pyarrow", "scipy", "matplotlib", "accelerate", "wordllama")
LIGHT = (*HEAVY, "numpy", "yaml", "entrypoints")

PROBE = """
import contextlib, io, json, sys
from flowgmm_cli.__main__ import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["flowgmm", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        sys.stdout.fileno = sys.stderr.fileno = lambda: 1
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([words, code, [name for name in {names!r} if name in sys.modules]]))
"""


def probe(
    commands: Sequence[Sequence[str]], names: tuple[str, ...], **environ: str
) -> list[tuple[list[str], int, list[str]]]:
    """Run commands in a fresh interpreter: words, exit code and imported modules, among some, of each."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(names=names), json.dumps(commands)],
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "dumb", **environ},
        check=True,
    )
    return [tuple(json.loads(line)) for line in process.stdout.splitlines()]


def test_the_package_lists_its_names_and_imports_nothing_heavy() -> None:
    line = f"import flowgmm_cli, sys; print(*dir(flowgmm_cli), *(set({LIGHT!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert {"FlowGMM", "FlowGMMClassifier", "load"} <= set(names)
    assert not set(LIGHT) & set(names)


def assert_imports(cases: Sequence[tuple[tuple[str, ...], int]], names: tuple[str, ...]) -> None:
    results = probe([words for words, _ in cases], names)
    assert results == [(list(words), code, []) for words, code in cases]


def test_help_imports_next_to_nothing() -> None:
    assert_imports([(("--help",), 0), (("--version",), 0)], (*LIGHT, "pydantic"))


def test_help_of_commands_imports_no_library() -> None:
    commands = [
        ("recipes", "--help"), ("train", "--help"), ("eval", "--help"), ("predict", "--help"),
        ("ood", "--help"), ("sample", "--help"), ("curve", "--help"), ("sweep", "--help"),
        ("runs", "show", "--help"), ("runs", "compare", "--help"), ("report", "--help"), ("init", "--help"),
        ("doctor", "--help"), ("plugins", "list", "-h"),
    ]  # fmt: skip
    assert_imports([(words, 0) for words in commands], LIGHT)  # newer versions of Typer bring pydantic


def test_inspection_imports_nothing_heavy() -> None:
    commands = [
        ("plugins", "list"), ("plugins", "describe", "csv"), ("recipes", "list"),
        ("recipes", "check", "digits"), ("recipes", "show", "digits", "--resolved"), ("recipes", "schema"),
    ]  # fmt: skip
    assert_imports([(words, 0) for words in commands], (*HEAVY, "numpy"))


def test_a_mistake_is_reported_before_torch_is_imported() -> None:
    Path("my.yaml").touch()
    cases = [
        (("train", "digits", "train.lr=fast"), 3),
        (("train", "csv"), 3),
        (("train", "digits", "flow.use=realnpv"), 4),
        (("train",), 2),
        (("curve", "digits", "--seeds", "x"), 2),
        (("curve", "digits", "train.lr=fast"), 3),
        (("sweep", "digits", "flow.couplings=2,none"), 3),
        (("eval", "nowhere"), 6),
        (("report", "nowhere"), 6),
        (("runs", "compare", "one"), 2),
        (("runs", "compare", "one", "two"), 6),
        (("init", "gone.csv", "--save", "my.yaml"), 2),
        (("runs", "list"), 0),
    ]
    assert_imports(cases, HEAVY)


def test_a_hostile_plugin_does_not_reach_help(tmp_path: Path) -> None:
    info = tmp_path / "hostile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: hostile\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[flowgmm.flows]\nbad = hostile:spec\n", encoding="utf-8")
    (tmp_path / "hostile.py").write_text("import os\nos._exit(9)\n", encoding="utf-8")
    commands = [("--help",), ("recipes", "check", "digits")]
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    results = probe(commands, ("hostile",), PYTHONPATH=path)
    assert results == [(list(words), 0, []) for words in commands]


def test_predict_imports_no_library_of_data_frames(
    trained_table: Path, trained_digits: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos/3").mkdir(parents=True)
    for index in range(10):
        Image.new("L", (8, 8), 20 * index).save(tmp_path / f"photos/3/{index}.png")
    inputs = [
        (trained_table / "runs/csv/first", trained_table / "t.csv"),
        (trained_digits / "runs/digits/first", tmp_path / "photos"),
    ]
    saved = ("--save", str(tmp_path / "out.csv"))
    cases = [(("predict", str(run), "--data", str(data), *saved), 0) for run, data in inputs]
    assert_imports(cases, TABLES)
