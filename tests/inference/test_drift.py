"""New rows against a summary of the training rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.column_encoders import ColumnEncoder
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.evaluation.result_warnings import ResultWarning
from flowgmm_cli.inference import drift
from flowgmm_cli.inference.drift import SAMPLE_ROWS, Drift
from flowgmm_cli.inference.row_summary import summarise_rows
from flowgmm_cli.inference.scores import OODRule, Totals
from flowgmm_cli.trained_model import TrainedModel

RNG = np.random.default_rng(0)
SENSORS = {
    "a": RNG.normal(20, 5, 500),
    "b": RNG.uniform(0.7, 1.1, 500),
    "year": RNG.integers(1990, 2021, 500) + 0.0,
}
VECTOR = {"v": RNG.normal([0, 5, 0], size=(500, 3))}
IMAGES = {"photo": RNG.random((500, 4, 4)) * RNG.uniform(0.2, 1, (500, 1, 1))}
DATES = {"day": 86400.0 * RNG.integers(18000, 19000, 500)}
WORDS = ["my", "card", "was", "lost", "call", "the", "bank"]
TEXTS = {"body": np.array([" ".join(RNG.choice(WORDS, 6)) for _ in range(200)], dtype=object)}
KINDS: dict[str, Any] = {"v": "vector", "photo": "vector", "day": "date", "body": "text"}


def rows_of(columns: dict[str, Any]) -> Rows:
    count = len(next(iter(columns.values())))
    arrays = {name: np.asarray(cells) for name, cells in columns.items()}
    return Rows(arrays, np.full(count, -1), np.arange(count).astype(str))


@pytest.fixture
def compare(make_trained: Callable[..., TrainedModel]) -> Callable[..., list[ResultWarning]]:
    """Compare new rows, in chunks, with training rows."""

    class Unread(ColumnEncoder):
        """A column that is compared before it is encoded."""

        def transform(self, cells: Any, context: Any) -> Any:
            pytest.fail("cells are compared before they are encoded")

        def invert(self, features: Any) -> Any:
            pytest.fail("cells are compared before they are encoded")

    def run(
        training: dict[str, Any], new: dict[str, Any], *, flagged: int = 0, parts: int = 2
    ) -> list[ResultWarning]:
        columns = [
            Column(name, KINDS.get(name, "numeric"), np.shape(cells)[1:], "ISO 8601" if name == "day" else "")
            for name, cells in training.items()
        ]
        encoder = FeatureEncoder([Unread(column) for column in columns])
        facts = {"training_rows": summarise_rows(rows_of(training), columns)}
        trained = replace(make_trained(), preprocessor=Preprocessor(encoder, Sequential()), facts=facts)
        sample, rows = Drift(trained, "new.csv"), rows_of(new)
        for part in np.array_split(np.arange(len(rows)), parts):
            sample.add(rows.take(part))
        return sample.warnings(Totals(n=len(rows), flagged=flagged), OODRule("nll", 1.0, 0.05))

    return run


def changed(columns: dict[str, Any], count: int = 30, **changes: Callable[[Any], Any]) -> dict[str, Any]:
    """The first rows of training with changed columns."""
    return {name: changes.get(name, lambda cells: cells)(cells[:count]) for name, cells in columns.items()}


@pytest.mark.parametrize(
    ("training", "new", "text"),
    [
        (SENSORS, changed(SENSORS, b=lambda b: 1000 * b), "in training from 0.7001 to 1.1: another unit?"),
        (SENSORS, changed(SENSORS, b=lambda b: b / 100), "in training from 0.7001 to 1.1: another unit?"),
        (SENSORS, changed(SENSORS, a=lambda a: 1.8 * a + 32), "`a` goes from "),
        (VECTOR, changed(VECTOR, v=lambda v: v * [1, 10, 1]), "`v[1]` goes from "),
        (IMAGES, changed(IMAGES, photo=lambda p: p * 255), ": another unit?"),
        (IMAGES, changed(IMAGES, photo=lambda p: p / 255), ": another unit?"),
        (DATES, changed(DATES, day=lambda day: day + 172.8e6), "in training from 2019-04-14 to 2022-01-0"),
        (SENSORS, changed(SENSORS, b=lambda b: b * np.nan), "`b` is missing in 30 of 30 rows, in training"),
    ],
)
def test_another_range_or_unit_is_named(
    compare: Callable[..., list[ResultWarning]], training: Any, new: Any, text: str
) -> None:
    (warning,) = compare(training, new)
    assert text in warning.text
    assert len(warning.values["columns"]) == 1


@pytest.mark.parametrize(
    ("training", "new"),
    [
        (SENSORS, SENSORS),
        (SENSORS, {name: cells[SENSORS["year"] > 2017] for name, cells in SENSORS.items()}),
        (SENSORS, changed(SENSORS, a=lambda a: a * 0 + 20)),
        (SENSORS, changed(SENSORS, 2, a=lambda a: np.array([20, 99]))),
        (VECTOR, changed(VECTOR)),
        (IMAGES, changed(IMAGES, photo=lambda p: p / 2)),
        (TEXTS, changed(TEXTS)),
    ],
)
def test_rows_like_those_of_training_give_no_warning(
    compare: Callable[..., list[ResultWarning]], training: Any, new: Any
) -> None:
    assert compare(training, new) == []


def test_flags_beyond_their_usual_share_give_a_warning(compare: Callable[..., list[ResultWarning]]) -> None:
    (shifted,) = compare(SENSORS, changed(SENSORS, a=lambda a: np.sort(SENSORS["a"])[-30:]), flagged=20)
    text = "20 of the 30 rows of new.csv are flagged as out of distribution, 5 % would"
    assert shifted.text.startswith(text)
    assert "most in the medians of `a` (" in shifted.text
    (later,) = compare(DATES, changed(DATES, day=lambda day: np.sort(DATES["day"])[-30:]), flagged=20)
    assert re.search(r"medians of `day` \(2021-\d\d-\d\dT.*, in training 20", later.text)
    expected = {"kind": "flagged", "flagged": 20, "rows": 30, "usual_share": 0.05}
    assert shifted.to_dict().items() >= expected.items()
    flagged, unit = compare(SENSORS, changed(SENSORS, b=lambda b: 1000 * b), flagged=30)
    assert (flagged.kind, unit.kind) == ("flagged", "range")
    assert flagged.text.endswith("would be usual")  # the next warning explains it
    assert compare(SENSORS, changed(SENSORS), flagged=2) == []


def test_of_a_model_without_a_summary_only_flags_are_compared(
    make_trained: Callable[..., TrainedModel],
) -> None:
    sample = Drift(make_trained(), "new.csv")
    sample.add(rows_of({"x": np.full((20, 2), 1e6)}))
    found = sample.warnings(Totals(n=20, flagged=20), OODRule("nll", 1.0, 0.05))
    assert [warning.kind for warning in found] == ["flagged"]


@pytest.mark.parametrize("text", ["meine Karte ist leider weg und weiter nichts", "1234567", "?!"])
def test_texts_of_other_words_are_counted(compare: Callable[..., list[ResultWarning]], text: str) -> None:
    cells = np.array([*TEXTS["body"][:17], *[text] * 23, "", None], dtype=object)
    (warning,) = compare(TEXTS, {"body": cells})
    assert warning.text.startswith("23 of the 40 texts of new.csv have few words in common with the training")
    assert warning.values["texts"] == 23


def test_the_sample_is_spread_over_an_input_of_any_length(
    compare: Callable[..., list[ResultWarning]], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(10 * SAMPLE_ROWS, dtype=np.float64)
    (warning,) = compare({"a": values / 1e6}, {"a": values}, parts=33)
    (found,) = warning.values["columns"]
    assert SAMPLE_ROWS <= found["rows"] <= 2 * SAMPLE_ROWS
    assert found["range"] == [0, pytest.approx(len(values), rel=0.001)]
    assert f"(of {found['rows']:,} rows that were compared)" in warning.text
    monkeypatch.setattr(drift, "_MAX_NUMBERS", 500)  # as of a wide table
    (warning,) = compare({"a": values / 1e6}, {"a": values}, parts=33)
    assert 500 <= warning.values["columns"][0]["rows"] <= 1000
