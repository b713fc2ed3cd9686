from __future__ import annotations

import pytest
import torch

from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.mixture.means import STARTS, initial_means
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.start import Start, StartRows

TRUE = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
DRAWN = {"random", "simplex"}
GUESSED = sorted(set(STARTS) - DRAWN - {"given"})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(n) % 3
    return TRUE[y] + torch.randn(n, 3, generator=seeded(seed)), y


def start_of(name: str, *, seed: int = 0, unlabelled: int = 3000, **config: object) -> Start:
    x, y = blobs(9, 1)
    made = GMMConfig.model_validate({"means": name, **config})
    rows = StartRows(x, y, blobs(unlabelled, 2)[0], 3, made.dims or 3)
    return initial_means(made, rows, seeded(seed))


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("name", sorted({*DRAWN, *GUESSED}))
def test_every_start_has_shape_and_dtype_and_follows_its_generator(name: str, components: int) -> None:
    config = {"components": components, "dims": 1 if name != "simplex" else None}
    if name == "simplex" and components > 1:
        pytest.skip("six means cannot be equally far apart in three dimensions")
    start = start_of(name, **config)
    assert start.means.shape == (3 * components, config["dims"] or 3)
    assert start.component_weights.shape == (3, components)
    assert start.means.dtype == start.component_weights.dtype == torch.float32
    assert start.means.isfinite().all()
    assert (start.component_weights > 0).all()
    again, other = start_of(name, **config), start_of(name, seed=1, **config)
    assert torch.equal(start.means, again.means)
    assert torch.equal(start.component_weights, again.component_weights)
    if name in DRAWN:
        assert not torch.equal(start.means, other.means)


@pytest.mark.parametrize("name", ["labelled", "latent"])
def test_labelled_means_are_class_means(name: str) -> None:
    x, y = blobs(9, 1)
    expected = torch.stack([x[y == k].mean(0) for k in range(3)])
    torch.testing.assert_close(start_of(name).means, expected)
    torch.testing.assert_close(start_of(name, dims=2).means, expected[:, :2])


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading", "kmeans"])
def test_unlabelled_rows_bring_the_means_nearer(name: str) -> None:
    few = (start_of("labelled").means - TRUE).norm()
    assert (start_of(name).means - TRUE).norm() < 0.8 * few


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading"])
def test_without_unlabelled_rows_the_labelled_ones_are_enough(name: str) -> None:
    torch.testing.assert_close(start_of(name, unlabelled=0).means, start_of("labelled").means)


@pytest.mark.parametrize("name", GUESSED)
def test_a_class_without_a_labelled_row_is_an_error_that_names_it(name: str) -> None:
    x, y = blobs(8, 1)
    rows = StartRows(x, y, x, 4, 3)
    with pytest.raises(DataError, match=r"no labelled row for 1 of 4 classes \(index 3\)"):
        initial_means(GMMConfig.model_validate({"means": name}), rows, seeded())


@pytest.mark.parametrize("name", GUESSED)
def test_a_single_class_is_no_trouble(name: str) -> None:
    x, _ = blobs(30, 1)
    rows = StartRows(x[:4], torch.zeros(4, dtype=torch.int64), x[4:], 1, 3)
    start = initial_means(GMMConfig.model_validate({"means": name}), rows, seeded())
    assert start.means.shape == (1, 3)
    if name not in ("labelled", "latent"):
        torch.testing.assert_close(start.means[0], x.mean(0), atol=0.3, rtol=0)


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading", "kmeans", "labelled"])
def test_components_find_the_clusters_of_a_class(name: str) -> None:
    """Each of two classes has two clusters, with one class's between those of the other."""
    centres = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])
    x = centres.repeat(100, 1) + 0.5 * torch.randn(400, 2, generator=seeded(3))
    y = torch.tensor([0, 0, 1, 1]).repeat(100)
    rows = StartRows(x[:24], y[:24], x[24:], 2, 2)
    config = GMMConfig.model_validate({"means": name, "components": 2})
    start = initial_means(config, rows, seeded())
    for k in range(2):
        own = start.means[2 * k : 2 * k + 2]
        own = own[own[:, 1].argsort()]
        torch.testing.assert_close(own, centres[2 * k : 2 * k + 2], atol=0.6, rtol=0)
    torch.testing.assert_close(
        start.component_weights / start.component_weights.sum(1, keepdim=True),
        torch.full((2, 2), 0.5),
        atol=0.05,
        rtol=0,
    )


def test_given_points_are_the_means() -> None:
    points = [[-3.5, -3.5, 0.0], [3.5, 3.5, 1.0]]
    x, y = blobs(8, 2)
    config = GMMConfig.model_validate({"means": "given", "points": points})
    start = initial_means(config, StartRows(x, y, x, 2, 3), seeded())
    assert start.means.tolist() == points
    assert start.component_weights.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("points", [[[0.0, 0.0, 0.0]], [[0.0, 0.0]] * 2, []])
def test_given_points_that_do_not_fit_the_data_are_an_error(points: list[list[float]]) -> None:
    x, y = blobs(8, 2)
    config = GMMConfig.model_validate({"means": "given", "points": points})
    with pytest.raises(RecipeError, match="must hold 2 lists of 3 numbers"):
        initial_means(config, StartRows(x, y, x, 2, 3), seeded())


@pytest.mark.parametrize("values", [{"means": "given"}, {"means": "random", "points": [[0.0]]}])
def test_points_and_given_go_together(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="points"):
        GMMConfig.model_validate(values)
