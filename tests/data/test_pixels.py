"""Columns of images on their way to the flow's input and back."""

import math

import numpy as np
import pytest
import torch

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.data.images.format import image_shape
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.data.specs import DequantiseConfig, PcaConfig, StandardiseConfig
from flowgmm_cli.data.transforms.elementwise import Dequantise, Standardise
from flowgmm_cli.data.transforms.pca import Pca

COLOUR, GREY = Column("image", "image", (4, 6, 3)), Column("image", "image", (4, 6))


def rows(*columns, n=5):
    drawn = np.random.default_rng(0)
    cells = {column.name: drawn.integers(0, 256, (n, *column.shape), dtype=np.uint8) for column in columns}
    return Rows(cells, np.full(n, -1), np.arange(n).astype(str))


def feature_encoder(*columns):
    return FeatureEncoder.fit(rows(*columns), columns, missing="error", encoder=None)


def preprocessor(column, *transforms):
    configs = {Dequantise: DequantiseConfig(), Standardise: StandardiseConfig(), Pca: PcaConfig()}
    fitted = [make(configs[make], features=math.prod(column.shape)) for make in transforms]
    for step in fitted:
        step.fit(torch.from_numpy(feature_encoder(column).transform(rows(column), DataContext())).double())
    return Preprocessor(feature_encoder(column), Sequential(fitted))


@pytest.mark.parametrize(
    ("column", "shape"),
    [
        (GREY, (1, 4, 6)),
        (COLOUR, (3, 4, 6)),
        (Column("x", "vector", (4, 6)), (1, 4, 6)),
        (Column("x", "vector", (3, 4, 6)), (3, 4, 6)),
        (Column("x", "vector", (4, 6, 3)), (4, 6, 3)),
        (Column("x", "vector", (8, 6, 3)), None),
        (Column("x", "vector", (24,)), None),
        (Column("x", "numeric"), None),
        (Column("x", "text"), None),
    ],
)
def test_which_columns_hold_images(column, shape):
    assert image_shape(column) == shape


def test_pixels_stay_bytes_with_their_channels_first():
    given = rows(COLOUR)
    matrix = feature_encoder(COLOUR).transform(given, DataContext())
    assert matrix.dtype == np.uint8
    np.testing.assert_array_equal(matrix.reshape(5, 3, 4, 6), given.columns["image"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("column", [GREY, COLOUR])
def test_images_come_back(column):
    given, fitted = rows(column), feature_encoder(column)
    back = fitted.invert(fitted.transform(given, DataContext()).astype(float) + 0.3)["image"]
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, given.columns["image"])
    restored = FeatureEncoder.from_state(*fitted.state(), encoder=None)
    assert restored.columns == (column,)
    assert restored.ranges == {"image": (0.0, 255.0)}
    assert restored.whole == {"image"}


def test_beside_other_columns_pixels_become_numbers():
    both = Rows({**rows(GREY).columns, "age": np.arange(5.0)}, np.full(5, -1), np.arange(5))
    columns = (GREY, Column("age", "numeric"))
    fitted = FeatureEncoder.fit(both, columns, missing="error", encoder=None)
    assert fitted.transform(both, DataContext()).dtype == np.float64


def test_images_stay_images_until_something_mixes_their_pixels():
    assert preprocessor(COLOUR).shape == (3, 4, 6)
    assert preprocessor(COLOUR, Dequantise).shape == (3, 4, 6)
    assert preprocessor(GREY, Standardise).shape == (1, 4, 6)
    assert preprocessor(GREY, Pca).shape == (preprocessor(GREY, Pca).dim,)


def test_only_dequantised_pixels_have_bits():
    assert preprocessor(GREY, Dequantise).pixels == 24
    assert preprocessor(GREY, Standardise).pixels is None
    assert preprocessor(GREY).pixels is None
    assert preprocessor(GREY, Dequantise, Standardise).pixels == 24


def test_inputs_are_kept_as_bytes_and_seen_as_images():
    fitted, given = preprocessor(COLOUR, Dequantise), rows(COLOUR)
    split = fitted.apply(given, DataContext(), with_inputs=True)
    assert split.x.dtype == torch.float32
    assert split.inputs is not None
    assert split.inputs.dtype == torch.uint8
    images = fitted.to_images(split.inputs)
    np.testing.assert_array_equal(images, given.columns["image"])
    np.testing.assert_array_equal((split.x * 256).floor().to(torch.uint8), split.inputs)
    np.testing.assert_allclose(split.log_det, -72 * math.log(256))


def test_a_density_of_pixels_is_that_of_the_whole_numbers():
    # a uniform density of [0, 1)^D gives each of the 256^D images the same probability
    split = preprocessor(GREY, Dequantise).apply(rows(GREY), DataContext())
    np.testing.assert_allclose(-split.log_det / (24 * math.log(2)), 8.0)


def test_samples_become_whole_pixels():
    fitted = preprocessor(GREY, Dequantise)
    x = torch.rand(7, 24, generator=torch.Generator().manual_seed(0))
    cells = fitted.invert(x)["image"]
    assert cells.dtype == np.uint8
    np.testing.assert_array_equal(cells.reshape(7, 24), (x * 256).floor())
