"""The way back from the flow's inputs to input columns."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.specs import TRANSFORMS
from flowgmm_cli.plugins.entry import load_target

CONTEXT = DataContext()
COLUMNS = (
    Column("height", "numeric"),
    Column("count", "numeric"),
    Column("colour", "category"),
    Column("image", "vector", (2, 3)),
)


def table(seed: int, n: int) -> Rows:
    """Real numbers, whole numbers, categories with an empty one, and little images."""
    rng = np.random.default_rng(seed)
    colours = np.array(["red", "blue", None], dtype=object)
    return Rows(
        columns={
            "height": rng.normal(170, 10, n),
            "count": rng.integers(-5, 40, n).astype(float),
            "colour": colours[rng.integers(0, 3, n)],
            "image": rng.random((n, 2, 3)),
        },
        labels=np.full(n, -1),
        ids=np.arange(n).astype(str),
    )


def fit_on(train: Rows, *names: str) -> Preprocessor:
    feature_encoder = FeatureEncoder.fit(train, COLUMNS, missing="error", encoder=None)
    x = torch.from_numpy(feature_encoder.transform(train, CONTEXT))
    transforms = []
    for name in names:
        words = {"pca to 4": {"dim": 4}, "clip": {"limit": 2.0}}.get(name, {})
        spec = TRANSFORMS[name.partition(" ")[0]]
        step = load_target(spec.build, name)(spec.config(**words), features=x.shape[1])
        step.fit(x)
        x = step(x)[0]
        transforms.append(step)
    return Preprocessor(feature_encoder, Sequential(transforms))


@pytest.mark.parametrize(
    "names",
    [(), ("standardise",), ("quantile",), ("scale",), ("pca",), ("standardise", "pca", "quantile", "scale")],
)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(0, 30))
def test_new_rows_come_back_through_everything_that_can_be_undone(
    names: tuple[str, ...], seed: int, n: int
) -> None:
    preprocessor = fit_on(table(seed + 1, 50), *names)
    rows = table(seed, n)
    back = preprocessor.invert(preprocessor.apply(rows, CONTEXT).x)
    assert list(back) == [column.name for column in COLUMNS]
    np.testing.assert_allclose(back["height"], rows.columns["height"], rtol=1e-5)
    np.testing.assert_allclose(back["image"], rows.columns["image"], atol=1e-4)
    assert back["image"].shape == (n, 2, 3)
    assert (back["count"] == rows.columns["count"]).all()
    assert back["colour"].tolist() == rows.columns["colour"].tolist()


def test_whole_numbers_stay_whole_wherever_a_row_lies() -> None:
    preprocessor = fit_on(table(0, 50), "standardise")
    inverted = preprocessor.invert(
        torch.randn(40, preprocessor.dim, generator=torch.Generator().manual_seed(0))
    )
    assert (inverted["count"] == np.rint(inverted["count"])).all()
    assert not (inverted["height"] == np.rint(inverted["height"])).any()
    assert preprocessor.feature_encoder.whole == {"count"}
    assert not np.signbit(inverted["count"][inverted["count"] == 0]).any()


def test_a_single_training_fraction_prevents_rounding() -> None:
    train = table(0, 50)
    train.columns["count"][7] = 0.5
    preprocessor = fit_on(train, "standardise")
    assert preprocessor.feature_encoder.whole == set()


def test_what_pca_drops_becomes_the_mean_of_training() -> None:
    train, rows = table(0, 200), table(1, 20)
    preprocessor = fit_on(train, "pca to 4")
    features = torch.from_numpy(preprocessor.feature_encoder.transform(train, CONTEXT))
    centred = features - features.mean(0)
    basis = torch.linalg.svd(centred).Vh[:4]
    new = torch.from_numpy(preprocessor.feature_encoder.transform(rows, CONTEXT))
    expected = (new - features.mean(0)) @ basis.T @ basis + features.mean(0)
    inverted = preprocessor.invert_transforms(preprocessor.apply(rows, CONTEXT).x)
    torch.testing.assert_close(inverted, expected, atol=1e-4, rtol=1e-5)


def test_clipped_cells_come_back_at_the_limit() -> None:
    train = table(0, 200)
    preprocessor = fit_on(train, "standardise", "clip")
    rows = table(1, 3)
    rows.columns["height"][:] = [170, 1000, -1000]
    back = preprocessor.invert(preprocessor.apply(rows, CONTEXT).x)["height"]
    mean, std = train.columns["height"].mean(), train.columns["height"].std()
    np.testing.assert_allclose(back, [170, mean + 2 * std, mean - 2 * std], rtol=1e-5)


def test_statistics_of_the_columns_are_saved() -> None:
    old = fit_on(table(0, 50), "standardise").feature_encoder
    values, arrays = old.state()
    new = FeatureEncoder.from_state(json.loads(json.dumps(values)), arrays, encoder=None)
    assert new.whole == old.whole == {"count"}
    assert new.ranges == old.ranges
    assert new.ranges["count"] == (table(0, 50).columns["count"].min(), table(0, 50).columns["count"].max())
    assert "colour" not in new.ranges
