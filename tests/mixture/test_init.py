from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression

from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.mixture import init
from flowgmm_cli.mixture.init import (
    INITIALISERS,
    InitialMeans,
    TrainingLatents,
    initial_means,
    kmeans_means,
    label_spreading,
    logistic_regression,
    means_from_responsibilities,
    random_means,
    simplex_means,
)
from flowgmm_cli.mixture.specs import GMMConfig

TRUE = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
RANDOM = {"random", "simplex"}
FROM_ROWS = sorted(set(INITIALISERS) - RANDOM - {"given"})


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(n) % 3
    return TRUE[y] + torch.randn(n, 3, generator=seeded(seed)), y


def initialise(name: str, *, seed: int = 0, unlabelled: int = 3000, **config: object) -> InitialMeans:
    x, y = blobs(9, 1)
    parsed = GMMConfig.model_validate({"means": name, **config})
    rows = TrainingLatents(x, y, blobs(unlabelled, 2)[0], 3, parsed.dims or 3)
    return initial_means(parsed, rows, seeded(seed))


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("name", sorted({*RANDOM, *FROM_ROWS}))
def test_means_are_float32_and_depend_on_the_generator(name: str, components: int) -> None:
    config = {"components": components, "dims": 1 if name != "simplex" else None}
    if name == "simplex" and components > 1:
        pytest.skip("six means cannot be equally far apart in three dimensions")
    initial = initialise(name, **config)
    assert initial.means.shape == (3 * components, config["dims"] or 3)
    assert initial.component_weights.shape == (3, components)
    assert initial.means.dtype == initial.component_weights.dtype == torch.float32
    assert initial.means.isfinite().all()
    assert (initial.component_weights > 0).all()
    repeated, other = initialise(name, **config), initialise(name, seed=1, **config)
    assert torch.equal(initial.means, repeated.means)
    assert torch.equal(initial.component_weights, repeated.component_weights)
    if name in RANDOM:
        assert not torch.equal(initial.means, other.means)


@pytest.mark.parametrize("name", ["labelled", "label_spreading", "logistic_regression", "latent"])
def test_means_of_labelled_rows_alone_agree_with_the_sums_over_responsibilities(name: str) -> None:
    x, y = blobs(50, 4)
    rows = TrainingLatents(x, y, x[:0], 3, 2)
    initial = initial_means(GMMConfig(means=name), rows, seeded())
    both = (x[:, :2], rows.label_indicators)
    expected = means_from_responsibilities(*both, classes=3, scale=1.0, generator=seeded())
    assert torch.equal(initial.means, expected.means)
    assert torch.equal(initial.component_weights, expected.component_weights)


@pytest.mark.parametrize("name", ["labelled", "latent"])
def test_labelled_means_are_class_means(name: str) -> None:
    x, y = blobs(9, 1)
    expected = torch.stack([x[y == k].mean(0) for k in range(3)])
    torch.testing.assert_close(initialise(name).means, expected)
    torch.testing.assert_close(initialise(name, dims=2).means, expected[:, :2])


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading", "kmeans"])
def test_unlabelled_rows_improve_the_means(name: str) -> None:
    few = (initialise("labelled").means - TRUE).norm()
    assert (initialise(name).means - TRUE).norm() < 0.8 * few


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading"])
def test_without_unlabelled_rows_the_labelled_rows_suffice(name: str) -> None:
    torch.testing.assert_close(initialise(name, unlabelled=0).means, initialise("labelled").means)


@pytest.mark.parametrize("name", FROM_ROWS)
def test_a_class_without_a_labelled_row_is_an_error_that_names_it(name: str) -> None:
    x, y = blobs(8, 1)
    rows = TrainingLatents(x, y, x, 4, 3)
    with pytest.raises(DataError, match=r"no labelled row for 1 of 4 classes \(index 3\)"):
        initial_means(GMMConfig.model_validate({"means": name}), rows, seeded())


@pytest.mark.parametrize("name", FROM_ROWS)
def test_a_single_class_is_accepted(name: str) -> None:
    x, _ = blobs(30, 1)
    rows = TrainingLatents(x[:4], torch.zeros(4, dtype=torch.int64), x[4:], 1, 3)
    initial = initial_means(GMMConfig.model_validate({"means": name}), rows, seeded())
    assert initial.means.shape == (1, 3)
    if name not in ("labelled", "latent"):
        torch.testing.assert_close(initial.means[0], x.mean(0), atol=0.3, rtol=0)


