"""Families of scores as one score."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.scores.blend import Blend, Family, select_families
from flowgmm_cli.scores.combination import Tail

RNG = np.random.default_rng(0)
VALUES = {name: RNG.normal(size=400) for name in ("near", "twin", "far")}


def test_a_trusted_family_counts_in_full_and_another_for_rows_rarer_than_one_in_twenty() -> None:
    blend = Blend.fit([Family(("near", "twin"), 1.0), Family(("far",), 0.0)], VALUES)
    tails = {name: Tail.fit(values) for name, values in VALUES.items()}
    rows = {"near": np.array([0.0, 1.0, 0.0]), "twin": np.zeros(3), "far": np.array([0.0, 0.0, 6.0])}
    ordinary, near, far = blend(rows)
    assert ordinary == pytest.approx((tails["near"](np.zeros(1)) + tails["twin"](np.zeros(1)))[0] / 2)
    assert near > ordinary
    assert far - ordinary == pytest.approx(2 * (tails["far"](np.array([6.0]))[0] - np.log(20)))
    assert blend.names == ["near", "twin", "far"]
    assert blend.describe() == "it adds the rarity of a row by near, twin, and for far rows by far"


def test_the_rarity_is_that_among_reference_rows() -> None:
    wider = 10 * VALUES["far"]
    blend = Blend.fit([Family(("near",), 1.0), Family(("far",), 0.0)], VALUES, {"far": wider})
    assert blend.tails["far"](np.array([6.0])) == Tail.fit(wider)(np.array([6.0]))
    assert blend.tails["near"](np.array([6.0])) == Tail.fit(VALUES["near"])(np.array([6.0]))


def test_it_is_restored_from_its_state() -> None:
    blend = Blend.fit([Family(("near",), 1.0), Family(("far",), 2.0)], VALUES)
    references = {name: np.sort(values) for name, values in VALUES.items()}
    again = Blend.from_state(blend.state(), references, blend.reference)
    np.testing.assert_array_equal(again(VALUES), blend(VALUES))
    assert again.families == blend.families


def test_scores_close_to_the_best_of_a_family_are_averaged_and_good_families_trusted() -> None:
    family_of = {"a": "one", "b": "one", "c": "one", "d": "two", "e": "three"}
    aurocs = {"a": 0.95, "b": 0.9, "c": 0.6, "d": 0.7, "e": 0.85}
    first, second, third = select_families(aurocs, family_of)
    assert first == Family(("a", "b"), 1.0)
    assert second == Family(("d",), 0.0)
    assert third == Family(("e",), 1.0)
    # the best family is trusted in any case
    assert select_families({"c": 0.6, "d": 0.7}, family_of) == (Family(("c",), 0.0), Family(("d",), 1.0))
