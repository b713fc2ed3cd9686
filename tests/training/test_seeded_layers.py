from __future__ import annotations

from typing import Any

import torch

from flowgmm_cli.seeds import seeded_layers

SHORT = "calibration.method=none"


def dropped(seed: int) -> torch.Tensor:
    with seeded_layers(torch.Generator().manual_seed(seed)):
        return torch.nn.functional.dropout(torch.ones(100))


def test_dropout_depends_on_the_seed_alone_and_leaves_the_global_generator() -> None:
    first = dropped(3)
    torch.rand(7)
    state = torch.get_rng_state()
    assert torch.equal(dropped(3), first)
    assert not torch.equal(dropped(4), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_do_not_repeat_the_numbers_of_the_generator_itself() -> None:
    generator = torch.Generator().manual_seed(3)
    with seeded_layers(generator):
        layers = torch.rand(5)
    assert not torch.equal(layers, torch.rand(5, generator=generator))


def test_dropout_changes_training_and_not_the_result_of_a_trained_model(
    shared_run: Any, train_run: Any, same_outcome: Any
) -> None:
    run, result = shared_run("flow.dropout=0.5", SHORT)
    torch.rand(11)  # another user of torch's global generator
    same_outcome(run, train_run("again", "flow.dropout=0.5", SHORT)[0])
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    model, plain = result.trained.model, shared_run(SHORT)[1].trained.model
    assert torch.equal(model.posterior(x), model.posterior(x))
    assert not torch.allclose(model.posterior(x), plain.posterior(x))
