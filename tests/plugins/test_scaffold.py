"""New packages of `flowgmm plugins new` work: tests, conformance run, recipe, linters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from distributions import write_distribution
from forked import ForkedProcess

from flowgmm_cli.errors import UsageError
from flowgmm_cli.plugins.scaffold import KINDS, Package, write_package
from flowgmm_cli.testing.recipes import RUN_COMMANDS

ADD_PATHS = "import os, sys; sys.path[:0] = os.environ['PYTHONPATH'].split(os.pathsep)\n"
PYTEST = "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))"
# that of the checks of the package: the libraries need not be read again
CACHE = Path(__file__).resolve().parents[2] / ".mypy_cache"
LONG = "flowgmm-as-long-a-name-as-it-may-have-xy"


def install(package: Package, site: Path) -> dict[str, str]:
    """Install a package without a network: its metadata in a folder, its sources on the path."""
    project = tomllib.loads((package.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["entry-points"].items()
    points = [
        line for group, names in groups for line in (f"[{group}]", *(f"{a} = {b}" for a, b in names.items()))
    ]
    write_distribution(site, project["name"], "\n".join(points), project["version"])
    path = os.pathsep.join([str(site), str(package.folder / "src"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "TERM": "dumb", "FLOWGMM_PLUGIN_MODULES": ""}


def run(*words: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )


def overrides(package: Package, folder: Path) -> list[str]:
    """Return the words that the recipe of an encoder requires: texts."""
    if package.kind != "encoder":
        return []
    path = folder / "texts.csv"
    rows = [f"{word} number {index},{word}" for index in range(30) for word in ("goal", "bank")]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return [f"data.path={path}"]


@pytest.mark.slow
def test_new_packages_work_at_once(tmp_path: Path, start_python: Callable[..., ForkedProcess]) -> None:
    def output(code: str, *words: str, cwd: Path) -> str:
        process = start_python(ADD_PATHS + code, *words, env=env, cwd=cwd)
        out, err = process.communicate()
        assert process.returncode == 0, out[-3000:] + err
        return out

    packages = [write_package(f"my-{kind}", kind, tmp_path) for kind in KINDS]
    commands = [["plugins", "list", "--check", "--json"]]
    for package in packages:
        env = install(package, tmp_path / "site")
        assert " passed" in output(PYTEST, cwd=package.folder)
        recipe = f"my-{package.kind}/{package.name}"
        words = [*overrides(package, tmp_path), "train.epochs=1", "flow.hidden=8"]
        commands.append(["plugins", "test", recipe, "--json"])
        commands.append(["train", recipe, *words, "--run-dir", package.kind, "--quiet"])
    sources = [str(package.folder / "src") for package in packages]
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], *sources])
    listed, *outputs = output(RUN_COMMANDS, json.dumps(commands), cwd=tmp_path).split("\f")[:-1]
    assert all(json.loads(tested) for tested in outputs[::2])
    for package in packages:
        name = f"my-{package.kind}"
        rows = [row for row in json.loads(listed)["plugins"] if row["package"] == name]
        assert {(row["kind"], row["state"]) for row in rows} == {(package.kind, "ok"), ("recipe", "ok")}
        if package.kind == "baseline":  # no recipe names it
            continue
        components = json.loads((tmp_path / package.kind / "run.json").read_text(encoding="utf-8"))
        item = next(item for item in components["components"] if item["name"] == package.name)
        assert (item["package"], item["version"]) == (name, "0.1.0")
    without = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    gone = run("flowgmm_cli", "eval", "flow", env=without, cwd=tmp_path)
    assert gone.returncode == 4
    assert gone.stderr.endswith("hint: pip install my-flow==0.1.0\n")


@pytest.mark.parametrize("name", ["flowgmm-x1", LONG])
def test_what_is_written_is_well_formed(name: str, tmp_path: Path) -> None:
    packages = [write_package(name, kind, tmp_path / kind) for kind in KINDS]
    ruff = Path(sys.executable).with_name("ruff")
    for words in (["check"], ["format", "--check"]):
        command = [ruff, *words, "--no-cache", *(package.folder for package in packages)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    for package in packages:
        texts = [file.read_text(encoding="utf-8") for file in package.files]
        assert not [text for text in texts if "$" in text.replace("${env:TEXTS", "")]
        (own,) = tomllib.loads(texts[0])["project"]["entry-points"]["flowgmm.recipes"]
        assert own == package.name == name.removeprefix("flowgmm-").replace("-", "_")


@pytest.mark.slow
def test_what_is_written_is_typed(tmp_path: Path) -> None:
    folders = [write_package(f"my-{kind}", kind, tmp_path).folder for kind in KINDS]
    parts = [str(folder / part) for folder in folders for part in ("src", "tests")]
    sources = os.pathsep.join(parts[::2])
    env = {**os.environ, "PYTHONPATH": sources, "MYPYPATH": sources}
    # the settings are those of all packages
    done = run("mypy", "--cache-dir", str(CACHE), *parts, env=env, cwd=folders[0])
    assert done.returncode == 0, done.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_package("my-flow", "flow", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="exists already"):
        write_package("My_Flow", "data", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "letters, digits and hyphens"),
        ("../x", "letters, digits and hyphens"),
        ("my flow", "letters, digits and hyphens"),
        ("1flow", "a letter at the beginning"),
        ("flüß", "letters, digits and hyphens"),
        ("class", "a word of Python"),
        ("json", "a module called `json` exists already"),
        ("flowgmm-cli", "a module called `flowgmm_cli` exists already"),
        ("flowgmm-realnvp", "flowgmm has a flow `realnvp` of its own"),
        ("x" * 41, "longer than 40 letters"),
    ],
)
def test_names_that_cannot_be_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        write_package(name, "flow", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean `flow`"):
        write_package("mine", "flows", tmp_path)
