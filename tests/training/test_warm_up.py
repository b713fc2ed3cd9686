from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training import model_init, trainer
from flowgmm_cli.training.model_init import set_latent_means, warm_up_steps
from flowgmm_cli.training.optim import create_ema_model
from flowgmm_cli.training.pipeline import train

LATENT = ("prior.means=latent", "train.epochs=20", "train.max_steps=20", "calibration.method=none")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_of(features: int, classes: int, n: int = 60) -> Tensors:
    """The first two rows of each class are labelled, and so is none of the others."""
    labels = torch.full((n,), -1)
    labels[: 2 * classes] = torch.arange(2 * classes) % classes
    x = torch.randn(n, features, generator=seeded(9))
    return Tensors(x, labels)


def optimiser_of(model: FlowMixture) -> torch.optim.AdamW:
    """An optimiser that has taken some steps."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        model.log_prob(torch.randn(20, model.mixture.features, generator=seeded())).mean().backward()
        optimiser.step()
    return optimiser


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [(2.0, 100, 20), (0.5, 100, 5), (0.001, 100, 1), (9.0, 100, 50), (2.0, 1, 0), (2.0, 2, 1), (None, 9, 0)],
)
def test_the_warm_up_ends_by_the_middle_of_training(epochs: float | None, steps: int, expected: int) -> None:
    assert warm_up_steps(epochs, per_epoch=10, steps=steps) == expected


def test_both_models_get_the_means_of_their_own_latents_in_the_teachers_shares(make_model: Any) -> None:
    model = make_model(2, 3)
    optimiser = optimiser_of(model)
    teacher = create_ema_model(make_model(2, 3, seed=1))
    rows = rows_of(2, 3)
    with torch.no_grad():
        shares = torch.softmax(teacher(rows.x).class_log_prob / 1.5, dim=1)
        shares[:6] = torch.nn.functional.one_hot(rows.labels[:6], 3).float()
        expected = [(shares.T @ item.embed(rows.x)) / shares.sum(0)[:, None] for item in (model, teacher)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    set_latent_means(model, teacher, optimiser, rows, temperature=1.5, seed=0)
    torch.testing.assert_close(model.mixture.means.detach(), expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(teacher.mixture.means, expected[1], rtol=1e-5, atol=1e-5)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"mixture.means"}
    assert model.training
    assert not teacher.training


def test_the_optimiser_forgets_the_momentum_of_the_means_and_nothing_else(make_model: Any) -> None:
    model = make_model(2, 3)
    optimiser = optimiser_of(model)
    before = {
        name: {key: value.clone() for key, value in optimiser.state[parameter].items()}
        for name, parameter in model.named_parameters()
    }
    assert before["mixture.means"]["exp_avg"].any()
    set_latent_means(model, create_ema_model(model), optimiser, rows_of(2, 3), temperature=1.0, seed=0)
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state[parameter].items():
            if (name, key) == ("mixture.means", "exp_avg"):
                assert not value.any()
            else:
                assert torch.equal(value, before[name][key])


@pytest.mark.parametrize("learn", [False, True])
def test_means_of_components_are_clusters_of_the_latents(learn: bool) -> None:
    """Two classes of two clusters each; both components of a class start at the same place, nearly."""
    centres = torch.tensor([[0.0, 0.0, 9.0], [0.0, 8.0, 9.0], [8.0, 0.0, 9.0], [8.0, 8.0, 9.0]])
    x = centres.repeat(50, 1) + 0.5 * torch.randn(200, 3, generator=seeded())
    y = torch.tensor([0, 0, 1, 1]).repeat(50)
    start = torch.tensor([[0.0, 4.0], [0.1, 4.0], [8.0, 4.0], [8.1, 4.0]])
    model = FlowMixture(Sequential(), GaussianMixture(start, components=2, features=3, learn_means=learn))
    labels = torch.where(torch.arange(200) < 8, y, -1)
    teacher, optimiser = create_ema_model(model), torch.optim.AdamW(model.parameters())
    set_latent_means(model, teacher, optimiser, Tensors(x, labels), temperature=1.0, seed=0)
    for k in range(2):
        own = model.mixture.means.detach()[2 * k : 2 * k + 2]
        expected = centres[2 * k : 2 * k + 2, :2]
        torch.testing.assert_close(own[own[:, 1].argsort()], expected, atol=0.3, rtol=0)
    assert torch.equal(model.mixture.means.detach(), teacher.mixture.means)
    torch.testing.assert_close(
        model.mixture.log_component_weights.exp().detach(), torch.full((2, 2), 0.5), atol=0.05, rtol=0
    )


def test_of_very_many_rows_some_and_every_label_are_used(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_init, "_MAX_OTHER_ROWS", 10)
    seen: list[int] = []
    model = make_model(2, 3)

    def watch(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: Latents) -> None:
        seen.append(len(inputs[0]))

    model.register_forward_hook(watch)
    set_latent_means(
        model, create_ema_model(model), optimiser_of(model), rows_of(2, 3), temperature=1.0, seed=0
    )
    assert seen[-1] == 6 + 9


@pytest.mark.parametrize(
    ("step", "words"),
    [  # the means are set anew at step 6
        (5, ("prior.components=2",)),
        (6, ("prior.dims=1", "objective.use=joint")),
        (7, ("prior.components=2", "prior.learn_means=false")),
    ],
)
def test_a_crash_before_at_or_after_the_reset_changes_no_bit(
    shared_run: Any, new_run: Any, same_outcome: Any, crash_at: Any, step: int, words: tuple[str, ...]
) -> None:
    words = (*LATENT, "train.max_steps=14", "checkpoint.every_steps=3", *words)

    whole, _ = shared_run(*words)
    broken = new_run("broken", *words)
    crash_at(broken, step)
    train(broken.recipe(), broken)
    same_outcome(whole, broken)


def test_the_means_are_set_anew_once_and_only_for_this_start(
    train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    real = trainer.set_latent_means

    def watch(model: FlowMixture, teacher: FlowMixture, optimiser: Any, *args: Any, **more: Any) -> None:
        steps.append(int(optimiser.state[model.mixture.means]["step"]))
        real(model, teacher, optimiser, *args, **more)

    monkeypatch.setattr(trainer, "set_latent_means", watch)
    train_run("default", *LATENT)
    train_run("given", *LATENT, "prior.warm_up_epochs=0.5")
    train_run("other", *LATENT, "prior.means=labelled")
    assert steps == [6, 2]