@pytest.mark.parametrize("name", ["logistic_regression", "label_spreading", "kmeans", "labelled"])
def test_components_start_at_the_clusters_of_their_class(name: str) -> None:
    """Each of two classes has two clusters, with one class's between those of the other."""
    centres = torch.tensor([[0.0, 0.0], [0.0, 8.0], [8.0, 0.0], [8.0, 8.0]])
    x = centres.repeat(100, 1) + 0.5 * torch.randn(400, 2, generator=seeded(3))
    y = torch.tensor([0, 0, 1, 1]).repeat(100)
    rows = TrainingLatents(x[:24], y[:24], x[24:], 2, 2)
    config = GMMConfig.model_validate({"means": name, "components": 2})
    initial = initial_means(config, rows, seeded())
    for k in range(2):
        own = initial.means[2 * k : 2 * k + 2]
        own = own[own[:, 1].argsort()]
        torch.testing.assert_close(own, centres[2 * k : 2 * k + 2], atol=0.6, rtol=0)
    weights = initial.component_weights / initial.component_weights.sum(1, keepdim=True)
    torch.testing.assert_close(weights, torch.full((2, 2), 0.5), atol=0.05, rtol=0)


def test_given_points_are_the_means() -> None:
    points = [[-3.5, -3.5, 0.0], [3.5, 3.5, 1.0]]
    x, y = blobs(8, 2)
    config = GMMConfig.model_validate({"means": "given", "points": points})
    initial = initial_means(config, TrainingLatents(x, y, x, 2, 3), seeded())
    assert initial.means.tolist() == points
    assert initial.component_weights.tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("points", [[[0.0, 0.0, 0.0]], [[0.0, 0.0]] * 2, []])
def test_given_points_that_do_not_fit_the_data_are_an_error(points: list[list[float]]) -> None:
    x, y = blobs(8, 2)
    config = GMMConfig.model_validate({"means": "given", "points": points})
    with pytest.raises(RecipeError, match="must hold 2 lists of 3 numbers"):
        initial_means(config, TrainingLatents(x, y, x, 2, 3), seeded())


def no_rows(classes: int, dims: int) -> TrainingLatents:
    empty = torch.empty(0, dims)
    return TrainingLatents(empty, torch.empty(0, dtype=torch.int64), empty, classes, dims)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 8), more=st.integers(0, 6), separation=st.floats(0.1, 100))
def test_simplex_means_are_equally_far_apart_about_0(count: int, more: int, separation: float) -> None:
    config = GMMConfig(means="simplex", separation=separation)
    means = simplex_means(config, no_rows(count, max(count - 1, 1) + more), seeded(more)).means.double()
    torch.testing.assert_close(means.sum(0), torch.zeros_like(means[0]), atol=1e-5 * separation, rtol=0)
    if count > 1:
        distances = torch.pdist(means)
        torch.testing.assert_close(distances, torch.full_like(distances, separation), rtol=1e-5, atol=0)


def test_a_simplex_needs_enough_dimensions() -> None:
    with pytest.raises(RecipeError, match="at most 3 means in 2 dimensions, but there are 4"):
        simplex_means(GMMConfig(means="simplex", components=2), no_rows(2, 2), seeded())


def test_simplex_places_all_components_and_its_separation_follows_the_scale() -> None:
    initial = simplex_means(GMMConfig(means="simplex", components=2, scale=0.5), no_rows(3, 7), seeded())
    assert initial.means.shape == (6, 7)
    distances = torch.pdist(initial.means)
    torch.testing.assert_close(distances, torch.full_like(distances, 3.0))
    assert torch.equal(initial.component_weights, torch.ones(3, 2))


def test_random_means_have_the_separation_asked_for() -> None:
    config = GMMConfig(means="random", separation=21.9, components=2)
    initial = random_means(config, no_rows(2, 768), seeded())
    assert torch.pdist(initial.means).mean().item() == pytest.approx(21.9, rel=1e-5)
    unscaled = random_means(GMMConfig(means="random"), no_rows(4, 768), seeded()).means
    assert torch.pdist(unscaled).mean().item() == pytest.approx((2 * 768) ** 0.5, rel=0.05)
    single = random_means(GMMConfig(means="random", separation=2.0), no_rows(1, 3), seeded())
    assert single.means.shape == (1, 3)


