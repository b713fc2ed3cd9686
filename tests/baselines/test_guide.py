"""The guide: it follows the labels that it sees, and the better methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowgmm_cli.baselines import guide as module
from flowgmm_cli.baselines.guide import Guide, stack_weights, uses_guide
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.evaluation.folds import Labels, split_labelled
from flowgmm_cli.recipe.load import load_recipe

NOTES: list[str] = []


@pytest.fixture(autouse=True)
def few_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "METHODS", ("knn", "label_spreading", "lda"))
    NOTES.clear()


def fit(*, noise: bool = False) -> tuple[Guide, Labels, Labels]:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 3
    x = rng.normal(size=(120, 2)) + 4 * np.eye(3)[truth][:, :2]
    labels = np.where(np.arange(120) < 48, rng.permutation(truth) if noise else truth, -1)
    rows = Tensors(torch.from_numpy(x).float(), torch.from_numpy(labels))
    return Guide(rows, classes=3, seed=0, note=NOTES.append), labels, truth


def test_the_guide_predicts_all_rows_from_the_labels() -> None:
    guide, labels, truth = fit()
    p = guide.targets(labels)
    assert p is not None
    assert p.sum(1).allclose(torch.ones(120))
    assert (p.argmax(1).numpy() == truth)[labels < 0].mean() > 0.9
    assert guide.targets(labels.copy()) is p  # fitted once
    assert len(NOTES) == 1
    assert NOTES[0].startswith("guide   ")
    assert "kNN" in NOTES[0]


def test_validation_rows_have_targets_too() -> None:
    guide, labels, _ = fit()
    held_out = Tensors(guide.rows.x[60:], torch.full((60,), -1))
    guide = Guide(guide.rows, held_out, classes=3, seed=0, note=NOTES.append)
    train, val = guide.attach(labels)
    assert train.guide is not None
    assert val is not None
    assert val.guide is not None
    assert train.guide.shape == (120, 3)
    assert torch.equal(val.guide, train.guide[60:])


def test_the_guide_of_a_fold_does_not_know_the_labels_of_the_fold() -> None:
    guide, labels, _ = fit(noise=True)
    right = []
    for fold in split_labelled(labels, 4, seed=0):
        p = guide.targets(fold.visible)
        assert p is not None
        right.append((p.argmax(1).numpy() == labels)[fold.held_out].mean())
    assert np.mean(right) < 0.55  # a third by chance


def test_rows_of_one_class_have_no_guide() -> None:
    guide, labels, _ = fit()
    assert guide.targets(np.where(labels == 0, 0, -1)) is None


def test_methods_weigh_as_much_as_their_likelihood_says() -> None:
    good, poor = np.full(100, 0.9), np.full(100, 0.4)
    assert stack_weights(np.array([good, poor]))[0] > 0.9
    assert stack_weights(np.empty((4, 0))).tolist() == [0.25] * 4


def test_a_recipe_uses_the_guide_if_a_term_does() -> None:
    words = ["data.path=x.csv", "data.label=y"]
    assert not uses_guide(load_recipe("csv", words))
    assert uses_guide(load_recipe("csv", [*words, "regularisers=[{use: guide}]"]))
