"""The objectives `hybrid` and `joint`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal
from torch.nn.functional import cross_entropy

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.objectives.losses import Hybrid, Joint, add_label_noise
from flowgmm_cli.objectives.specs import HybridConfig, JointConfig
from flowgmm_cli.training.step import TrainingStep


def latents(class_log_prob: list[list[float]], log_det: list[float]) -> Latents:
    rows = torch.tensor(class_log_prob, dtype=torch.float64).reshape(-1, 2)
    return Latents(torch.zeros(len(rows), 3), torch.tensor(log_det, dtype=torch.float64), rows)


def batch(
    labelled: Latents, labels: list[int], weights: list[float] | None = None, **student: Latents
) -> Batch:
    none = torch.empty(0, 3)
    return Batch(
        labelled=none,
        labels=torch.tensor(labels, dtype=torch.int64),
        weak=none,
        strong=none,
        student={"labelled": labelled, **student},
        temperature=2.0,
        step=0,
        epoch=0.0,
        generator=torch.Generator(),
        weights=None if weights is None else torch.tensor(weights),
    )


def objective(**config: object) -> Hybrid:
    return Hybrid(HybridConfig.model_validate(config), features=3, labelled=1, unlabelled=2)


LABELLED = latents([[-1.0, -3.0], [-2.0, -2.0]], [0.5, -0.5])
STRONG = latents([[-1.0, -1.0]], [2.0])
WEAK = latents([[-9.0, -9.0]], [0.0])


@pytest.mark.parametrize(
    ("config", "odds", "divisor"),
    [
        # log-odds halved: row 1 has (-0.5, -1.5), label 1; row 2 is undecided
        ({"density": 0.2, "temperature": 2.0}, 1, 3 / 0.2),
        # that of the paper's program for images (Izmailov et al., 2020, section 4.3): w CE + NLL of all rows,
        # of which the labelled ones are a part
        ({"density": 1.0, "temperature": 1.0, "per_dimension": False}, 2, 1),
    ],
)
def test_terms_of_hybrid_are_those_worked_out_by_hand(
    config: dict[str, float], odds: float, divisor: float
) -> None:
    terms = objective(labelled=3.0, **config)(None, None, batch(LABELLED, [1, 0], strong=STRONG))
    cross_entropy = ((odds + math.log1p(math.exp(-odds))) + math.log(2)) / 2
    assert float(terms["labelled"]) == pytest.approx(3 * cross_entropy)
    log_prob = [-1 + math.log1p(math.exp(-2)) + 0.5, -2 + math.log(2) - 0.5, -1 + math.log(2) + 2]
    assert float(terms["unlabelled"]) == pytest.approx(-sum(log_prob) / 3 / divisor)
    assert set(terms) == {"labelled", "unlabelled"}


def test_weights_count_in_the_labelled_term_alone() -> None:
    parts = {"strong": STRONG, "weak": SINGLE}
    joint = Joint(JointConfig(), features=2, labelled=10, unlabelled=30)
    for loss in (objective(), joint):
        first, second = (
            loss(None, None, batch(LABELLED.rows(slice(k, k + 1)), [1 - k], **parts))["labelled"]
            for k in (0, 1)
        )
        terms = loss(None, None, batch(LABELLED, [1, 0], [0.5, 1.5], **parts))
        plain = loss(None, None, batch(LABELLED, [1, 0], **parts))
        assert float(terms["labelled"]) == pytest.approx(float(0.5 * first + 1.5 * second) / 2)
        assert terms["unlabelled"] == plain["unlabelled"]


def test_the_loss_of_an_uncertain_label_is_its_expectation() -> None:
    parts = {"strong": STRONG, "weak": SINGLE}
    targets = torch.tensor([[0.25, 0.75], [0, 0]])
    for loss in (objective(), Joint(JointConfig(), features=2, labelled=10, unlabelled=30)):
        both = [loss(None, None, batch(LABELLED, [k, 0], **parts))["labelled"] for k in (0, 1)]
        terms = loss(None, None, replace(batch(LABELLED, [0, 0], **parts), targets=targets))
        assert float(terms["labelled"]) == pytest.approx(float(0.25 * both[0] + 0.75 * both[1]))
    noisy = objective(label_noise=0.3)  # probabilities say themselves how sure they are
    terms = noisy(None, None, replace(batch(LABELLED.rows(slice(1)), [0], **parts), targets=targets[:1]))
    both = [objective()(None, None, batch(LABELLED.rows(slice(1)), [k], **parts))["labelled"] for k in (0, 1)]
    assert float(terms["labelled"]) == pytest.approx(float(0.25 * both[0] + 0.75 * both[1]))


def test_a_share_of_wrong_labels_is_worked_out_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 5.0, 0.0]], dtype=torch.float64)
    rows = Latents(torch.zeros(2, 3), torch.zeros(2, dtype=torch.float64), logits)
    loss = objective(temperature=1.0, label_noise=0.3)
    terms = loss(None, None, batch(rows, [0, 0], strong=STRONG))
    p = torch.softmax(logits, dim=1)[:, 0].tolist()
    by_hand = [-math.log(0.7 * p_y + 0.3 / 2 * (1 - p_y)) for p_y in p]
    assert float(terms["labelled"]) == pytest.approx(sum(by_hand) / 2)
    # a label that the model is sure is wrong pulls no more
    logits = torch.tensor([[0.0, 40.0, 0.0]], dtype=torch.float64, requires_grad=True)
    add_label_noise(cross_entropy(logits, torch.tensor([0]), reduction="none"), 0.3, 3).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-10


def test_without_labelled_rows_only_the_density_counts() -> None:
    terms = objective()(None, None, batch(latents([], []), [], strong=STRONG))
    assert float(terms["labelled"]) == 0
    assert float(terms["unlabelled"]) == pytest.approx(-0.2 / 3 * (1 + math.log(2)))


def test_without_unlabelled_rows_the_density_is_that_of_the_labelled() -> None:
    terms = objective(temperature=1.0)(None, None, batch(LABELLED, [0, 0], strong=latents([], [])))
    assert float(terms["unlabelled"]) == pytest.approx(-0.2 / 3 * float(LABELLED.log_prob().mean()))
    assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize("rows", ["strong", "weak"])
def test_it_reads_the_view_of_its_config(rows: str) -> None:
    hybrid = objective(rows=rows)
    assert hybrid.reads == {rows}
    view = {"strong": STRONG, "weak": WEAK}[rows]
    terms = hybrid(None, None, batch(latents([], []), [], **{rows: view}))
    assert float(terms["unlabelled"]) == pytest.approx(-0.2 / 3 * float(view.log_prob()[0]))


@pytest.mark.parametrize(("features", "temperature"), [(1, 1.0), (16, 1.0), (64, 2.0), (400, 5.0)])
def test_the_temperature_grows_with_the_root_of_the_dimension(features: int, temperature: float) -> None:
    hybrid = Hybrid(HybridConfig(), features=features, labelled=1, unlabelled=1)
    assert hybrid.temperature == temperature
    assert Hybrid(HybridConfig(temperature=0.7), features=64, labelled=1, unlabelled=1).temperature == 0.7
    # only the dimensions that carry the classes count
    some = Hybrid(HybridConfig(), features=4 * features, labelled=1, unlabelled=1, dims=features)
    assert some.temperature == temperature


# --- joint ------------------------------------------------------------------------------------------------


NONE = latents([], [])
PAIR = latents([[-1.0, -3.0], [-2.0, -4.0]], [0.5, -1.5])
SINGLE = latents([[-1.0, -1.0]], [0.25])


@pytest.mark.parametrize(
    ("config", "weights"),
    [(JointConfig(), (10 / 40, 30 / 40)), (JointConfig(labelled=0.0, unlabelled=4.0), (0, 4))],
    ids=["shares of the rows", "given weights"],
)
def test_terms_of_joint_are_those_worked_out_by_hand(
    config: JointConfig, weights: tuple[float, float]
) -> None:
    joint = Joint(config, features=2, labelled=10, unlabelled=30)
    terms = joint(None, None, batch(PAIR, [1, 0], weak=SINGLE))
    assert float(terms["labelled"]) == pytest.approx(-weights[0] / 2 * ((-3 + 0.5) + (-2 - 1.5)) / 2)
    assert float(terms["unlabelled"]) == pytest.approx(-weights[1] / 2 * (-1 + math.log(2) + 0.25))
    assert set(terms) == {"labelled", "unlabelled"}


def test_the_loss_of_the_paper_s_program_for_tables_and_text() -> None:
    """-mean log p(x | y) - a mean log p(x), nothing divided by D; digest of the program's class SemiFlow."""
    config = JointConfig(labelled=1.0, unlabelled=0.6, pool="all", class_weights=False, per_dimension=False)
    joint = Joint(config, features=2, labelled=10, unlabelled=30)
    mixture = GaussianMixture(torch.zeros(2, 2), weights=torch.tensor([0.25, 0.75]))
    model = FlowMixture(torch.nn.Identity(), mixture)
    terms = joint(model, None, batch(PAIR, [1, 0], weak=SINGLE))
    first, second = -3 - math.log(0.75) + 0.5, -2 - math.log(0.25) - 1.5
    assert float(terms["labelled"]) == pytest.approx(-(first + second) / 2)
    assert float(terms["unlabelled"]) == pytest.approx(-0.6 * (-1 + math.log(2) + 0.25))
    assert joint.pool == "all"


