"""A small run with awkward names of classes, columns and paths."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.pipeline import train

NAMES = ("<script>alert(1)</script>", 'b & "c" $x$ | `d`', "漢字 ünï")
SHORT = ("train.epochs=3", "flow.hidden=8", "flow.couplings=2", "calibration.folds=2", "search=null")


def table(rows: int = 90, *, seed: int = 0, labelled: int = 60) -> str:
    """A csv of three classes; names with quotes and commas are quoted."""
    draw = random.Random(seed)
    lines = ['"x<b>&1",x2,"label"']
    for row in range(rows):
        name = NAMES[row % 3] if row < labelled else ""
        cells = [f"{draw.gauss(2 * (row % 3), 1):.3f}" for _ in range(2)]
        lines.append(",".join([*cells, '"' + name.replace('"', '""') + '"']))
    return "\n".join(lines) + "\n"


@pytest.fixture
def names() -> tuple[str, ...]:
    """The classes of the awkward run."""
    return NAMES


@pytest.fixture(scope="session")
def _awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awkward")
    (folder / "t <i>.csv").write_text(table(), encoding="utf-8")
    for name, seed in (("one", 0), ("two", 1)):
        words = [f"data.path={folder / 't <i>.csv'}", "data.label=label", f"run.seed={seed}", *SHORT]
        recipe = load_recipe("csv", words)
        train(recipe, create_run(recipe, argv=["train", "csv", *words], directory=folder / name))
    return folder


@pytest.fixture
def awkward(_awkward: Path, tmp_path: Path) -> Run:
    """A finished run of this test's own; its data is where it was."""
    return Run(Path(shutil.copytree(_awkward / "one", tmp_path / "one")))


@pytest.fixture
def other(_awkward: Path, tmp_path: Path) -> Run:
    """The same with another seed."""
    return Run(Path(shutil.copytree(_awkward / "two", tmp_path / "two")))


@pytest.fixture
def context(awkward: Run) -> ReportContext:
    """The report context of the awkward run."""
    return ReportContext(awkward, DataContext(offline=True))
