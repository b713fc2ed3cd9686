"""Dequantisation: range, noise, and density."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, pearsonr

from flowgmm_cli.data.specs import DequantiseConfig
from flowgmm_cli.data.transforms.elementwise import Dequantise
from flowgmm_cli.errors import DataError


def make(features, levels=256):
    return Dequantise(DequantiseConfig(levels=levels), features=features)


def pixels(rows=50, features=12, levels=256, seed=0, dtype=torch.float64):
    drawn = torch.randint(levels, (rows, features), generator=torch.Generator().manual_seed(seed))
    return drawn.to(dtype)


@settings(max_examples=40, deadline=None)
@example(levels=1000, seed=8, dtype=torch.float64)
@given(
    levels=st.sampled_from([2, 3, 17, 256, 1000, 65_536]),
    seed=st.integers(0, 50),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_whole_numbers_come_back_even_through_float32(levels, seed, dtype):
    v = pixels(levels=levels, seed=seed, dtype=dtype)
    v[0], v[1] = 0, levels - 1
    transform = make(12, levels)
    drawn = transform.draw(v, torch.Generator().manual_seed(seed))
    for x in (transform(v)[0], drawn):
        assert x.min() >= 0
        assert x.max() < 1
        assert torch.equal(transform.inverse(x.float().to(dtype)), v)


def test_the_log_determinant_is_the_volume_of_a_step():
    x, log_det = make(12, 256)(pixels())
    assert x.shape == (50, 12)
    assert log_det.dtype == torch.float64
    np.testing.assert_allclose(log_det, -12 * math.log(256))
    assert make(12, 256)(pixels(rows=0))[1].shape == (0,)
    z, log_det = make(5)(torch.zeros(3, 5, device="meta"))
    assert (z.shape, log_det.device.type) == ((3, 5), "meta")


def test_noise_depends_on_the_row_and_on_nothing_else():
    v = pixels(rows=30)
    transform = make(12)
    together = transform(v)[0]
    assert torch.equal(torch.cat([transform(row[None])[0] for row in v]), together)
    assert torch.equal(transform(v.flip(0))[0].flip(0), together)
    state = torch.get_rng_state()
    transform(v)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_changed_pixel_changes_all_the_noise():
    v = pixels(rows=1, features=200)
    v[0, 7] = 10
    other = v.clone()
    other[0, 7] = 11
    noise = [make(200)(row)[0] * 256 - row for row in (v, other)]
    assert (noise[0] != noise[1]).all()


@pytest.mark.parametrize("content", ["random", "black", "ramp"])
def test_noise_is_uniform_and_uncorrelated(content):
    v = pixels(rows=400, features=100)
    if content == "black":  # all rows are equal, so all the noise is: look along the row
        v = torch.zeros(1, 40_000, dtype=torch.float64)
    if content == "ramp":
        v = (torch.arange(250)[:, None] + torch.arange(160)).double() % 256
    noise = (make(v.shape[1])(v)[0] * 256 - v).numpy()
    assert kstest(noise.ravel(), "uniform").pvalue > 1e-3
    assert abs(pearsonr(noise.ravel()[1:], noise.ravel()[:-1]).statistic) < 0.02
    assert abs(pearsonr(noise.ravel(), v.numpy().ravel() if v.std() else np.arange(40_000)).statistic) < 0.02


def test_training_draws_new_noise_from_its_generator():
    v, transform = pixels(dtype=torch.float32), make(12)
    first, second = (transform.draw(v, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(first, transform.draw(v, torch.Generator().manual_seed(1)))
    assert kstest((first * 256 - v).numpy().ravel(), "uniform").pvalue > 1e-3


def test_fractions_that_views_make_are_rounded_into_the_range():
    v = torch.tensor([[-3.0, 0.4, 0.6, 254.6, 255.4, 300.0]])
    x = make(6).draw(v, torch.Generator().manual_seed(0))
    assert (x * 256).floor().tolist() == [[0, 0, 1, 255, 255, 255]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [([[0.5, 1.0]], "fractions"), ([[0.0, 256.0]], "from 0 to 256"), ([[-1.0, 3.0]], "from -1 to 3")],
)
def test_other_numbers_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        make(2).fit(torch.tensor(rows))
    make(12).fit(pixels().to(torch.uint8))