def test_the_loss_of_the_paper_s_program_for_synthetic_sets_has_equal_weights() -> None:
    config = JointConfig(labelled=0.5, unlabelled=0.5, per_dimension=False)
    two = latents([[-1.0, -1.0], [-2.0, -2.0]], [0.25, 1.0])
    terms = Joint(config, features=2, labelled=2, unlabelled=9)(None, None, batch(PAIR, [1, 0], weak=two))
    rows = [-3 + 0.5, -2 - 1.5, -1 + math.log(2) + 0.25, -2 + math.log(2) + 1.0]
    assert float(sum(terms.values())) == pytest.approx(-sum(rows) / 4)


def test_in_a_pool_of_all_rows_labelled_rows_count_twice() -> None:
    joint = Joint(JointConfig(pool="all"), features=2, labelled=10, unlabelled=30)
    assert (joint.labelled, joint.unlabelled) == (10 / 50, 40 / 50)


@pytest.mark.parametrize(
    ("labelled", "labels", "weak", "zero"),
    [(NONE, [], SINGLE, "labelled"), (PAIR, [0, 1], NONE, "unlabelled")],
)
def test_a_term_without_rows_is_zero(labelled: Latents, labels: list[int], weak: Latents, zero: str) -> None:
    joint = Joint(JointConfig(), features=2, labelled=1, unlabelled=1)
    terms = joint(None, None, batch(labelled, labels, weak=weak))
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
    terms = TrainingStep(model, joint, [])(model, Tensors(x[:4], labels), Tensors(x[4:]), generator)
    torch.testing.assert_close(-sum(terms.values()) * 3 * 11, expected)