def test_clusters_follow_the_labelled_rows_and_then_the_distance() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    x = centres.repeat(50, 1) + torch.randn(200, 2, generator=seeded())
    labels = torch.tensor([2, 0, 3, 1])  # the order of the centres in terms of classes
    rows = TrainingLatents(x[:4], labels, x[4:], 4, 2)
    initial = kmeans_means(GMMConfig(means="kmeans"), rows, seeded())
    torch.testing.assert_close(initial.means, centres[[1, 3, 0, 2]], atol=0.7, rtol=0)
    # The only labelled rows of both classes lie in one cluster: the other goes to the nearer class.
    x = torch.cat([torch.randn(50, 2, generator=seeded()), 10 + torch.randn(50, 2, generator=seeded(1))])
    near, far = torch.tensor([[0.5, 0.5]]), torch.tensor([[-0.5, -0.5]])
    rows = TrainingLatents(torch.cat([far, near]), torch.tensor([0, 1]), x, 2, 2)
    initial = kmeans_means(GMMConfig(means="kmeans"), rows, seeded())
    assert initial.means[1].mean() > 9
    assert initial.means[0].mean() < 1


def test_kmeans_of_fewer_rows_than_clusters_is_an_error() -> None:
    rows = TrainingLatents(torch.randn(2, 2), torch.tensor([0, 1]), torch.empty(0, 2), 2, 2)
    with pytest.raises(DataError, match=r"looks for 4 clusters .* among 2 training rows"):
        kmeans_means(GMMConfig(means="kmeans", components=2), rows, seeded())


def moons(n: int = 400, per_class: int = 3) -> tuple[TrainingLatents, torch.Tensor]:
    """Two moons; the true classes are given in the order of the rows, labelled rows first."""
    features, truth = make_moons(n, noise=0.06, random_state=0)
    x, y = torch.from_numpy(features).float(), torch.from_numpy(truth)
    labelled = torch.cat([(y == k).nonzero().flatten()[:per_class] for k in range(2)])
    other = torch.ones(n, dtype=torch.bool)
    other[labelled] = False
    return TrainingLatents(x[labelled], y[labelled], x[other], 2, 2), torch.cat([y[labelled], y[other]])


def test_logistic_regression_gives_its_probabilities() -> None:
    rows, _ = moons()
    x, responsibilities = logistic_regression(rows, seeded())
    reference = LogisticRegression(max_iter=500).fit(rows.labelled.double().numpy(), rows.labels.numpy())
    expected = torch.from_numpy(reference.predict_proba(rows.unlabelled.double().numpy()))
    assert len(x) == 400
    torch.testing.assert_close(responsibilities[6:], expected)
    assert torch.equal(responsibilities[:6], rows.label_indicators)


def test_labels_spread_along_curved_classes() -> None:
    rows, truth = moons()
    x, responsibilities = label_spreading(rows, seeded())
    assert len(x) == len(responsibilities) == 400
    torch.testing.assert_close(responsibilities.sum(1), torch.ones(400, dtype=torch.float64))
    assert (responsibilities.argmax(1) == truth).double().mean() > 0.98
    assert torch.equal(responsibilities[:6], rows.label_indicators)


def test_rows_that_no_label_reaches_are_left_out() -> None:
    rows, _ = moons()
    outliers = 100 + torch.randn(30, 2, generator=seeded())
    rows = TrainingLatents(rows.labelled, rows.labels, torch.cat([rows.unlabelled, outliers]), 2, 2)
    x, responsibilities = label_spreading(rows, seeded())
    assert len(x) == 400
    assert x.max() < 10
    assert responsibilities.isfinite().all()


def test_label_spreading_accepts_equal_rows_and_a_single_row() -> None:
    equal = TrainingLatents(torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(50, 3), 2, 3)
    x, responsibilities = label_spreading(equal, seeded())
    assert responsibilities.isfinite().all()
    assert torch.equal(x, torch.ones_like(x))
    single = TrainingLatents(torch.ones(1, 3), torch.tensor([0]), torch.empty(0, 3), 1, 3)
    assert label_spreading(single, seeded())[1].tolist() == [[1.0]]


def test_label_spreading_samples_from_very_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "GRAPH_OPERATIONS", 2 * 100.0**2)
    rows, _ = moons()
    x, responsibilities = label_spreading(rows, seeded())
    again, other = label_spreading(rows, seeded())[0], label_spreading(rows, seeded(1))[0]
    assert 80 < len(x) <= 100
    assert torch.equal(x[:6], rows.labelled)
    assert torch.equal(x, again)
    assert x.shape != other.shape or not torch.equal(x, other)
    assert torch.equal(responsibilities[:6], rows.label_indicators)
