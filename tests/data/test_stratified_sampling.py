import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.data.stratified_sampling import allocate_evenly, allocate_proportionally, shuffle_by_class

sizes = st.lists(st.integers(1, 500), min_size=1, max_size=8).map(lambda counts: dict(enumerate(counts)))


@given(sizes, st.integers(0, 1000), st.integers(0, 2))
def test_proportional_counts_are_near_the_quota(sizes, total, least):
    counts = allocate_proportionally(sizes, total, least=least)
    rows = sum(sizes.values())
    assert sum(counts.values()) == min(total, rows)
    assert all(0 <= counts[label] <= size for label, size in sizes.items())
    if least == 0:
        assert all(abs(counts[label] - min(total, rows) * size / rows) < 1 for label, size in sizes.items())
    elif least * len(sizes) <= min(total, rows):
        assert all(counts[label] >= min(least, size) for label, size in sizes.items())


@given(sizes, st.integers(0, 100))
def test_even_counts_differ_by_at_most_1(sizes, total):
    counts = allocate_evenly(sizes, total, np.random.default_rng(0))
    assert sum(counts.values()) == total
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_class_keeps_its_positions_in_a_seeded_order():
    labels = np.array([1, 0, 1, 1, 0, 2])
    order = shuffle_by_class(labels, np.array([0, 1, 2, 4]), np.random.default_rng(3))
    again = shuffle_by_class(labels, np.array([0, 1, 2, 4]), np.random.default_rng(3))
    assert {label: sorted(positions) for label, positions in order.items()} == {0: [1, 4], 1: [0, 2]}
    assert all((order[label] == again[label]).all() for label in order)
