"""Paths between rows, and rows carried into another class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.inference.sampling import (
    _slerp,
    column_errors,
    interpolate,
    predict_classes,
    round_trip_error,
    transfer,
)
from flowgmm_cli.trained_model import TrainedModel

MakeTrained = Callable[..., TrainedModel]
CONTEXT = DataContext()


def held_out(trained: TrainedModel) -> tuple[Rows, Tensor]:
    rows = load_rows(trained.recipe.data, CONTEXT).test
    assert rows is not None
    return rows, trained.preprocessor.apply(rows, CONTEXT).x


@pytest.mark.parametrize("path", ["linear", "spherical"])
@pytest.mark.parametrize("members", [1, 2])
def test_both_ends_are_the_given_rows(make_trained: MakeTrained, path: str, members: int) -> None:
    trained = make_trained("data.transforms=[{use: quantile}]", members=members, components=2)
    rows, x = held_out(trained)
    for a, b in ((0, 1), (5, 9), (3, 3)):
        made = interpolate(trained, x[[a, b]], steps=5, path=path)  # type: ignore[arg-type]
        torch.testing.assert_close(made.x[[0, -1]], x[[a, b]], atol=2e-6, rtol=1e-5)
        for name, cells in made.rows.columns.items():
            np.testing.assert_allclose(cells[[0, -1]], rows.columns[name][[a, b]], atol=1e-5)
        assert made.rows.extras["t"].tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_a_linear_path_is_a_straight_line_of_even_steps_in_the_latent_space(
    make_trained: MakeTrained,
) -> None:
    trained = make_trained()
    _, x = held_out(trained)
    made = interpolate(trained, x[:2], steps=6)
    z = trained.model.parts[0].flow(made.x)[0].detach()
    torch.testing.assert_close(z.diff(dim=0), z.diff(dim=0).mean(0).expand(5, -1), atol=1e-4, rtol=1e-4)


def test_a_spherical_path_keeps_the_distance_from_the_mean_between_rows_of_equal_distance(
    make_trained: MakeTrained,
) -> None:
    trained = make_trained("data.transforms=[{use: scale}]")
    part = trained.model.parts[0]
    mean = part.mixture.means[:1].detach()
    ends = part.flow.inverse(mean + torch.tensor([[0.3, 0.0], [0.0, 0.3]])).detach()
    assert predict_classes(part, part.flow(ends)[0]).tolist() == [0, 0]
    z = part.flow(interpolate(trained, ends, steps=7, path="spherical").x)[0]
    torch.testing.assert_close((z - mean).norm(dim=1), torch.full((7,), 0.3), atol=1e-4, rtol=0)
    middle = part.flow(interpolate(trained, ends, steps=3).x)[0][1]
    assert float((middle - mean).norm().detach()) == pytest.approx(0.3 / 2**0.5, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    a=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    b=st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    flip=st.sampled_from([None, 1.0, -1.0, 0.0]),
)
def test_slerp_is_finite_and_changes_the_length_evenly(
    a: list[float], b: list[float], flip: float | None
) -> None:
    first = torch.tensor(a, dtype=torch.float64)
    second = torch.tensor(b, dtype=torch.float64) if flip is None else flip * first
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    way = _slerp(first, second, t)
    assert way.isfinite().all()
    torch.testing.assert_close(way[[0, -1]], torch.stack([first, second]), atol=1e-6, rtol=1e-6)
    lengths = torch.lerp(first.norm(), second.norm(), t)
    assert (way.norm(dim=1) <= lengths + 1e-6).all()


@pytest.mark.parametrize("components", [1, 3])
def test_a_transfer_exchanges_the_means_of_the_most_responsible_components(
    make_trained: MakeTrained, components: int
) -> None:
    trained = make_trained(components=components)
    _, x = held_out(trained)
    part = trained.model.parts[0]
    made = transfer(trained, x, 1)
    with torch.no_grad():
        z, moved = part.flow(x)[0], part.flow(made.x)[0]
        log_prob = part.mixture.component_log_prob(z).reshape(len(z), 2, components)
    for index in range(len(x)):
        whole = (log_prob[index].exp() / components).sum(1)
        own = int(whole.argmax())
        assert made.rows.extras["from"][index] == trained.class_names[own]
        means = part.mixture.means.reshape(2, components, -1)
        source = means[own, int(log_prob[index, own].argmax())]
        goal = means[1, int(log_prob[index, 1].argmax())]
        torch.testing.assert_close(moved[index] - goal, z[index] - source, atol=1e-3, rtol=1e-3)


def test_a_transfer_to_its_own_class_is_the_row_itself(make_trained: MakeTrained) -> None:
    trained = make_trained(components=2)
    _, x = held_out(trained)
    own = predict_classes(trained.model.parts[0], trained.model.parts[0].flow(x)[0])
    assert set(own.tolist()) == {0, 1}
    for target in (0, 1):
        made = transfer(trained, x, target)
        assert torch.equal(made.x[own == target], x[own == target])
        assert not torch.isclose(made.x, x).all(1)[own != target].any()
        assert (made.classes == target).all()


def test_column_errors_measure_the_loss_of_the_transforms(make_trained: MakeTrained) -> None:
    kept = make_trained("data.transforms=[{use: standardise}]")
    rows, x = held_out(kept)
    assert max(column_errors(kept, rows, x).values()) < 1e-5
    assert round_trip_error(kept, x) < 1e-5
    cut = make_trained("data.transforms=[{use: standardise}, {use: clip, limit: 0.5}]")
    rows, x = held_out(cut)
    assert max(column_errors(cut, rows, x).values()) > 0.1


@pytest.mark.parametrize("members", [1, 2])
def test_a_transfer_without_a_target_moves_each_row_into_every_class(
    make_trained: MakeTrained, members: int
) -> None:
    trained = make_trained("data.name=digits", "data.transforms=[{use: pca, dim: 6}]", members=members)
    _, x = held_out(trained)
    ids = np.array(["a", "b", "c"], dtype=object)
    made = transfer(trained, x[:3], None, ids=ids)
    classes = len(trained.class_names)
    assert made.rows.ids.tolist() == [name for name in ids for _ in range(classes)]
    assert made.classes.tolist() == [*range(classes)] * 3
    for target in range(classes):
        alone = transfer(trained, x[:3], target, ids=ids)
        torch.testing.assert_close(made.x[target::classes], alone.x)
        assert made.rows.extras["from"][target::classes].tolist() == alone.rows.extras["from"].tolist()


@pytest.mark.parametrize("kind", ["grey", "colour", "vector", "vector colour"])
def test_images_are_interpolated_and_unchanged_in_their_own_class(make_imaged: Any, kind: str) -> None:
    imaged = make_imaged(kind)
    pixels = imaged.rows.columns["photo"]
    made = interpolate(imaged.trained, imaged.x[[0, 3]], steps=4)
    cells = made.rows.columns["photo"]
    np.testing.assert_array_equal(cells[[0, -1]], pixels[[0, 3]])
    made = transfer(imaged.trained, imaged.x[:4], None)
    cells = made.rows.columns["photo"]
    own = made.class_names == made.rows.extras["from"]
    assert own.sum() == 4
    np.testing.assert_array_equal(cells[own], pixels[:4])
    assert not (cells[~own] == np.repeat(pixels[:4], 2, axis=0)).all()
    assert max(column_errors(imaged.trained, imaged.rows, imaged.x).values()) == 0
