from __future__ import annotations

import math

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.objectives.hybrid import Hybrid
from flowgmm_cli.objectives.specs import HybridConfig


def latents(class_log_prob: list[list[float]], log_det: list[float]) -> Latents:
    rows = torch.tensor(class_log_prob, dtype=torch.float64).reshape(-1, 2)
    return Latents(torch.zeros(len(rows), 3), torch.tensor(log_det, dtype=torch.float64), rows)


def batch(labelled: Latents, labels: list[int], **student: Latents) -> Batch:
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
    )


def objective(**config: object) -> Hybrid:
    return Hybrid(HybridConfig.model_validate(config), features=3, labelled=1, unlabelled=2)


LABELLED = latents([[-1.0, -3.0], [-2.0, -2.0]], [0.5, -0.5])
STRONG = latents([[-1.0, -1.0]], [2.0])
WEAK = latents([[-9.0, -9.0]], [0.0])


def test_terms_are_those_worked_out_by_hand() -> None:
    hybrid = objective(labelled=3.0, density=0.2, temperature=2.0)
    terms = hybrid(None, None, batch(LABELLED, [1, 0], strong=STRONG))
    # log-odds halved: row 1 has (-0.5, -1.5), label 1; row 2 is undecided
    cross_entropy = ((1 + math.log1p(math.exp(-1))) + math.log(2)) / 2
    assert float(terms["labelled"]) == pytest.approx(3 * cross_entropy)
    log_prob = [-1 + math.log1p(math.exp(-2)) + 0.5, -2 + math.log(2) - 0.5, -1 + math.log(2) + 2]
    assert float(terms["unlabelled"]) == pytest.approx(-0.2 / 3 * sum(log_prob) / 3)
    assert set(terms) == {"labelled", "unlabelled"}


def test_the_loss_of_the_paper_s_program_for_images_is_not_divided_by_the_dimension() -> None:
    """w CE + NLL of all rows, of which the labelled ones are a part (Izmailov et al., 2020, section 4.3)."""
    hybrid = objective(labelled=3.0, density=1.0, temperature=1.0, per_dimension=False)
    terms = hybrid(None, None, batch(LABELLED, [1, 0], strong=STRONG))
    assert float(terms["labelled"]) == pytest.approx(3 * ((2 + math.log1p(math.exp(-2))) + math.log(2)) / 2)
    log_prob = [-1 + math.log1p(math.exp(-2)) + 0.5, -2 + math.log(2) - 0.5, -1 + math.log(2) + 2]
    assert float(terms["unlabelled"]) == pytest.approx(-sum(log_prob) / 3)


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


def test_all_rows_take_part_with_labels_hidden() -> None:
    assert objective().pool == "all"
