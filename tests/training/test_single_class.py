"""Rows of one class only: a model of what they are like, which tells others from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.errors import DataError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.pipeline import train


def recipe_of(folder: Path, *words: str) -> Recipe:
    """A short training on a table whose labels are all `good`."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)) @ [[1.0, 0.8], [0.0, 0.4]]
    cells = [f"{a:.4f},{b:.4f},{'good' if n % 4 == 0 else ''}" for n, (a, b) in enumerate(rows)]
    table = folder / "table.csv"
    table.write_text("\n".join(["a,b,kind", *cells]) + "\n", encoding="utf-8")
    common = (f"data.path={table}", "data.label=kind", "search=null", "train.epochs=3", "train.max_steps=40")
    return load_recipe("csv", [*common, *words])


def test_it_is_an_error_unless_it_is_meant(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    with pytest.raises(DataError, match="of the class `good`") as caught:
        train(recipe, create_run(recipe, argv=[], directory=tmp_path / "run"))
    assert "data.labels.single_class=true" in str(caught.value.hint)


def test_a_model_of_a_single_class_gives_its_rows_a_higher_density(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "data.labels.single_class=true")
    result = train(recipe, create_run(recipe, argv=[], directory=tmp_path / "run"))
    assert result.trained.class_names == ("good",)
    assert result.calibration.method == "none"  # there is nothing to be unsure of
    assert result.test is not None
    assert result.test.metrics()["accuracy"] == 1.0
    assert result.test.metrics()["nll"] == pytest.approx(0.0, abs=1e-9)
    across = Rows(
        {"a": np.array([0.5, 1.5]), "b": np.array([0.4, -1.5])}, np.full(2, -1), np.array(["in", "out"])
    )
    seen = result.trained.encode_rows(result.trained.preprocessor.apply(across, DataContext()))
    assert seen.log_density[0] > seen.log_density[1] + 2  # nats; the flow has had 40 steps
