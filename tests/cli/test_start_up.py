from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "datasets",
    "sklearn",
    "pandas",
    "pyarrow",
    "scipy",
    "matplotlib",
    "accelerate",
    "wordllama",
)
LIGHT = (*HEAVY, "numpy", "yaml", "entrypoints")

PROBE = """
import json, sys
sys.argv = ["flowgmm", *{words!r}]
from flowgmm_cli.__main__ import main
try:
    main()
except SystemExit as stop:
    sys.stdout.flush()
    loaded = [name for name in {names!r} if name in sys.modules]
    print(json.dumps([stop.code, loaded]), file=sys.stderr)
"""


def loaded_by(*words: str, names: tuple[str, ...], **environ: str) -> tuple[int, list[str]]:
    """Run a command in a fresh interpreter: its exit code, and which of the modules it imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE.format(words=words, names=names)],
        capture_output=True,
        text=True,
        env={**os.environ, "TERM": "dumb", **environ},
        check=False,
    )
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    return code, loaded


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_imports_next_to_nothing(words: tuple[str, ...]) -> None:
    assert loaded_by(*words, names=(*LIGHT, "pydantic")) == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        ("recipes", "--help"),
        ("train", "--help"),
        ("eval", "--help"),
        ("curve", "--help"),
        ("sweep", "--help"),
        ("runs", "show", "--help"),
        ("runs", "compare", "--help"),
        ("report", "--help"),
        ("init", "--help"),
        ("doctor", "--help"),
        ("plugins", "list", "-h"),
    ],
)
def test_help_of_commands_imports_nothing_of_ours(words: tuple[str, ...]) -> None:
    assert loaded_by(*words, names=LIGHT) == (0, [])  # newer versions of Typer bring pydantic


@pytest.mark.parametrize(
    "words",
    [
        ("plugins", "list"),
        ("plugins", "describe", "csv"),
        ("recipes", "list"),
        ("recipes", "check", "digits"),
        ("recipes", "show", "digits", "--resolved"),
        ("recipes", "schema"),
    ],
)
def test_inspection_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    assert loaded_by(*words, names=(*HEAVY, "numpy")) == (0, [])


@pytest.mark.parametrize(
    ("words", "code"),
    [
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
        (("init", "gone.csv", "--save", "pyproject.toml"), 2),
        (("runs", "list"), 0),
    ],
)
def test_a_mistake_is_told_before_torch_is_imported(words: tuple[str, ...], code: int) -> None:
    assert loaded_by(*words, names=HEAVY) == (code, [])


def test_a_hostile_plugin_does_not_reach_help(tmp_path: Path) -> None:
    info = tmp_path / "hostile-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: hostile\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[flowgmm.flows]\nbad = hostile:spec\n", encoding="utf-8")
    (tmp_path / "hostile.py").write_text("import os\nos._exit(9)\n", encoding="utf-8")
    path = {"PYTHONPATH": str(tmp_path)}
    assert loaded_by("--help", names=("hostile",), **path) == (0, [])
    assert loaded_by("recipes", "check", "digits", names=("hostile",), **path) == (0, [])


def test_the_light_modules_stay_light() -> None:
    code = (
        "import sys, flowgmm_cli.api, flowgmm_cli.recipe.load, flowgmm_cli.plugins.registry\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
