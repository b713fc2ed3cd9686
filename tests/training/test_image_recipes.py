"""The bundled recipes of images: what their flows are made of, and that they train on pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from flowgmm_cli.api import DataContext
from flowgmm_cli.recipe.catalogue import available_recipes
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.testing.tensors import autocast_on_meta
from flowgmm_cli.trained_model import TrainedModel, build_flow
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import dry_run, train

SIZES = {
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "svhn": (3, 32, 32),
    "cifar10": (3, 32, 32),
    "paper/mnist": (1, 28, 28),
    "paper/svhn": (3, 32, 32),
    "paper/cifar10": (3, 32, 32),
}
GLOW = [name for name in SIZES if not name.startswith("paper/")]
OVERLAYS = [(name, overlay) for name in SIZES for overlay in load_recipe(name).overlays]


def made_images(folder: Path, shape: tuple[int, int, int], *, n: int = 90) -> Path:
    """Ten classes of images: a bright square in one of ten places, and noise."""
    channels, height, width = shape
    rng = np.random.default_rng(0)
    y = np.arange(n) % 10
    x = rng.integers(0, 60, (n, height, width, channels), dtype=np.uint8)
    for row, label in enumerate(y):
        top, left = 2 + 12 * (label % 2), 2 + 4 * (label // 2)
        x[row, top : top + 8, left : left + 5] += 150
    np.savez(folder / "made.npz", x=x if channels > 1 else x[..., 0], y=y, x_test=x[:30], y_test=y[:30])
    return folder / "made.npz"


def flow_of(name: str) -> nn.Module:
    recipe = load_recipe(name, ["data.path=x.npz"])
    return build_flow(recipe.flow, SIZES[name], torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SIZES)
def test_a_flow_for_gpus_runs_without_numbers_and_so_without_waiting(name: str) -> None:
    shape = SIZES[name]
    size = int(np.prod(shape))
    flow = flow_of(name).to("meta")
    with autocast_on_meta():
        z, log_det = flow(torch.rand(2, size, device="meta"))
        back = flow.inverse(z)  # type: ignore[operator]
    assert (z.shape, log_det.shape, back.shape) == ((2, size), (2,), (2, size))
    assert sum(flow.latent_sizes) == size  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "overlay"), OVERLAYS)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler")
def test_an_overlay_takes_a_step(name: str, overlay: str, tmp_path: Path) -> None:
    first = load_recipe(name, ["data.path=x"], overlays=[overlay]).data.config.transforms[0]  # type: ignore[attr-defined]
    channels, height, width = SIZES[name]
    words = ["data.labels.count=20", "train.batch_size=16", "train.labelled_batch_size=8"]
    if first.use == "pca":
        words.append("data.transforms.0.dim=16")
        height = width = 16  # the components of 3072 pixels take many seconds
    words.append(f"data.path={made_images(tmp_path, (channels, height, width))}")
    recipe = load_recipe(name, words, overlays=[overlay])
    losses = dry_run(recipe, context=DataContext(), callbacks=Callbacks())
    assert losses.keys() >= {"labelled", "unlabelled", "consistency"}
    assert all(np.isfinite(value) for value in losses.values())


def test_every_recipe_for_gpus_has_a_smaller_recipe_for_cpus() -> None:
    for name in GLOW:
        assert load_recipe(name, ["data.path=x"]).train.compile
        assert "cpu" in load_recipe(name, ["data.path=x"]).overlays
        assert not load_recipe(name, ["data.path=x"], overlays=["cpu"]).train.compile
    assert {*SIZES, "images", "mnist_pca"} <= set(available_recipes())


@pytest.mark.slow
def test_a_small_flow_of_pixels_learns_and_is_the_same_after_an_interruption(
    tmp_path: Path, crash_at: Any
) -> None:
    words = [
        f"data.path={made_images(tmp_path, (1, 16, 16), n=300)}",
        "data.labels.count=50",
        "data.views.strong=[{use: affine, pixels: 1}]",
        "flow={use: glow, scales: 2, steps: 1, hidden: 16, dequantisation: variational}",
        "train={epochs: 12, batch_size: 64, labelled_batch_size: 50, lr: 3e-3, precision: fp32, ema: 0.9}",
        "checkpoint.every_steps=10",
        "calibration.method=none",
        "ood.scores=[{use: entropy}]",
        "run.device=cpu",
    ]
    recipe = load_recipe("mnist", words)
    whole = create_run(recipe, argv=[], directory=tmp_path / "whole")
    result = train(recipe, whole)
    assert result.test is not None
    assert result.test.classification.accuracy > 0.8
    torn = create_run(recipe, argv=[], directory=tmp_path / "torn")
    crash_at(torn, 15)
    train(recipe, torn)
    first, other = (TrainedModel.load(run.path).model.state_dict() for run in (whole, torn))
    assert all(torch.equal(value, other[name]) for name, value in first.items())
    assert any("initialised" in name for name in first)  # actnorm, whose start from data is not repeated
