"""`entropy` and `max_posterior`: doubt between classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from score_rows import Identity, component, fit_score, inputs_from_logits, make_inputs

from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.unknown_head import UnknownHead
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.scores import base

ROWS = [[0.0, 0.0, 0.0], [2.0, 0.0, -1.0], [-900.0, -905.0, -910.0], [5.0, math.log(3.0), -math.inf]]


def test_entropy_is_that_of_the_softmax() -> None:
    rows = inputs_from_logits(ROWS)
    p = torch.softmax(torch.tensor(ROWS, dtype=torch.float64), dim=1)
    expected = torch.distributions.Categorical(p).entropy()
    np.testing.assert_allclose(fit_score("entropy", rows)(rows), expected, rtol=1e-12)


def test_max_posterior_is_the_log_odds_against_the_best_class() -> None:
    rows = inputs_from_logits(ROWS)
    p = torch.softmax(torch.tensor(ROWS, dtype=torch.float64), dim=1).amax(1).numpy()
    np.testing.assert_allclose(fit_score("max_posterior", rows)(rows), np.log((1 - p) / p), rtol=1e-9)


@pytest.mark.parametrize("name", ["entropy", "max_posterior"])
def test_rows_are_scored_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = inputs_from_logits(ROWS)
    expected = fit_score(name, rows)(rows)
    monkeypatch.setattr(base, "_BATCH_ROWS", 2)
    assert fit_score(name, rows)(rows).tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["entropy", "max_posterior"])
def test_saturated_posteriors_keep_their_order(name: str) -> None:
    rows = inputs_from_logits([[0.0, -gap] for gap in (600.0, 300.0, 80.0, 40.0, 39.0, 1.0, 0.5)])
    assert (np.diff(fit_score(name, rows)(rows)) > 0).all()
    assert (rows.log_posterior.exp().amax(1)[:4] == 1).all()  # where plain probabilities say nothing


@pytest.mark.parametrize("name", ["entropy", "max_posterior"])
def test_the_temperature_of_the_model_is_used(name: str) -> None:
    model = FlowMixture(Identity(), GaussianMixture(torch.tensor([[-1.0], [1.0]])))
    model.temperature.fill_(4.0)
    rows = make_inputs(model, torch.tensor([[0.3], [2.0]]))
    p = rows.log_posterior.exp().numpy()
    expected = {"entropy": -(p * np.log(p)).sum(1), "max_posterior": np.log(1 / p.max(1) - 1)}[name]
    np.testing.assert_allclose(fit_score(name, rows, model=model)(rows), expected, rtol=1e-6)


def test_noise_in_the_labels_does_not_hide_what_tells_sure_rows_apart() -> None:
    model = FlowMixture(Identity(), GaussianMixture(torch.tensor([[-3.0], [3.0]])))
    model.noise.fill_(0.2)
    rows = make_inputs(model, torch.tensor([[10.0], [9.0], [8.0]]))
    assert (np.diff(fit_score("max_posterior", rows, model=model)(rows)) > 1).all()


def test_a_single_class_leaves_no_doubt() -> None:
    rows = inputs_from_logits([[3.0], [-50.0]])
    assert fit_score("entropy", rows)(rows).tolist() == [0, 0]
    assert fit_score("max_posterior", rows)(rows).tolist() == [0, 0]


def test_rows_whose_densities_are_no_numbers_are_in_full_doubt() -> None:
    rows = inputs_from_logits([[math.nan, 0.0], [-math.inf, -math.inf]])
    np.testing.assert_allclose(fit_score("entropy", rows)(rows), math.log(2))
    np.testing.assert_allclose(fit_score("max_posterior", rows)(rows), 0, atol=1e-15)


def test_entropy_of_a_nearly_certain_row_has_full_precision() -> None:
    gap = 500.0
    expected = math.exp(-gap) * (1 + gap)  # to first order in exp(-gap)
    rows = inputs_from_logits([[0.0, -gap]])
    np.testing.assert_allclose(fit_score("entropy", rows)(rows), expected, rtol=1e-12)


def model_with_head(kind: float) -> FlowMixture:
    """Classes at -3 and 3 of a line, and a head for a kind at another point."""
    head = UnknownHead(1, classes=2)
    head.centres, head.weight = torch.tensor([[-3.0], [3.0], [kind]]), 5 * torch.eye(3)
    return FlowMixture(Identity(), GaussianMixture(torch.tensor([[-3.0], [3.0]])), head)


def test_unknown_is_the_log_odds_of_the_head() -> None:
    model = model_with_head(1.0)
    model.temperature.fill_(2.0)
    rows = make_inputs(model, torch.tensor([[-2.0], [1.0], [4.0], [1e6]]))
    kernels = torch.exp(-((rows.x - torch.tensor([-3.0, 3.0, 1.0])) ** 2))
    odds = torch.softmax(5 * kernels, dim=1)
    expected = torch.log(odds[:, 2] / odds[:, :2].sum(1)).numpy()
    np.testing.assert_allclose(fit_score("unknown", rows, model=model)(rows), expected, rtol=1e-4)
    np.testing.assert_allclose(rows.latents.p_unknown(), odds[:, 2], atol=1e-6)


def test_unknown_is_zero_for_a_model_without_unknown_kinds() -> None:
    rows = inputs_from_logits([[0.0, 3.0], [1.0, 1.0]])
    assert fit_score("unknown", rows)(rows).tolist() == [0, 0]


def test_combined_counts_unknown_as_much_as_all_others() -> None:
    model = model_with_head(9.0)
    x = torch.cat([torch.linspace(-6, 6, 60), torch.tensor([9.0])])[:, None]
    rows = make_inputs(model, x)
    score = fit_score("combined", rows, model=model)
    assert score(rows).argmax() == 60
    values = score(rows)
    score.fit(rows, rows, model, np.random.default_rng(0))
    np.testing.assert_array_equal(score(rows), values)
    again = build(component("combined"))
    again.load_state(*score.state())
    np.testing.assert_array_equal(again(rows), score(rows))
