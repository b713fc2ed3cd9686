from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.errors import DataError, RecipeError
from flowgmm_cli.mixture.means import initial_means, random_means, simplex_means
from flowgmm_cli.mixture.specs import GMMConfig

TRUE = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(n) % 3
    return TRUE[y] + torch.randn(n, 3, generator=seeded(seed)), y


def means_of(name: str, *, seed: int = 0, unlabelled: int = 3000, **config: object) -> torch.Tensor:
    x, y = blobs(9, 1)
    return initial_means(
        GMMConfig.model_validate({"means": name, **config}),
        labelled=x,
        labels=y,
        unlabelled=blobs(unlabelled, 2)[0],
        classes=3,
        generator=seeded(seed),
    )


@pytest.mark.parametrize("name", ["labelled", "logistic_regression", "random", "simplex"])
def test_every_start_has_shape_and_dtype_and_follows_its_generator(name: str) -> None:
    means = means_of(name)
    assert means.shape == (3, 3)
    assert means.dtype == torch.float32
    assert torch.equal(means, means_of(name))
    assert torch.equal(means, means_of(name, seed=1)) == (name not in {"random", "simplex"})


def test_labelled_means_are_class_means() -> None:
    x, y = blobs(9, 1)
    expected = torch.stack([x[y == k].mean(0) for k in range(3)])
    torch.testing.assert_close(means_of("labelled"), expected)


def test_logistic_regression_means_come_nearer_with_unlabelled_rows() -> None:
    few = (means_of("labelled") - TRUE).norm()
    assert (means_of("logistic_regression") - TRUE).norm() < few
    torch.testing.assert_close(means_of("logistic_regression", unlabelled=0), means_of("labelled"))


@pytest.mark.parametrize("name", ["labelled", "logistic_regression"])
def test_a_class_without_a_labelled_row_is_an_error_that_names_it(name: str) -> None:
    x, y = blobs(8, 1)
    with pytest.raises(DataError, match=r"no labelled row for 1 of 4 classes \(index 3\)"):
        initial_means(
            GMMConfig(means=name), labelled=x, labels=y, unlabelled=x, classes=4, generator=seeded()
        )


@settings(max_examples=30, deadline=None)
@given(
    classes=st.integers(1, 8),
    extra=st.integers(0, 6),
    separation=st.floats(0.1, 100),
    seed=st.integers(0, 99),
)
def test_simplex_means_are_equally_far_apart_about_the_origin(
    classes: int, extra: int, separation: float, seed: int
) -> None:
    means = simplex_means(classes, max(classes - 1, 1) + extra, separation=separation, generator=seeded(seed))
    torch.testing.assert_close(means.sum(0), torch.zeros_like(means[0]), atol=1e-9 * separation, rtol=0)
    if classes > 1:
        distances = torch.pdist(means)
        torch.testing.assert_close(distances, torch.full_like(distances, separation))


def test_two_simplex_means_are_opposite_points_as_in_the_paper() -> None:
    means = simplex_means(2, 50, separation=7.5, generator=seeded())
    torch.testing.assert_close(means[0], -means[1])
    assert means[0].norm().item() == pytest.approx(3.75)


def test_simplex_needs_dimensions_enough() -> None:
    with pytest.raises(RecipeError, match="at most 3 means in 2 dimensions, but there are 4"):
        simplex_means(4, 2, separation=1.0, generator=seeded())


def test_simplex_default_separation_follows_the_scale() -> None:
    assert torch.pdist(means_of("simplex", scale=0.5)).mean().item() == pytest.approx(3.0)


def test_random_means_have_the_separation_asked_for() -> None:
    means = random_means(4, 768, separation=21.9, generator=seeded())
    assert torch.pdist(means).mean().item() == pytest.approx(21.9)
    free = random_means(4, 768, separation=None, generator=seeded())
    assert torch.pdist(free).mean().item() == pytest.approx((2 * 768) ** 0.5, rel=0.05)
    torch.testing.assert_close(
        random_means(1, 3, separation=2.0, generator=seeded()).shape, torch.Size([1, 3])
    )
