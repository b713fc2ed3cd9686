"""Small runs: two of a table with awkward names of classes, columns and paths, and one of images."""

from __future__ import annotations

import csv
import random
import shutil
from pathlib import Path

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.pipeline import train

TABLE = ("train.epochs=3", "flow.hidden=8", "flow.couplings=2", "calibration.folds=2", "search=null")
IMAGES = (
    "data.labels.count=40", "data.transforms=[{use: pca, dim: 6}]", "data.views.strong=[]", "search=null",
    "flow={use: realnvp, couplings: 2, hidden: 8, depth: 1}", "train.epochs=1", "calibration.method=none",
)  # fmt: skip


def train_run(folder: Path, name: str, *words: str) -> Run:
    recipe = load_recipe(name, list(words))
    run = create_run(recipe, argv=["train", name, *words], directory=folder)
    train(recipe, run)
    return run


@pytest.fixture(scope="session")
def names() -> tuple[str, ...]:
    """The classes of the awkward runs."""
    return "<script>alert(1)</script>", 'b & "c" $x$ | `d`', "漢字 ünï \x1b\u202e"


@pytest.fixture(scope="session")
def _awkward(names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("awkward")
    draw, file = random.Random(0), folder / "t <i>.csv"
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["x<b>&1", "x2", "label"])
        for row in range(90):
            cells = [f"{draw.gauss(2 * (row % 3), 1):.3f}" for _ in range(2)]
            writer.writerow([*cells, names[row % 3] if row < 60 else ""])
    for name, seed in (("one", 0), ("two", 1)):
        train_run(folder / name, "csv", f"data.path={file}", "data.label=label", f"run.seed={seed}", *TABLE)
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


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of images of 8 by 8 pixels."""
    return train_run(tmp_path_factory.mktemp("images") / "run", "digits", *IMAGES)
