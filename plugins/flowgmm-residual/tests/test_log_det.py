from __future__ import annotations

import math

import pytest
import torch

from flowgmm_cli.api import RecipeError, RunFailedError
from flowgmm_residual.model import ResidualFlow, build
from flowgmm_residual.noise import mix, random_signs, row_keys, uniform
from flowgmm_residual.plugin import ResidualConfig


def make(d: int, **parameters: object) -> ResidualFlow:
    config = ResidualConfig(**{"blocks": 2, "hidden": 16, **parameters})  # type: ignore[arg-type]
    flow = build(config, shape=(d,), generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=noise)
    return flow


def rows(n: int, d: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("exact_terms", [1, 4])
def test_the_estimate_of_training_is_unbiased(exact_terms: int) -> None:
    flow = make(3, blocks=1, actnorm=False, exact_terms=exact_terms, lipschitz=0.7).double()
    block, x = flow.layers[0], rows(4, 3).double()
    with torch.no_grad():
        weights = block.network.weights()
        _, derivatives = block.network(x, weights)
        exact = block._exact_log_det(weights, derivatives)
        draws = []
        for index in range(4000):
            number = int(mix(torch.tensor(index)))
            draws.append(block._roulette((mix(row_keys(x) + index), number), weights, derivatives))
    seen = torch.stack(draws)
    error = seen.std(0) / math.sqrt(len(seen))
    assert float(((seen.mean(0) - exact) / error).abs().max()) < 4.5
    assert float(error.max()) < 0.05


def test_the_series_of_evaluation_is_near_the_exact_value() -> None:
    x = rows(50, 6)
    flow = make(6, eval_terms=100, eval_probes=400, log_det="estimate", lipschitz=0.9).eval()
    exact = make(6, log_det="exact", lipschitz=0.9).eval()
    exact.load_state_dict(flow.state_dict() | {k: v for k, v in exact.state_dict().items() if "probes" in k})
    with torch.no_grad():
        torch.testing.assert_close(flow(x)[1], exact(x)[1], rtol=0, atol=0.15)


def test_evaluation_is_deterministic_and_row_by_row() -> None:
    flow, x = make(70).eval(), rows(5, 70)  # more features than are treated exactly
    with torch.no_grad():
        first, again = flow(x)[1], flow(x)[1]
        alone = flow(x[3:4])[1]
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[3:4])


def test_noise_of_training_follows_rows_and_weights() -> None:
    flow, x = make(12).train(), rows(5, 12)
    before = torch.get_rng_state()
    with torch.no_grad():
        first, again, alone = flow(x)[1], flow(x)[1], flow(x[3:4])[1]
        assert torch.equal(torch.get_rng_state(), before)
        flow.layers[1].network.matrices[-1].mul_(1.0001)
        moved = flow(x)[1]
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[3:4])
    assert float((moved - first).abs().max()) > 1e-3


def test_gradients_of_the_estimate_reach_every_parameter() -> None:
    flow = make(12).train()
    z, log_det = flow(rows(5, 12))
    (z.square().sum() + log_det.sum()).backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_signs_are_balanced_and_uncorrelated() -> None:
    drawn = random_signs(row_keys(torch.arange(2000.0)[:, None]), 8)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert float(drawn.mean(0).abs().max()) < 0.1
    assert float((drawn.T @ drawn / 2000 - torch.eye(8)).abs().max()) < 0.1


def test_uniform_numbers_fill_the_interval() -> None:
    assert 0 < uniform(0) < 1e-15
    assert 1 - 1e-15 < uniform(-1) < 1
    drawn = torch.tensor([uniform(int(mix(torch.tensor(n)))) for n in range(2000)])
    assert 0 <= float(drawn.min()) < 0.01
    assert 0.99 < float(drawn.max()) < 1
    assert abs(float(drawn.mean()) - 0.5) < 0.03


def test_a_fresh_flow_is_the_identity() -> None:
    flow = build(ResidualConfig(hidden=8), shape=(5,), generator=torch.Generator().manual_seed(0))
    x = rows(4, 5)
    z, log_det = flow(x)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(4))


def test_actnorm_starts_as_a_standardisation() -> None:
    flow = build(ResidualConfig(hidden=8), shape=(3,), generator=torch.Generator().manual_seed(0))
    x = 5 * rows(200, 3) + 2
    flow.initialise(x)
    with torch.no_grad():
        z, _ = flow(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-4)


def test_an_inverse_that_does_not_settle_is_an_error() -> None:
    flow = make(3, max_iterations=2)
    with pytest.raises(RunFailedError, match="not undone after 2 steps"):
        flow.inverse(rows(4, 3))


def test_an_inverse_of_nan_is_an_error() -> None:
    with pytest.raises(RunFailedError, match="not a finite number"):
        make(3).inverse(torch.full((1, 3), float("nan")))


def test_a_wider_tolerance_is_kept_to() -> None:
    flow, x = make(3, tolerance=1e-3), rows(20, 3)
    with torch.no_grad():
        error = float((flow.inverse(flow(x)[0]) - x).abs().max())
    assert 1e-7 < error < 0.1


def test_rows_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(RecipeError, match="vectors"):
        build(ResidualConfig(), shape=(3, 8, 8), generator=torch.Generator())
