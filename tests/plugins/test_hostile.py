"""Plugins that misbehave leave alone what does not use them; each command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from distributions import write_distribution

from flowgmm_cli.__main__ import main

HEALTHY = """
from flowgmm_cli.api import Config, Field, FlowSpec

class Settings(Config):
    layers: int = Field(2, description="layers")

spec = FlowSpec(config=Settings, build="x:y", summary="Healthy")
"""
NESTED = """
from flowgmm_cli.api import Config, Field, FlowSpec

class Inner(Config):
    value: int = Field(1, description="a number")

{levels}

spec = FlowSpec(config=Level{depth}, build="x:y", summary="Nested deeply")
"""
LEVEL = """
class Level{n}(Config):
    below: {before} = Field(default_factory=lambda: {before}(), description="the next level")
"""
HUGE = """
from flowgmm_cli.api import Config, Field, FlowSpec
from pydantic import create_model

fields = {f"parameter_{i}": (int, Field(i, description=f"parameter {i}")) for i in range(500)}
spec = FlowSpec(config=create_model("Huge", __base__=Config, **fields), build="x:y", summary="Huge")
"""


def deep_plugin(depth: int = 20) -> str:
    levels = [LEVEL.format(n=0, before="Inner")]
    levels += [LEVEL.format(n=n, before=f"Level{n - 1}") for n in range(1, depth + 1)]
    return NESTED.format(levels="\n".join(levels), depth=depth)


@dataclass(frozen=True)
class Hostile:
    """A distribution that misbehaves, and the expected messages.

    Attributes:
        entry_points: its `entry_points.txt`; NAME stands for its module.
        module: source of its module; None for none.
        listed: state in `plugins list`; None where it is not listed.
        checked: state in `plugins list --check`.
        warning: what `plugins list` warns of.
        name: the distribution's name, where that is what is odd.
    """

    entry_points: str | bytes = "[flowgmm.flows]\nNAME = NAME:spec\n"
    module: str | None = HEALTHY
    listed: str | None = "ok"
    checked: str | None = None
    warning: str = ""
    name: str = ""


HOSTILE = {
    "import_error": Hostile(module="import nowhere_at_all", checked="broken"),
    "exits": Hostile(module="import sys\nsys.exit(3)", checked="broken"),
    "raises_base": Hostile(module="class Odd(Exception): pass\nraise Odd", checked="broken"),
    "slow_torch": Hostile(module=f"import torch\n{HEALTHY}", checked="ok"),
    "wrong_api": Hostile(module=HEALTHY.replace("build=", "api=99, build="), checked="incompatible"),
    "wrong_type": Hostile(module="spec = 3", checked="broken"),
    "wrong_kind": Hostile(
        module="from flowgmm_cli.api import *\nspec = EncoderSpec(config=Config, build='x:y', summary='')",
        checked="broken",
    ),
    "clash_builtin": Hostile("[flowgmm.flows]\nrealnvp = NAME:spec\n", listed="conflict", checked="conflict"),
    "clash_one": Hostile("[flowgmm.flows]\nclash = NAME:spec\n", listed="conflict", checked="conflict"),
    "clash_two": Hostile("[flowgmm.flows]\nclash = NAME:spec\n", listed="conflict", checked="conflict"),
    "missing_module": Hostile(module=None, checked="broken"),
    "missing_attribute": Hostile(module="other = 1", checked="broken"),
    "malformed": Hostile("[console_scripts]\nx\n", listed=None, warning="its entry points cannot be read"),
    "bad_bytes": Hostile(b"[console_scripts]\n\xff\xfe = x:y\n", listed=None, warning="cannot be read"),
    "spaces": Hostile(
        "[flowgmm.flows]\nmy flow = NAME:spec\n", listed=None, warning="`my flow` is not of the form"
    ),
    "unicode": Hostile(
        "[flowgmm.flows]\nflüß = NAME:spec\n", listed=None, warning="`flüß` is not of the form"
    ),
    "unicode_package": Hostile(name="fläsh flow", checked="ok"),
    "no_target": Hostile("[flowgmm.flows]\nodd = nothing\n", listed=None, warning="not `module:attribute`"),
    "huge": Hostile(module=HUGE, checked="ok"),
    "nested": Hostile(module=deep_plugin(), checked="ok"),
    "recipes_nowhere": Hostile("[flowgmm.recipes]\nrecipes_nowhere = nowhere_at_all:x\n", module=None),
}
COMMANDS = {
    "help": (("--help",), 0),
    "check": (("recipes", "check", "digits"), 0),
    "train": (("train", "two_moons", "train.epochs=1", "flow.hidden=8", "--dry-run"), 0),
}
HEAVY = ("torch", "datasets", "sklearn", "pandas", "pyarrow")
PROBE = """
import json, sys
from flowgmm_cli.__main__ import main
try:
    main()
