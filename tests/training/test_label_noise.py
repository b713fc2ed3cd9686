"""`objective.label_noise: auto`: the share of wrong labels before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.training.label_noise import estimate_label_noise


def rows(share: float, *, spread: float, seed: int, count: int = 240) -> Tensors:
    """Rows of three blobs, of which a share has a wrong label, and as many without a label."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.arange(count) % 3)
    x = 4 * np.eye(6)[truth] + spread * rng.normal(size=(count, 6))
    wrong = rng.permutation(count) < share * count
    labels = np.where(wrong, (truth + rng.integers(1, 3, count)) % 3, truth)
    x, labels = np.concatenate([x, x]), np.concatenate([labels, np.full(count, -1)])
    return Tensors(torch.from_numpy(x).float(), torch.from_numpy(labels))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3])
def test_planted_errors_are_counted(share: float) -> None:
    estimates = [
        estimate_label_noise(rows(share, spread=1.0, seed=seed), classes=3, seed=0) for seed in range(3)
    ]
    assert np.mean(estimates) == pytest.approx(share, abs=0.06)


def test_too_few_labels_give_no_share() -> None:
    few = rows(0.2, spread=1.0, seed=0)
    labels = torch.full_like(few.labels, -1)
    labels[:1] = 0
    assert estimate_label_noise(Tensors(few.x, labels), classes=3, seed=0) == 0
    labels[:3] = torch.arange(3)
    assert estimate_label_noise(Tensors(few.x, labels), classes=3, seed=0) == 0


def test_a_training_notes_and_uses_the_estimate(train_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.training import label_noise
    from flowgmm_cli.training.callbacks import Callbacks

    monkeypatch.setattr(label_noise, "estimate_label_noise", lambda *args, **options: 0.125)
    notes: list[str] = []
    run, result = train_run(
        "auto", "objective.label_noise=auto", "train.epochs=1", callbacks=Callbacks(note=notes.append)
    )
    assert [note for note in notes if "12%" in note and "label_noise" in note]
    _, fixed = train_run("fixed", "objective.label_noise=0.125", "train.epochs=1")
    pairs = zip(result.model.parameters(), fixed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert result.calibration == fixed.calibration
    assert run.recipe().to_dict()["objective"]["label_noise"] == "auto"
