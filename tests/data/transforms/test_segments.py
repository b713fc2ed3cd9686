"""The guide table against a binary search of numpy, for knots and values of every size."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.data.transforms.quantile import Quantile
from flowgmm_cli.data.transforms.segments import Segments, search

ANY = st.floats(allow_nan=False, allow_infinity=False)
NEAR = st.floats(-3, 3)


def expected(knots: torch.Tensor, values: torch.Tensor) -> np.ndarray:
    rows = zip(knots.numpy(), values.numpy(), strict=True)
    found = np.stack([np.searchsorted(own, row, side="right") - 1 for own, row in rows])
    return found.clip(0, knots.shape[1] - 2)


@given(
    drawn=st.one_of(st.lists(kind, min_size=3, max_size=60, unique=True) for kind in (ANY, NEAR)),
    values=st.lists(st.one_of(ANY, NEAR), max_size=60),
)
def test_it_finds_what_a_binary_search_finds(drawn: list[float], values: list[float]) -> None:
    knots = torch.tensor([sorted(drawn)], dtype=torch.float64)
    inside = (knots[:, 1:] / 2 + knots[:, :-1] / 2)[0].tolist()
    beside = [math.nextafter(knot, way) for knot in drawn for way in (-math.inf, math.inf)]
    points = torch.tensor([[*values, *drawn, *inside, *beside, math.inf, -math.inf]], dtype=torch.float64)
    wanted = expected(knots, points)
    assert np.array_equal(Segments(knots)(points).numpy(), wanted)
    assert np.array_equal(search(knots, points).numpy(), wanted)


def test_features_with_and_without_a_table_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    normal, heavy = rng.normal(size=(2, 200)), np.exp(rng.normal(size=(2, 200)) * 20)
    knots = torch.from_numpy(np.sort(np.stack([normal[0], heavy[0], normal[1], heavy[1]]), axis=1))
    points = torch.cat([knots, knots + 1e-12, -knots, torch.from_numpy(rng.normal(size=(4, 500)))], 1)
    table = Segments(knots)
    assert table._others.tolist() == [1, 3]
    assert np.array_equal(table(points).numpy(), expected(knots, points))


def test_a_value_that_is_no_number_lies_in_some_segment() -> None:
    knots = torch.linspace(0, 1, 30, dtype=torch.float64)[None]
    assert 0 <= int(Segments(knots)(torch.tensor([[torch.nan]]).double())) < 29


def test_a_table_of_other_knots_is_not_used() -> None:
    rng = np.random.default_rng(1)
    one, other = (torch.from_numpy(rng.normal(size=(5000, 2)) * scale) for scale in (1, 7))
    transform, fresh = Quantile(2), Quantile(2)
    transform.fit(one)
    assert Segments.worth(transform.inputs, one.T)
    for row in (one[:1], one):
        assert torch.equal(transform(row)[0][0], transform(one)[0][0])
    fresh.fit(other)
    transform.load_state_dict(fresh.state_dict())
    assert torch.equal(transform(one)[0], fresh(one)[0])
    single = torch.cat([transform(row[None])[0] for row in one[:50]])  # by binary search
    assert torch.equal(single, transform(one)[0][:50])
    assert transform.inverse(transform(one)[0]).numpy() == pytest.approx(one.numpy())


def test_on_other_devices_there_is_no_table_for_it_would_wait_and_live_on_the_cpu() -> None:
    transform = Quantile(2)
    transform.fit(torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).double())
    rows = torch.zeros(5000, 2, dtype=torch.float64)
    assert Segments.worth(transform.inputs, rows.T)
    there = transform.to("meta")
    z, log_det = there(rows.to("meta"))
    assert (z.shape, log_det.shape, z.device.type) == (rows.shape, (5000,), "meta")
    assert not there._segments
