"""What a model said of single rows survives a file, and is paired by the contents of the rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.evaluation.outcomes import Outcomes, outcomes, pair

COLUMNS = (Column("x", "numeric"), Column("t", "text"))


def said(
    x: list[float], labels: list[int], *, names: tuple[str, ...] = ("a", "ü\n"), seed: int = 0
) -> Outcomes:
    rows = Rows(
        {"x": np.array(x), "t": np.array([f"row {value}" for value in x], dtype=object)},
        np.array(labels),
        np.array([str(place) for place in range(len(x))], dtype=object),
    )
    log_p = np.random.default_rng(seed).normal(size=(len(x), len(names)))
    return outcomes(rows, COLUMNS, log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True), names)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    before = said([1, 2, 3], [0, 1, 1])
    before.save(tmp_path / "eval" / "test.npz")
    after = Outcomes.load(tmp_path / "eval" / "test.npz")
    assert after is not None
    assert after.class_names == before.class_names
    for name in ("digests", "labels", "predictions", "log_probability"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_rows_without_a_label_are_left_out() -> None:
    found = said([1, 2, 3], [0, -1, 1])
    assert len(found) == 2
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("content", [b"", b"no npz", b"PK\x03\x04broken"])
def test_a_file_that_is_damaged_or_not_there_is_none(tmp_path: Path, content: bytes) -> None:
    assert Outcomes.load(tmp_path / "none.npz") is None
    (tmp_path / "bad.npz").write_bytes(content)
    assert Outcomes.load(tmp_path / "bad.npz") is None


def test_a_foreign_npz_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    assert Outcomes.load(tmp_path / "x.npz") is None


def test_rows_are_paired_by_contents_and_class_whatever_their_order() -> None:
    one, two = said([1, 2, 3, 4], [0, 1, 0, 1]), said([9, 4, 3, 1], [0, 1, 1, 0], seed=1)
    left, right = pair(one, two)
    assert left.tolist() == [0, 3]  # row 3 has another class there
    assert right.tolist() == [3, 1]


def test_classes_are_compared_by_name() -> None:
    one, two = said([1, 2], [0, 1], names=("a", "b")), said([1, 2], [1, 2], names=("0", "a", "b"))
    assert pair(one, two)[0].tolist() == [0, 1]


def test_equal_rows_are_paired_one_by_one() -> None:
    one, two = said([5, 5, 5], [0, 0, 0]), said([5, 5], [0, 0])
    left, right = pair(one, two)
    assert (left.tolist(), right.tolist()) == ([0, 1], [0, 1])
