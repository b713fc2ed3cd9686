"""Stand-ins for rows from elsewhere: what each kind changes, and that a flow of pixels is told by images."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_images
from flowgmm_cli.training.prepare import prepare

TrainRun = Callable[..., Any]


def made(train: torch.Tensor, held_out: torch.Tensor, seed: int = 0) -> dict[str, torch.Tensor]:
    see: Any = lambda images: SimpleNamespace(images=images)  # noqa: E731
    found = pseudo_ood_images(train, held_out, see, np.random.default_rng(seed))
    return {kind: seen.images for kind, seen in found.items()}


@pytest.mark.parametrize("shape", [(12, 9), (9, 12, 3)])
def test_each_kind_keeps_form_and_grey_levels(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(0, 256, (40, *shape), generator=generator, dtype=torch.uint8)
    held_out = torch.randint(0, 256, (20, *shape), generator=generator, dtype=torch.uint8)
    found = made(train, held_out)
    assert tuple(found) == ("corrupted", "patched", "smoothed")
    for kind, images in found.items():
        assert images.dtype == torch.uint8, kind
        assert images.shape == (40, *shape), kind
    again = made(train, held_out)
    assert all(torch.equal(images, again[kind]) for kind, images in found.items())


def test_half_of_an_image_comes_from_another_one() -> None:
    train, held_out = torch.full((30, 8, 8), 200.0), torch.zeros(30, 8, 8)
    found = made(train, held_out)
    corrupted, patched = found["corrupted"], found["patched"]
    assert set(corrupted.unique().tolist()) == {0.0, 200.0}
    assert corrupted.mean() == pytest.approx(100, abs=5)
    assert (patched[:, :4, :4] == 200).all()
    assert (patched[:, 4:, 4:] == 200).all()
    assert (patched[:, :4, 4:] == 0).all()
    assert (patched[:, 4:, :4] == 0).all()


def test_smoothed_images_keep_their_mean_and_lose_detail() -> None:
    board = torch.zeros(64, 64)
    board[::2, ::2] = board[1::2, 1::2] = 240.0
    images = board.expand(5, 64, 64)
    smoothed = made(images, images)["smoothed"]
    inner = smoothed[:, 8:-8, 8:-8]  # a Gaussian of 2 pixels leaves nothing of a chequered board
    assert torch.allclose(inner, torch.full_like(inner, 120.0), atol=0.1)
    grey = made(images.to(torch.uint8), images.to(torch.uint8))["smoothed"]
    assert set(grey[:, 8:-8, 8:-8].unique().tolist()) == {120}


def test_images_seen_again_are_the_rows(image_run: Any) -> None:
    """Pixels on their way back to the flow's input take no other way than rows do."""
    trained, data = image_run
    split = data.preprocessor.apply(data.rows.train, DataContext(), with_inputs=True)
    rows = trained.encode_rows(split)
    assert rows.images is not None
    again = trained.encode_images(rows.images)
    assert torch.equal(again.x, rows.x)
    assert torch.equal(again.log_density, rows.log_density)
    assert again.images is None


@pytest.fixture
def image_run(train_run: TrainRun, tmp_path: Any) -> Any:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    x = (rng.integers(0, 100, (60, 8, 8, 3)) + 70 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x=x, y=labels)
    run, found = train_run(
        "images",
        "data.use=images",
        f"data.path={tmp_path / 'images.npz'}",
        "data.labels.count=12",
        "data.transforms=[{use: dequantise}]",
        "data.views={}",
        "flow={use: glow, scales: 1, steps: 1, hidden: 4}",
        "train.epochs=1",
        "train.batch_size=16",
    )
    return found.trained, prepare(run.recipe(), DataContext())


def test_a_flow_of_pixels_is_told_by_images(image_run: Any) -> None:
    trained, _ = image_run
    kinds = {kind for values in trained.facts["ood"]["choice"].values() for kind in values}
    assert {"corrupted", "patched", "smoothed"} <= kinds
    assert "magnified" not in kinds
