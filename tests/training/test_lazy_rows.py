"""Training on images that stay on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.tensors import StoredRows, Tensors, load_tensor
from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.callbacks import Interrupt
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.prepare import prepare

RECIPE = """\
version: 1
data:
  use: images
  path: {path}
  labels: {{count: 12}}
  split: {{test: 0.2, val: 0.1}}
  transforms: {transforms}
  views: {{weak: [], strong: [{{use: affine, pixels: 1}}]}}
flow: {flow}
prior: {{use: gmm, means: logistic_regression}}
train: {{epochs: 3, batch_size: 20, labelled_batch_size: 6, lr: 1e-3, precision: fp32}}
calibration: {{folds: 2}}
run: {{device: cpu}}
"""
VECTORS = ("[{use: pca, dim: 6}]", "{use: realnvp, couplings: 2, hidden: 8}")
PIXELS = ("[{use: dequantise}]", "{use: glow, scales: 1, steps: 1, hidden: 4}")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Bright and dark pictures of 4 x 6 pixels, in two folders."""
    rng = np.random.default_rng(0)
    for name, base in (("dark", 40), ("light", 180)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(60):
            pixels = rng.integers(base - 40, base + 40, (4, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def recipe(path: Path, transforms: str, flow: str, *words: str) -> Recipe:
    file = path.parent / "recipe.yaml"
    file.write_text(RECIPE.format(path=path, transforms=transforms, flow=flow), encoding="utf-8")
    return load_recipe(str(file), words)


@pytest.mark.parametrize(
    ("transforms", "flow"),
    [pytest.param(*VECTORS, id="vectors"), pytest.param(*PIXELS, id="pixels", marks=pytest.mark.slow)],
)
def test_a_run_on_images_larger_than_memory_resumes_exactly_and_is_as_good(
    pictures: Path,
    tmp_path: Path,
    transforms: str,
    flow: str,
    monkeypatch: pytest.MonkeyPatch,
    same_outcome: Callable[[Run, Run], None],
    interrupt_after: Callable[[int], Interrupt],
) -> None:
    monkeypatch.setenv("FLOWGMM_CACHE_DIR", str(tmp_path / "cache"))
    made = recipe(pictures, transforms, flow, "data.memory=0", "train.epochs=6")
    assert isinstance(prepare(made, DataContext()).train.x, StoredRows)
    straight, halting = (create_run(made, argv=[], directory=tmp_path / name) for name in ("one", "two"))
    result = train(made, straight)
    with pytest.raises(InterruptedRunError):
        train(made, halting, interrupt=interrupt_after(9))
    train(made, halting)
    same_outcome(straight, halting)
    assert result.test is not None
    assert result.test.classification.accuracy > 0.9


def test_a_run_on_pixels_tells_bits_per_dim(pictures: Path, tmp_path: Path) -> None:
    made = recipe(pictures, *PIXELS, "calibration.method=none", "train.epochs=2")
    run = create_run(made, argv=[], directory=tmp_path / "run")
    result = train(made, run)
    assert result.test is not None
    bits = result.test.bits_per_dim
    assert bits == pytest.approx(result.test.density_nll / (24 * np.log(2)))
    # 8 bits for uniform pixels; those of a class lie within 80 of 256 values
    assert 5 < bits < 9
    stored = json.loads((run.path / "eval" / "test.json").read_text(encoding="utf-8"))
    assert stored["metrics"]["bits_per_dim"] == bits
    lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    assert all(5 < line["monitor.bits_per_dim"] < 9 for line in lines if line["split"] == "val")


def test_only_rows_of_the_step_are_read(pictures: Path, tmp_path: Path) -> None:
    data = prepare(recipe(pictures, *PIXELS, "data.memory=0"), DataContext(cache_dir=str(tmp_path / "cache")))
    x, requests = data.train.x, []
    assert isinstance(x, StoredRows)

    def make(positions: Any) -> torch.Tensor:
        requests.append(len(positions))
        return torch.zeros(len(positions), 24)

    lazy: Any = StoredRows(make, np.arange(50), 24)
    forms = Tensors(lazy, inputs=lazy)
    some = forms[torch.tensor([3, 1, 7])]
    assert requests == [3]  # the inputs; `x` waits until somebody wants it
    assert load_tensor(some.x).shape == (3, 24)
    assert requests == [3, 3]


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 9, 3),
        torch.tensor([5, 0, 5]),
        torch.arange(10) % 3 == 0,
        slice(0),
        torch.tensor([], dtype=int),
    ],
)
def test_lazy_rows_are_indexed_like_a_tensor(index: Any) -> None:
    rows = torch.arange(30.0).reshape(10, 3)
    lazy = StoredRows(lambda positions: rows[torch.from_numpy(positions)], np.arange(10), 3)
    assert torch.equal(lazy[index], rows[index])
    assert torch.equal(load_tensor(lazy.subset(index)), rows[index])
    assert lazy.subset(index).shape == rows[index].shape
    assert torch.equal(load_tensor(lazy.to(torch.device("cpu"))), rows)
