"""Writes a new plugin package with a small working component: `flowgmm plugins new`."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from flowgmm_cli.api import ENTRY_POINT_GROUPS
from flowgmm_cli.errors import RunFailedError, UsageError, did_you_mean
from flowgmm_cli.plugins.entry import normalise
from flowgmm_cli.plugins.registry import Builtins

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Scaffold:
    """The templates of a kind of component."""

    file: str  # the module of the component
    description: str  # summary of the component
    library: str  # its dependency beside flowgmm
    example: str = "flowgmm train $package/$name"  # a command that uses it


KINDS = {
    "flow": Scaffold("flow", "Affine couplings with one hidden layer", "torch>=2.6"),
    "data": Scaffold("source", "Rings around each other in the plane", "numpy>=2.0"),
    "regulariser": Scaffold("regulariser", "Gini impurity of the posterior", "torch>=2.6"),
    "encoder": Scaffold(
        "encoder",
        "Counts of letter n-grams by their hash",
        "numpy>=2.0",
        "flowgmm train $package/$name data.path=my.csv data.text=text data.label=label",
    ),
    "score": Scaffold("score", "Largest distance of a feature from its mean", "numpy>=2.0"),
    "baseline": Scaffold(
        "baseline",
        "Nearest class mean",
        "numpy>=2.0",
        "flowgmm train $package/$name && flowgmm eval --baselines",
    ),
}
"""Kind -> its templates."""


@dataclass(frozen=True)
class Package:
    """A new package."""

    folder: Path
    package: str
    module: str
    kind: str  # the kind of its component
    name: str  # the component's name in recipes
    files: tuple[Path, ...]


def write_package(package: str, kind: str, directory: Path) -> Package:
    """Write a package whose tests pass as soon as it is installed.

    Args:
        package: name of the distribution, such as `flowgmm-mine`; the component's name is the same with
            underscores, without a leading `flowgmm-`.
        kind: a key of `KINDS`.
        directory: parent of its folder.

    Raises:
        UsageError: the name or kind cannot be used, or the folder exists.
        RunFailedError: it cannot be written.
    """
    if kind not in KINDS:
        raise UsageError(
            f"there is no template for the kind `{kind}`{did_you_mean(kind, KINDS)}",
            hint=f"kinds: {', '.join(KINDS)}",
        )
    module, name = _names(package, kind)
    distribution = normalise(package)
    folder = directory / distribution
    if folder.exists():
        raise UsageError(f"{folder} exists already", hint="choose another name, or another --directory")
    scaffold = KINDS[kind]
    values = {
        "package": distribution,
        "module": module,
        "name": name,
        "constant": name.upper(),
        "title": "".join(part.capitalize() for part in name.split("_")),
        "kind": kind if kind != "data" else "data source",
        "group": {value: group for group, value in ENTRY_POINT_GROUPS.items()}[kind],
        "description": scaffold.description,
        "library": scaffold.library,
        "file": scaffold.file,
    }
    values["try"] = Template(scaffold.example).substitute(values)
    source = Path("src", module)
    places = {
        "pyproject.toml": Path("pyproject.toml"),
        "README.md": Path("README.md"),
        "CHANGELOG.md": Path("CHANGELOG.md"),
        "gitignore": Path(".gitignore"),
        "init.py": source / "__init__.py",
        f"{kind}.plugin": source / "plugin.py",
        f"{kind}.module": source / f"{scaffold.file}.py",
        f"{kind}.recipe": source / "recipes" / f"{name}.yaml",
        f"{kind}.test": Path("tests", f"test_{name}.py"),
    }
    try:
        files = tuple(_write(folder / place, template, values) for template, place in places.items())
        (folder / source / "py.typed").touch()
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunFailedError(f"{folder} cannot be written: {error.strerror or error}") from error
    return Package(folder, distribution, module, kind, name, (*files, folder / source / "py.typed"))


def _names(package: str, kind: str) -> tuple[str, str]:
    """Return the module's and the component's name for a distribution's name."""
    module = normalise(package).replace("-", "_")
    name = module.removeprefix("flowgmm_")
    reason = ""
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?", package) or not re.match(r"[a-z]", name):
        reason = "it takes letters, digits and hyphens, with a letter at the beginning"
    elif len(package) > 40:
        reason = "it is longer than 40 letters"
    elif keyword.iskeyword(module) or keyword.iskeyword(name):
        reason = "that is a word of Python"
    elif module in sys.stdlib_module_names or module == "flowgmm_cli":
        reason = f"a module called `{module}` exists already"
    elif name in Builtins()[kind]:
        reason = f"flowgmm has a {kind} `{name}` of its own"
    if reason:
        raise UsageError(f"`{package}` cannot be a package's name: {reason}", hint="such as flowgmm-mine")
    return module, name


def _write(path: Path, template: str, values: dict[str, str]) -> Path:
    text = Template((_TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
