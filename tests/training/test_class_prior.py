from __future__ import annotations

import pytest
import torch

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.evaluation.temperature import fit_calibration
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import Ensemble, FlowMixture
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.model_init import estimate_class_prior, refine_class_prior
from flowgmm_cli.training.optim import create_ema_model


def two_blobs(shares: tuple[int, int]) -> tuple[FlowMixture, torch.Tensor]:
    """Rows sorted by class, of which the first `shares[0]` are about (-3, 0), the rest about (3, 0)."""
    model = FlowMixture(Sequential(), GaussianMixture(torch.tensor([[-3.0, 0.0], [3.0, 0.0]])))
    classes = torch.tensor([0] * shares[0] + [1] * shares[1])
    x, _ = model.sample(len(classes), torch.Generator().manual_seed(0), classes)
    return model, x


def test_both_models_get_the_shares_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = two_blobs((900, 100))
    teacher = create_ema_model(model)
    estimate_class_prior(model, teacher, x, torch.arange(len(x)), temperature=1.0)
    for item in (model, teacher):
        assert item.mixture.log_weights.exp().tolist() == pytest.approx([0.9, 0.1], abs=0.02)
    # of many rows that are sorted by class some of each are used
    monkeypatch.setattr("flowgmm_cli.training.model_init._PRIOR_ROWS", 150)
    model, x = two_blobs((600, 400))
    estimate_class_prior(model, create_ema_model(model), x, torch.arange(len(x)), temperature=1.0)
    assert model.mixture.log_weights.exp().tolist() == pytest.approx([0.6, 0.4], abs=0.05)


def test_without_rows_the_weights_stay() -> None:
    model, x = two_blobs((2, 1))
    estimate_class_prior(model, create_ema_model(model), x, torch.arange(0), temperature=1.0)
    refine_class_prior(model, x[:0])
    assert model.class_prior().tolist() == pytest.approx([0.5, 0.5])


def test_calibrated_posteriors_give_the_shares_that_too_sure_ones_miss() -> None:
    near = GaussianMixture(torch.tensor([[-0.7, 0.0], [0.7, 0.0]]))
    truth = FlowMixture(Sequential(), near)
    classes = torch.tensor([0] * 1600 + [1] * 400)
    x, _ = truth.sample(len(classes), torch.Generator().manual_seed(0), classes)
    # Standard deviations of a half make it four times as sure as it should be.
    members = [FlowMixture(Sequential(), GaussianMixture(near.means.detach(), scale=0.5)) for _ in range(2)]
    model = Ensemble(members)
    refine_class_prior(model, x)
    too_even = float(model.class_prior()[0])
    model.temperature.fill_(4.0)
    refine_class_prior(model, x)
    assert float(model.class_prior()[0]) == pytest.approx(0.8, abs=0.03)
    assert too_even < 0.76
    for part in model.parts:
        assert torch.equal(part.mixture.log_weights, members[0].mixture.log_weights)


def test_rows_taken_for_the_wrong_class_are_made_up_for() -> None:
    """Half of the first class lies where the second is: without its labels nobody could tell."""
    truth = FlowMixture(Sequential(), GaussianMixture(torch.tensor([[-0.7, 0.0], [0.7, 0.0]])))
    off = FlowMixture(Sequential(), GaussianMixture(torch.tensor([[-1.3, 0.0], [0.1, 0.0]])))
    generator = torch.Generator().manual_seed(0)
    rows, _ = truth.sample(2000, generator, torch.tensor([0] * 1400 + [1] * 600))
    drawn = torch.arange(2000) % 4 // 3  # three times as many labels of the first class
    labelled, _ = truth.sample(2000, generator, drawn)
    plain = FlowMixture(Sequential(), off.mixture)
    refine_class_prior(plain, rows)
    uncorrected = float(plain.class_prior()[0])

    labels = drawn.numpy()
    log_joint = encode(off, labelled).class_log_prob.double().numpy()
    config = CalibrationConfig(noise=False)
    result = fit_calibration(config, log_joint, labels, "cross_fit", 1.0)
    off.temperature.fill_(result.temperature)
    refine_class_prior(off, rows, result.likelihoods)
    assert float(off.class_prior()[0]) == pytest.approx(0.7, abs=0.03)
    assert abs(uncorrected - 0.7) > 0.1
