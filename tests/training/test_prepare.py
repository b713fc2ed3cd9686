from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.training.prepare import prepare

MakeRecipe = Callable[..., Recipe]
CONTEXT = DataContext()


def test_rows_become_tensors_and_are_counted(moons: MakeRecipe) -> None:
    data = prepare(moons(), CONTEXT)
    assert data.train.x.shape == (180, 2)
    assert data.train.x.dtype == torch.float32
    assert data.counts() == {"train": 180, "labelled": 12, "val": 20, "val_labelled": 0, "test": 60}
    assert data.classes == 2
    assert len(data.describe()) == 1
    assert "2 classes · 2 features" in data.describe()[0]


def test_a_note_counts_validation_labels_beyond_the_labelled_rows(moons: MakeRecipe) -> None:
    data = prepare(moons("data.split.val_labels=true"), CONTEXT)
    assert data.counts()["val_labelled"] == 20
    assert "20 validation labels beyond the labelled rows" in data.describe()[1]


def test_the_preprocessor_of_a_run_is_fitted_once(new_run: Callable[..., Run]) -> None:
    run = new_run("run", "data.transforms=[{use: standardise}]")
    first = prepare(run.recipe(), CONTEXT, run=run)
    assert run.info()["fingerprint"] == first.rows.fingerprint
    file = run.checkpoints / "preprocessor.safetensors"
    written = file.stat().st_mtime_ns
    again = prepare(run.recipe(), CONTEXT, run=run)
    assert file.stat().st_mtime_ns == written
    for left, other in ((first.train, again.train), (first.test, again.test)):
        assert left is not None
        assert other is not None
        assert torch.equal(left.x, other.x)
        assert torch.equal(left.labels, other.labels)


def test_a_preprocessor_of_other_columns_is_a_run_error(new_run: Callable[..., Run]) -> None:
    run = new_run("run")
    prepare(run.recipe(), CONTEXT, run=run)
    file = run.checkpoints / "preprocessor.json"
    file.write_text(file.read_text().replace('"x1"', '"other"'))
    with pytest.raises(RunError, match="columns that the data does not have"):
        prepare(run.recipe(), CONTEXT, run=run)


def test_weights_of_labels_have_the_mean_1_and_stay_with_their_rows(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    weights = [f"{place % 4}" if place % 5 else "" for place in range(60)]
    x = [place * 37 % 101 / 10 for place in range(60)]
    rows = [f"{x[n]},{weights[n]},{'ab'[n % 2] if n < 40 else ''}" for n in range(60)]
    table.write_text("\n".join(["x,w,label", *rows]))
    recipe = load_recipe("csv", [f"data.path={table}", "data.label=label", "data.weight=w"])
    data = prepare(recipe, CONTEXT)
    assert [column.name for column in data.preprocessor.columns] == ["x"]
    assert data.train.weights is not None
    known = data.train.labels >= 0
    given = torch.tensor([float(weights[x.index(cell)] or 1) for cell in data.rows.train.columns["x"]])
    torch.testing.assert_close(data.train.weights[known], given[known] / given[known].mean())
    assert (data.train.weights[~known] == 1).all()
    part = data.train[torch.tensor([3, 1])]
    assert part.weights is not None
    assert part.weights.tolist() == data.train.weights[[3, 1]].tolist()
    table.write_text(table.read_text().replace(f"{x[1]},1,b", f"{x[1]},2,b"))
    assert prepare(recipe, CONTEXT).rows.fingerprint != data.rows.fingerprint  # a resumed run would notice


@pytest.mark.parametrize(
    ("words", "cells", "message"),
    [
        (["data.weight=v"], "1", "no column `v`"),
        (["data.weight=w"], "-1", "the weight `-1`"),
        (["data.weight=w"], "much", "the weight `much`"),
        (["data.weight=w"], "inf", "the weight `inf`"),
        (["data.weight=w"], "0", "all labels have the weight 0"),
        (["data.weight=w", "data.memory=0"], "1", "needs all rows in memory"),
    ],
)
def test_a_wrong_weight_is_a_data_error(tmp_path: Path, words: list[str], cells: str, message: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "\n".join(["x,w,label", *(f"{n * 37 % 101 / 10},{cells},{'ab'[n % 2]}" for n in range(20))])
    )
    with pytest.raises(DataError, match=message):
        prepare(load_recipe("csv", [f"data.path={table}", "data.label=label", *words]), CONTEXT)
