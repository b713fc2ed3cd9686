"""Which score flags rows: stand-ins made of the run's own rows decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import Component, DataContext, ScoreInputs
from flowgmm_cli.inference.ood_selection import mean_auroc, select_score
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_vectors
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.scores.detector import fit_detector
from flowgmm_cli.trained_model import TrainedModel, encode
from flowgmm_cli.training.prepare import prepare

TrainRun = Callable[..., Any]


KINDS = ("corrupted", "scattered", "magnified")


def score(use: str) -> Component:
    return Component(kind="score", use=use, config=registry().find("score", use).spec().config())


def load_tensor(trained: TrainedModel, recipe: Recipe) -> tuple[ScoreInputs, ScoreInputs]:
    """Training and test rows as the model sees them."""
    data = prepare(recipe, DataContext())
    assert data.test is not None
    seen = []
    for split in (data.preprocessor.apply(data.rows.train, DataContext()), data.test):
        latents = encode(trained.model, split.x)
        density = latents.log_prob().double() + split.log_det
        seen.append(ScoreInputs(split.x, latents, trained.model.log_posterior(latents), density))
    return seen[0], seen[1]


def choose(
    trained: TrainedModel, train: ScoreInputs, held_out: ScoreInputs, *uses: str, seed: int = 0
) -> Any:
    components = [score(use) for use in uses]
    detector = fit_detector(components, train, held_out, trained.model, 0)
    generator = np.random.default_rng(seed)
    stand_ins = pseudo_ood_vectors(train, held_out, trained.model, generator)
    return select_score(detector, components, train, held_out, trained.model, stand_ins, generator)


def test_the_score_with_the_best_mean_over_all_stand_ins_is_taken(train_run: TrainRun) -> None:
    run, found = train_run("run", "train.epochs=20")
    train, held_out = load_tensor(found.trained, run.recipe())
    default, reason, table = choose(found.trained, train, held_out, "entropy", "input_knn", "nll")
    assert set(table) == {"entropy", "input_knn", "nll"}
    for values in table.values():
        assert tuple(values) == KINDS  # two classes: with one left out there is nothing to choose between
        assert all(0 <= value <= 1 for value in values.values())
    assert default == max(table, key=lambda name: mean_auroc(table[name]))
    # rows scattered off two thin moons are far from every training row, whatever class they may be of
    assert table["input_knn"]["scattered"] > 0.8
    assert default != "entropy"
    assert f"{mean_auroc(table[default]):.3f}" in reason


def test_a_class_left_out_counts_where_there_are_three_or_more(train_run: TrainRun) -> None:
    run, found = train_run("run", "data.name=pinwheel", "data.labels.count=20", "train.epochs=20")
    train, held_out = load_tensor(found.trained, run.recipe())
    _, _, table = choose(found.trained, train, held_out, "latent_knn", "nll")
    assert tuple(table["nll"]) == (*KINDS, "left out")
    # an arm of the pinwheel lies far from the training rows of all other arms
    assert table["latent_knn"]["left out"] > 0.9


def test_the_same_seed_gives_the_same_choice(train_run: TrainRun) -> None:
    run, found = train_run("run")
    train, held_out = load_tensor(found.trained, run.recipe())
    first, again, other = (
        choose(found.trained, train, held_out, "latent_knn", "nll", seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first[2] != other[2]


def test_scores_that_read_images_are_no_candidates(train_run: TrainRun) -> None:
    run, found = train_run("run")
    train, held_out = load_tensor(found.trained, run.recipe())
    images = torch.rand(len(train), 4, 4, generator=torch.Generator().manual_seed(0))
    train, held_out = (replace(rows, images=images[: len(rows)]) for rows in (train, held_out))
    assert tuple(choose(found.trained, train, held_out, "compression", "nll")[2]) == ("nll",)
    assert choose(found.trained, train, held_out, "compression")[0] == "compression"  # there is no other


@pytest.mark.parametrize("default", ["auto", "nll"])
def test_a_run_stores_what_was_chosen_and_why(
    train_run: TrainRun, moons: Callable[..., Recipe], default: str
) -> None:
    _, found = train_run("run", f"ood.default={default}")
    detector = found.trained.detector
    assert detector is not None
    said = found.trained.facts["ood"]
    assert said["default"] == detector.default
    if default == "auto":
        assert set(said["choice"]) == set(detector.names)
        assert "made of the run's own" in said["reason"]
    else:
        assert detector.default == "nll"
        assert said["choice"] == {}
        assert said["reason"] == "named by the recipe"
    assert load_recipe("digits", []).ood.default == "auto"
