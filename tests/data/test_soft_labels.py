"""Labels as probabilities, from the columns of a table to the rows of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError
from flowgmm_cli.evaluation.folds import split_labelled
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.pipeline import create_engine
from flowgmm_cli.training.prepare import PreparedData, prepare

COLUMNS = "data.labels.probabilities=[p_ash, p_oak]"


def recipe_of(folder: Path, lines: list[str], *words: str) -> Recipe:
    """A table of these lines with the columns x, kind, p_ash and p_oak."""
    table = folder / "t.csv"
    table.write_text("\n".join(["x,kind,p_ash,p_oak", *lines]))
    return load_recipe("csv", [f"data.path={table}", "data.label=kind", COLUMNS, *words])


def mixed_lines(certain: int, uncertain: int, none: int) -> list[str]:
    """Lines with a label, with probabilities, and with neither."""
    cells = [f"{('ash', 'oak')[n % 2]},0.9,0.1" for n in range(certain)]
    cells += [f",{(3, 0.1)[n % 2]},{(1, 0.9)[n % 2]}" for n in range(uncertain)]
    cells += [",,"] * none
    return [f"{n * 37 % 101 / 10},{cell}" for n, cell in enumerate(cells)]


@pytest.fixture
def data(tmp_path: Path) -> PreparedData:
    """Twenty certain and twenty uncertain labels, and as many rows without."""
    return prepare(recipe_of(tmp_path, mixed_lines(20, 20, 20)), DataContext())


def test_rows_without_a_label_get_the_likeliest_class_and_keep_its_probabilities(data: PreparedData) -> None:
    assert data.rows.class_names == ("ash", "oak")
    assert [column.name for column in data.preprocessor.columns] == ["x"]
    labels, targets = data.train.labels, data.train.targets
    assert targets is not None
    uncertain = targets.any(1)
    assert uncertain.sum() == 20
    first = torch.where(labels[uncertain] == 0, 0.75, 0.1)
    torch.testing.assert_close(targets[uncertain], torch.stack([first, 1 - first], dim=1))
    part = data.train[torch.tensor([3, 1])]
    assert part.targets is not None
    assert torch.equal(part.targets, targets[[3, 1]])


def test_certain_labels_alone_are_tested_and_held_out(data: PreparedData, tmp_path: Path) -> None:
    assert len(data.rows.splits["test"]) == 4  # a fifth of the certain ones
    recipe = recipe_of(tmp_path, mixed_lines(20, 20, 20))
    engine = create_engine(device="cpu", precision="fp32", features=1)
    context = TrainContext(recipe, data, engine, Callbacks(), Interrupt())
    labels, known = data.train.labels.numpy(), context.find_known_labels()
    folds = split_labelled(labels, 4, seed=0, known=known)
    held_out = np.concatenate([fold.held_out for fold in folds])
    assert data.train.targets is not None
    assert sorted(held_out) == np.flatnonzero((labels >= 0) & ~data.train.targets.any(1).numpy()).tolist()


def test_probabilities_may_be_the_only_labels(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    lines = [line.replace(",,", ",", 1) for line in mixed_lines(0, 40, 0)]
    table.write_text("\n".join(["x,p_ash,p_oak", *lines]))
    recipe = load_recipe("csv", [f"data.path={table}", "data.label=kind", COLUMNS, "data.split.test=0.2"])
    rows = prepare(recipe, DataContext()).rows
    assert rows.class_names == ("ash", "oak")
    assert len(rows.splits["test"]) == 8
    table.write_text(table.read_text().replace("3,1", "2,1"))
    assert prepare(recipe, DataContext()).rows.fingerprint != rows.fingerprint  # a resumed run would notice


@pytest.mark.parametrize(
    ("cells", "words", "message"),
    [
        ("-1,2", [], "row train:1: -1, 2 are no probabilities"),
        ("much,1", [], "row train:1: much, 1 are no probabilities"),
        ("0,0", [], "row train:1: 0, 0 are no probabilities"),
        ("0.5,0.5", ["data.labels.probabilities=[p_ash, p_elm]"], "no column `p_elm`"),
        ("0.5,0.5", ["data.memory=0"], "needs all rows in memory"),
    ],
)
def test_cells_that_are_no_probabilities_are_a_data_error(
    tmp_path: Path, cells: str, words: list[str], message: str
) -> None:
    lines = [f"1.5,,{cells}", *mixed_lines(20, 0, 10)]
    with pytest.raises(DataError, match=message):
        prepare(recipe_of(tmp_path, lines, *words), DataContext())
