from __future__ import annotations

from collections.abc import Callable

import torch

from flowgmm_cli.runs import Run
from flowgmm_cli.seeds import seeded_layers
from flowgmm_cli.training.pipeline import TrainResult

TrainRun = Callable[..., tuple[Run, TrainResult]]
DROPOUT = ("flow.dropout=0.5", "calibration.method=none")


def dropped(seed: int) -> torch.Tensor:
    with seeded_layers(torch.Generator().manual_seed(seed)):
        return torch.nn.functional.dropout(torch.ones(100))


def test_dropout_depends_on_the_seed_alone() -> None:
    first = dropped(3)
    torch.rand(7)
    assert torch.equal(dropped(3), first)
    assert not torch.equal(dropped(4), first)


def test_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(1)
    expected = torch.rand(5)
    torch.manual_seed(1)
    dropped(3)
    assert torch.equal(torch.rand(5), expected)


def test_layers_do_not_repeat_the_numbers_of_the_generator_itself() -> None:
    generator = torch.Generator().manual_seed(3)
    with seeded_layers(generator):
        layers = torch.rand(5)
    assert not torch.equal(layers, torch.rand(5, generator=generator))


def test_a_run_with_dropout_can_be_repeated_bit_for_bit(
    train_run: TrainRun, same_outcome: Callable[[Run, Run], None]
) -> None:
    first, _ = train_run("one", *DROPOUT)
    torch.rand(11)  # somebody else uses torch's global generator
    other, _ = train_run("other", *DROPOUT)
    same_outcome(first, other)


def test_dropout_changes_training_and_not_the_result_of_a_trained_model(train_run: TrainRun) -> None:
    _, plain = train_run("plain", DROPOUT[1])
    _, result = train_run("dropout", *DROPOUT)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    model = result.trained.model
    assert torch.equal(model.posterior(x), model.posterior(x))
    assert not torch.allclose(model.posterior(x), plain.trained.model.posterior(x))