except SystemExit as stop:
    sys.stdout.flush()
    imported = [name for name in WATCHED if name in sys.modules]
    print(json.dumps([stop.code, imported]), file=sys.stderr)
"""


def install(site: Path, name: str, item: Hostile) -> None:
    module = f"hostile_{name}"
    points = item.entry_points
    points = points.replace("NAME", module) if isinstance(points, str) else points
    modules = {} if item.module is None else {module: item.module}
    write_distribution(site, item.name or module, points, **modules)


def run(site: Path, *words: str, **environ: str) -> tuple[int, str, str, list[str]]:
    """Exit code, stdout, stderr, and which hostile or heavy modules were imported."""
    watched = [path.stem for path in site.glob("*.py")] + list(HEAVY)
    code = f"import sys\nWATCHED = {watched!r}\nsys.argv = {['flowgmm', *words]!r}\n{PROBE}"
    env = {**os.environ, "PYTHONPATH": str(site), "TERM": "dumb", "NO_COLOR": "1", **environ}
    env = {name: value for name, value in env.items() if name not in ("FLOWGMM_TRACEBACK", "FLOWGMM_RUN")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=site, check=False
    )
    *rest, last = done.stderr.splitlines()
    exit_code, imported = json.loads(last)
    return exit_code, done.stdout, "\n".join(rest), imported


@pytest.fixture
def all_at_once(tmp_path: Path) -> Path:
    for name, item in HOSTILE.items():
        install(tmp_path, name, item)
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_all_of_them_together_stop_no_command(all_at_once: Path, command: str) -> None:
    words, code = COMMANDS[command]
    actual, _, err, imported = run(all_at_once, *words)
    assert actual == code, err
    assert not [name for name in imported if name.startswith("hostile_")]
    if command != "train":
        assert not imported


def rows_of(out: str, name: str) -> list[dict[str, Any]]:
    package = (HOSTILE[name].name or f"hostile-{name}").replace("_", "-")
    return [row for row in json.loads(out)["plugins"] if row["package"] == package]


def test_the_list_says_of_each_what_is_known_without_importing_it(all_at_once: Path) -> None:
    code, out, err, imported = run(all_at_once, "plugins", "list", "--json")
    assert (code, imported) == (0, [])
    for name, item in HOSTILE.items():
        assert [row["state"] for row in rows_of(out, name)] == ([item.listed] if item.listed else []), name
        assert item.warning in err, name


def test_a_check_says_of_each_what_is_wrong_with_it(all_at_once: Path) -> None:
    code, out, _, imported = run(all_at_once, "plugins", "list", "--check", "--json")
    assert code == 0
    assert "hostile_slow_torch" in imported
    for name, item in HOSTILE.items():
        if item.checked:
            (row,) = rows_of(out, name)
            assert row["state"] == item.checked, (name, row["problem"])
            assert bool(row["problem"]) == (item.checked != "ok")


@pytest.mark.parametrize("name", ["import_error", "exits", "wrong_api", "wrong_type"])
def test_a_recipe_with_a_broken_plugin_ends_with_code_4(all_at_once: Path, name: str) -> None:
    code, _, err, _ = run(all_at_once, "recipes", "check", "digits", f"flow.use=hostile_{name}")
    assert code == 4
    assert f"hostile-{name}".replace("_", "-") in err
    assert "Traceback" not in err


def test_all_of_them_can_be_switched_off(all_at_once: Path) -> None:
    words = ("plugins", "list", "--check", "--json")
    code, out, _, imported = run(all_at_once, *words, FLOWGMM_DISABLE_PLUGINS="all")
    assert (code, [name for name in imported if name.startswith("hostile_")]) == (0, [])
    states = {row["state"] for row in json.loads(out)["plugins"] if row["package"] != "flowgmm-cli"}
    assert states == {"disabled"}


def test_of_many_distributions_none_is_imported(tmp_path: Path) -> None:
    for index in range(300):
        install(tmp_path, f"many_{index}", Hostile(module="raise RuntimeError('imported')"))
    code, out, _, imported = run(tmp_path, "plugins", "list", "--json")
    assert (code, imported) == (0, [])
    assert sum(row["package"].startswith("hostile-many-") for row in json.loads(out)["plugins"]) == 300


def test_metadata_that_a_library_cannot_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path, "bad_bytes", HOSTILE["bad_bytes"])
    monkeypatch.syspath_prepend(tmp_path)

    def load(*args: object, **options: object) -> None:
        metadata.entry_points(group="library.plugins")  # as narwhals does for scikit-learn

    monkeypatch.setattr("flowgmm_cli.recipe.load.load_recipe", load)
    monkeypatch.setattr("sys.argv", ["flowgmm", "train", "digits"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 4
    err = capsys.readouterr().err
    assert "hostile-bad-bytes 1.0: its entry points cannot be read" in err
    assert "uninstall" in err
