"""The wheel and the source distribution."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
from email import message_from_string
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import flowgmm_cli

ROOT = Path(__file__).resolve().parent.parent


def build(target: str, source: Path, folder: Path) -> Path:
    """Build without pip, so without a network; returns the only file of the folder."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(words, cwd=source, check=True, capture_output=True)
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    return ZipFile(build("wheel", ROOT, tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked source distribution."""
    file = build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(file) as archive:
        archive.extractall(folder, filter="data")
    (top,) = folder.iterdir()
    return top


def test_the_wheel_holds_every_module_every_recipe_and_nothing_else(wheel: ZipFile) -> None:
    info = f"flowgmm_cli-{flowgmm_cli.__version__}.dist-info"
    assert {name.split("/")[0] for name in wheel.namelist()} == {"flowgmm_cli", info}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "flowgmm_cli").rglob("*.py")}
    assert {"flowgmm_cli/py.typed", *modules} <= set(wheel.namelist())
    assert not [name for name in wheel.namelist() if "__pycache__" in name]
    folder, prefix = ROOT / "recipes", "flowgmm_cli/_recipes/"
    recipes = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.yaml")}
    packed = [name for name in wheel.namelist() if name.startswith(prefix) and name.endswith(".yaml")]
    assert {name.removeprefix(prefix): wheel.read(name) for name in packed} == recipes


def test_the_wheel_says_version_licence_and_command(wheel: ZipFile) -> None:
    info = f"flowgmm_cli-{flowgmm_cli.__version__}.dist-info"
    metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
    assert metadata["Version"] == version("flowgmm-cli") == flowgmm_cli.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in wheel.read(f"{info}/licenses/LICENSE").decode()
    assert "flowgmm = flowgmm_cli.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_source_distribution_builds_the_same_wheel(wheel: ZipFile, sdist: Path, tmp_path: Path) -> None:
    assert (sdist / "tests" / Path(__file__).name).is_file()
    again = ZipFile(build("wheel", sdist, tmp_path))
    assert {file.filename: file.CRC for file in again.infolist()} == {
        file.filename: file.CRC for file in wheel.infolist()
    }


def declarations() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["dev"]]


def optional_dependencies() -> set[str]:
    """Requirements of the extras and the first-party plugins, which may not be installed."""
    files = [ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")]
    projects = [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in files]
    return {
        canonicalize_name(Requirement(text).name)
        for project in projects
        for texts in (project["dependencies"], *project.get("optional-dependencies", {}).values())
        for text in texts
    }


@cache
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    matches = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines if line and line[0] != "#"]
    assert all(matches), "every line pins one version"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def test_constraints_pin_what_the_project_needs_and_nothing_else() -> None:
    todo = [(Requirement(text), "") for text in declarations()]
    needed = set()
    while todo:
        requirement, extra = todo.pop()
        key = canonicalize_name(requirement.name)
        if (
            requirement.marker is not None and not requirement.marker.evaluate({"extra": extra})
        ) or key in needed:
            continue
        if key in pins() and version(key).split("+")[0] != pins()[key]:
            pytest.skip(f"{key} {version(key)} is not the pinned one, and may need other packages")
        needed.add(key)
        todo += [
            (Requirement(text), more) for text in requires(key) or () for more in ("", *requirement.extras)
        ]
    assert needed - pins().keys() == set()
    assert pins().keys() - needed - optional_dependencies() == set()


def test_pins_lie_within_the_ranges_of_the_project() -> None:
    for text in declarations():
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)]), text


def test_the_version_is_that_of_changelog_and_citation() -> None:
    assert f"## [{flowgmm_cli.__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == flowgmm_cli.__version__
    assert citation["license"] == "Apache-2.0"


def test_every_distribution_has_urls_and_classifiers() -> None:
    for file in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        assert project["urls"]["Homepage"] == f"https://pypi.org/project/{project['name']}/"
        assert {"Operating System :: OS Independent", "Typing :: Typed"} <= set(project["classifiers"])
