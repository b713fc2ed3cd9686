from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.coupling import CouplingStack
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.training.model_init import initialise_model

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 3 + 5
LABELS = torch.tensor([0, 0, 1, 1, 1] + [-1] * 35)


def test_a_flow_that_starts_as_the_identity_has_means_among_the_rows(moons: Any) -> None:
    model = initialise_model(moons(), X, LABELS, classes=2, seed=0)
    z, log_det = model.flow(X)
    assert torch.equal(z, X)
    assert torch.equal(log_det, torch.zeros(40))
    torch.testing.assert_close(model.mixture.means[0], X[:2].mean(0))
    torch.testing.assert_close(model.mixture.means[1], X[2:5].mean(0))


def test_actnorm_starts_from_the_rows_and_the_means_from_its_latents(moons: Any) -> None:
    model = initialise_model(moons("flow.actnorm=true"), X, LABELS, classes=2, seed=0)
    with torch.no_grad():
        z = model.embed(X)
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(2))
    torch.testing.assert_close(model.mixture.means[0], z[:2].mean(0))


def test_a_flow_that_starts_as_the_identity_is_asked_about_some_rows_only(
    moons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.cat([X, torch.randn(12_000, 2, generator=torch.Generator().manual_seed(1))])
    labels = torch.cat([LABELS, torch.full((12_000,), -1)])
    seen: list[int] = []
    real = CouplingStack.forward

    def forward(self: CouplingStack, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(rows))
        return real(self, rows)

    monkeypatch.setattr(CouplingStack, "forward", forward)
    words = ("prior.means=logistic_regression", "flow.couplings=4")
    quick = initialise_model(moons(*words), x, labels, classes=2, seed=0)
    assert sum(seen) < 4096 + 500  # actnorm may look at the first rows
    monkeypatch.setattr("flowgmm_cli.training.model_init._PROBE_ROWS", len(x))
    whole = initialise_model(moons(*words), x, labels, classes=2, seed=0)
    assert sum(seen) > 12_000
    assert torch.equal(quick.mixture.means, whole.mixture.means)


@pytest.mark.parametrize("words", [["prior.means=random"], ["flow.dropout=0.5"]])
def test_the_seed_decides_weights_and_random_means_and_nothing_else_does(
    moons: Any, words: list[str]
) -> None:
    recipe = moons(*words)

    def state(seed: int) -> dict[str, torch.Tensor]:
        return initialise_model(recipe, X, LABELS, classes=2, seed=seed).state_dict()

    before = torch.get_rng_state()
    first, again, other = state(0), state(0), state(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = {name for name in first if not torch.equal(first[name], other[name])}
    assert ("mixture.means" in changed) == ("prior.means=random" in words)
    assert any(name.startswith("flow.") for name in changed)


def test_class_weights_start_as_the_prior_says(moons: Any) -> None:
    recipe = moons("prior.class_prior=given", "prior.weights=[3.0, 1.0]")
    model = initialise_model(recipe, X, LABELS, classes=2, seed=0)
    assert model.mixture.log_weights.exp().tolist() == pytest.approx([0.75, 0.25])


@pytest.mark.parametrize(
    ("words", "features", "dims", "temperature"),
    [
        (["objective.temperature=3.5"], 64, None, 3.5),
        ([], 64, None, 2.0),
        (["objective.use=joint"], 64, None, 1.0),
        ([], 400, 64, 2.0),
        ([], 400, 1, 1.0),
    ],
)
def test_the_training_temperature_is_that_of_the_objective(
    moons: Any, words: list[str], features: int, dims: int | None, temperature: float
) -> None:
    objective = build(moons(*words).objective, features=features, labelled=1, unlabelled=1, dims=dims)
    assert objective.temperature == temperature


def test_a_mixture_on_some_dimensions_starts_there(moons: Any) -> None:
    recipe = moons("prior.dims=1", "prior.components=2")
    model = initialise_model(recipe, X, LABELS, classes=2, seed=0)
    assert model.mixture.means.shape == (4, 1)
    assert model.mixture.features == 2
    assert model.mixture.means[:2].sort(dim=0).values.tolist() == X[:2, :1].sort(dim=0).values.tolist()
    with pytest.raises(RecipeError, match=r"prior\.dims is 3, but rows have only 2 features"):
        initialise_model(moons("prior.dims=3"), X, LABELS, classes=2, seed=0)
