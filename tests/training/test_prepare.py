from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RunError
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


def test_missing_splits_count_as_none(moons: MakeRecipe) -> None:
    data = prepare(moons("data.split.val=0", "data.test_n=0", "data.split.test=0"), CONTEXT)
    assert data.val is None
    assert data.test is None
    assert (data.counts()["val"], data.counts()["test"], data.counts()["train"]) == (0, 0, 200)


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
