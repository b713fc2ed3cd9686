from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import Independent, Normal

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.data.row_tensors import RowTensors
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.objectives.joint import Joint
from flowgmm_cli.objectives.specs import JointConfig
from flowgmm_cli.training.dataset import StepInput
from flowgmm_cli.training.step import TrainingStep


def batch(labelled: Latents, labels: list[int], weak: Latents) -> Batch:
    none = torch.empty(0, 2)
    return Batch(
        labelled=none,
        labels=torch.tensor(labels, dtype=torch.int64),
        weak=none,
        strong=none,
        student={"labelled": labelled, "weak": weak},
        temperature=1.0,
        step=0,
        epoch=0.0,
        generator=torch.Generator(),
    )


NONE = Latents(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, 2))
LABELLED = Latents(torch.zeros(2, 2), torch.tensor([0.5, -1.5]), torch.tensor([[-1.0, -3.0], [-2.0, -4.0]]))
WEAK = Latents(torch.zeros(1, 2), torch.tensor([0.25]), torch.tensor([[-1.0, -1.0]]))


def test_terms_are_those_worked_out_by_hand() -> None:
    joint = Joint(JointConfig(), features=2, labelled=10, unlabelled=30)
    terms = joint(None, None, batch(LABELLED, [1, 0], WEAK))
    assert float(terms["labelled"]) == pytest.approx(-(10 / 40) / 2 * ((-3 + 0.5) + (-2 - 1.5)) / 2)
    assert float(terms["unlabelled"]) == pytest.approx(-(30 / 40) / 2 * (-1 + math.log(2) + 0.25))
    assert set(terms) == {"labelled", "unlabelled"}


def test_given_weights_replace_the_shares() -> None:
    config = JointConfig(labelled=0.0, unlabelled=4.0)
    terms = Joint(config, features=2, labelled=10, unlabelled=30)(None, None, batch(LABELLED, [1, 0], WEAK))
    assert float(terms["labelled"]) == 0
    assert float(terms["unlabelled"]) == pytest.approx(-4 / 2 * (-1 + math.log(2) + 0.25))


def test_the_loss_of_the_paper_s_program_for_tables_and_text() -> None:
    """-mean log p(x | y) - a mean log p(x), nothing divided by D; digest of the program's class SemiFlow."""
    config = JointConfig(labelled=1.0, unlabelled=0.6, pool="all", class_weights=False, per_dimension=False)
    joint = Joint(config, features=2, labelled=10, unlabelled=30)
    mixture = GaussianMixture(torch.zeros(2, 2), weights=torch.tensor([0.25, 0.75]))
    model = FlowMixture(torch.nn.Identity(), mixture)
    terms = joint(model, None, batch(LABELLED, [1, 0], WEAK))
    first, second = -3 - math.log(0.75) + 0.5, -2 - math.log(0.25) - 1.5
    assert float(terms["labelled"]) == pytest.approx(-(first + second) / 2)
    assert float(terms["unlabelled"]) == pytest.approx(-0.6 * (-1 + math.log(2) + 0.25))
    assert joint.pool == "all"


def test_the_loss_of_the_paper_s_program_for_synthetic_sets_has_equal_weights() -> None:
    config = JointConfig(labelled=0.5, unlabelled=0.5, per_dimension=False)
    two = Latents(torch.zeros(2, 2), torch.tensor([0.25, 1.0]), torch.tensor([[-1.0, -1.0], [-2.0, -2.0]]))
    terms = Joint(config, features=2, labelled=2, unlabelled=9)(None, None, batch(LABELLED, [1, 0], two))
    rows = [-3 + 0.5, -2 - 1.5, -1 + math.log(2) + 0.25, -2 + math.log(2) + 1.0]
    assert float(sum(terms.values())) == pytest.approx(-sum(rows) / 4)


def test_in_a_pool_of_all_rows_labelled_rows_count_twice() -> None:
    joint = Joint(JointConfig(pool="all"), features=2, labelled=10, unlabelled=30)
    assert (joint.labelled, joint.unlabelled) == (10 / 50, 40 / 50)


@pytest.mark.parametrize(
    ("labelled", "labels", "weak", "zero"),
    [(NONE, [], WEAK, "labelled"), (LABELLED, [0, 1], NONE, "unlabelled")],
)
def test_a_term_without_rows_is_zero(labelled: Latents, labels: list[int], weak: Latents, zero: str) -> None:
    joint = Joint(JointConfig(), features=2, labelled=1, unlabelled=1)
    terms = joint(None, None, batch(labelled, labels, weak))
    assert float(terms.pop(zero)) == 0
    assert all(float(term) != 0 and term.isfinite() for term in terms.values())


def test_no_rows_at_all_divide_by_nothing() -> None:
    joint = Joint(JointConfig(), features=2, labelled=0, unlabelled=0)
    assert joint.labelled == joint.unlabelled == 0


def test_over_all_rows_it_is_the_exact_joint_likelihood(make_model: Callable[..., FlowMixture]) -> None:
    model = make_model(3, 4).double()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(11, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([3, 0, 1, 2])

    def log_joint(row: torch.Tensor) -> torch.Tensor:
        """log p(x, y) for all y, by autograd and torch.distributions."""
        jacobian = torch.autograd.functional.jacobian(lambda x: model.embed(x[None])[0], row)
        mixture, z = model.mixture, model.embed(row[None])
        components = Independent(Normal(mixture.means, mixture.scales.expand_as(mixture.means)), 1)
        return mixture.log_weights + components.log_prob(z) + torch.linalg.slogdet(jacobian).logabsdet

    every = torch.stack([log_joint(row) for row in x])
    labelled, unlabelled = every[:4], every[4:]
    expected = labelled.gather(1, labels[:, None]).sum() + unlabelled.logsumexp(1).sum()

    joint = Joint(JointConfig(), features=3, labelled=4, unlabelled=7)
    rows = StepInput(
        labelled=RowTensors(x[:4]), labels=labels, unlabelled=RowTensors(x[4:]), step=0, epoch=0.0
    )
    terms = TrainingStep(model, joint, [])(model, rows, generator)
    torch.testing.assert_close(-sum(terms.values()) * 3 * 11, expected)


def test_only_unlabelled_rows_form_the_other_batch() -> None:
    joint = Joint(JointConfig(), features=2, labelled=1, unlabelled=1)
    assert (joint.pool, joint.reads, joint.temperature) == ("unlabelled", {"weak"}, 1.0)
