"""Every choice of the mixture through a whole run: training, calibration, saving, loading."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained_model import TrainedModel

CHOICES = {
    "label spreading": ("prior.means=label_spreading",),
    "given": ("prior.means=given", "prior.points=[[-3, 0], [3, 0]]"),
    "diagonal components": (
        "prior.components=3", "prior.covariance=diagonal", "prior.means=kmeans",
        "prior.class_prior=estimated",
    ),
    "whitened and guided": (
        "flow.whitening=discriminant", "regularisers=[{use: consistency}, {use: guide}]",
    ),
    "one dimension": ("prior.dims=1",),
    "everything": (
        "prior.means=latent", "prior.components=2", "prior.dims=1", "prior.learn_rest=true",
        "prior.learn_weights=true",
        "regularisers=[{use: consistency}, {use: mean_separation}, {use: flow_consistency}]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOICES)
def test_a_run_learns_is_saved_and_loaded_and_samples(
    name: str, train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm_cli.baselines.guide.METHODS", ("knn", "lda"))  # to save time
    words = ("train.epochs=20", "calibration.method=none", "data.views.strong=[{use: noise, scale: 0.05}]")
    run, result = train_run("run", *words, *CHOICES[name])
    assert result.test is not None
    accuracy = result.test.metrics()["accuracy"]
    assert accuracy > 0.75, accuracy
    loaded = TrainedModel.load(run.path)
    recipe: Recipe = loaded.recipe
    assert recipe.to_dict()["prior"] == run.recipe().to_dict()["prior"]
    rows = load_rows(recipe.data, DataContext()).test
    assert rows is not None
    split = loaded.preprocessor.apply(rows, DataContext())
    first, second = result.trained.encode_rows(split), loaded.encode_rows(split)
    assert torch.equal(first.log_posterior, second.log_posterior)
    assert torch.equal(first.log_density, second.log_density)
    assert first.log_posterior.shape == (60, 2)

    x, classes = loaded.model.sample(200, torch.Generator().manual_seed(0), temperature=0.5)
    assert x.shape == (200, 2)
    with torch.no_grad():
        guessed = loaded.model.posterior(x).argmax(1)
    assert (guessed == classes).double().mean() > 0.9
