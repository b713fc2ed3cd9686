"""What `recipes/paper/` says is what the paper's program does (Izmailov et al., 2020)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.recipe.catalogue import available_recipes
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import dry_run

PAPER = sorted(name for name in available_recipes() if name.startswith("paper/"))
IMAGES = ("paper/mnist", "paper/svhn", "paper/cifar10")
DRAWN = ("paper/two_moons", "paper/two_circles", "paper/eight_gaussians", "paper/pinwheel")


def values_of(name: str, *words: str) -> dict[str, Any]:
    values: dict[str, Any] = load_recipe(name, words).to_dict()
    return values


def test_they_are_all_there() -> None:
    others = {"paper/ag_news", "paper/yahoo_answers", "paper/hepmass", "paper/miniboone"}
    assert set(PAPER) == {*DRAWN, *others, *IMAGES}


@pytest.mark.parametrize("name", sorted(set(PAPER) - set(IMAGES)))
def test_the_mixture_is_fixed_and_nothing_of_ours_is_added(name: str) -> None:
    values = values_of(name)
    prior, objective = values["prior"], values["objective"]
    assert not any((prior["learn_means"], prior["learn_scales"]))
    assert (prior["class_prior"], prior["components"], prior["dims"]) == ("uniform", 1, None)
    assert objective["use"] == "joint"
    assert not any((objective["class_weights"], objective["per_dimension"]))
    assert values["regularisers"] == []
    assert values["data"]["views"]["weak"] == values["data"]["views"]["strong"] == []
    assert (values["train"]["ema"], values["calibration"]["method"]) == (0, "none")


@pytest.mark.parametrize("name", IMAGES)
def test_images_have_the_loss_and_the_flow_of_the_program(name: str) -> None:
    values = values_of(name)
    prior, objective, flow = values["prior"], values["objective"], values["flow"]
    assert (prior["means"], prior["scale"]) == ("random", 1.0)
    assert not any((prior["learn_means"], prior["learn_scales"]))
    # 3 times the cross-entropy of labelled rows, the likelihood of all rows in nats
    assert (objective["use"], objective["labelled"], objective["density"]) == ("hybrid", 3, 1)
    assert (objective["temperature"], objective["per_dimension"]) == (1, False)
    (regulariser,) = values["regularisers"]
    assert (regulariser["use"], regulariser["weight"]) == ("flow_consistency", 1)
    assert regulariser["per_dimension"] is False
    assert (flow["use"], flow["scales"], flow["hidden"], flow["blocks"]) == ("realnvp_image", 2, 64, 8)
    # two independent draws of the same views
    assert values["data"]["views"]["weak"] == values["data"]["views"]["strong"] != []
    assert values["train"]["batch_size"] == values["train"]["labelled_batch_size"] == 32
    assert (values["train"]["ema"], values["calibration"]["method"]) == (0, "none")


@pytest.mark.parametrize("name", sorted(set(PAPER) - set(DRAWN) - set(IMAGES)))
def test_tables_and_text_have_the_scale_that_the_program_really_has(name: str) -> None:
    values = values_of(name)
    assert values["prior"]["scale"] == pytest.approx(math.log1p(math.e), abs=1e-4)  # softplus(1)
    assert values["flow"]["dropout"] == 0.5
    assert values["train"]["labelled_batch_size"] >= values["data"]["labels"]["count"]


@pytest.mark.parametrize("name", DRAWN)
def test_a_batch_of_a_drawn_set_is_half_labelled(name: str) -> None:
    values = values_of(name)
    count = values["data"]["labels"]["count"]
    assert values["train"]["batch_size"] == values["train"]["labelled_batch_size"] == count
    assert values["objective"]["labelled"] == values["objective"]["unlabelled"] == 0.5


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_set_can_be_trained_as_it_is(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, [f"run.dir={tmp_path}", "run.device=cpu"])
    terms = dry_run(recipe, context=DataContext(), callbacks=Callbacks())
    assert set(terms) == {"labelled", "unlabelled"}
    assert all(math.isfinite(term) for term in terms.values())
