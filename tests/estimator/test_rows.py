"""Data frames with categories, dates and missing cells are read as the command line reads tables."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.model_selection import cross_val_score

from flowgmm_cli import FlowGMMClassifier

QUICK: dict[str, Any] = {"max_steps": 60, "hidden": 16, "random_state": 0}


def make_frame(rows: int = 200) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Return a frame of columns of all sorts with missing cells, 40 labels, and all labels."""
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, rows)
    days = pd.to_timedelta(rng.integers(0, 300, rows), unit="D")
    frame = pd.DataFrame(
        {
            "x": rng.normal(2 * k, 1),
            "dept": pd.Categorical(np.where(rng.random(rows) < 0.8, np.where(k, "IT", "HR"), "OPS")),
            "day": pd.Timestamp("2024-01-01") + days,
            "n": pd.array(rng.integers(0, 5, rows), dtype="Int64"),
            "flag": rng.random(rows) < 0.5,
        }
    )
    frame.loc[3, "x"] = np.nan
    frame.loc[4, "dept"] = None
    frame.loc[5, "n"] = pd.NA
    true = pd.Series(np.where(k, "yes", "no"))
    return frame, true.where(np.arange(rows) < 40), true


@pytest.fixture(scope="module")
def fitted() -> FlowGMMClassifier:
    frame, y, _ = make_frame()
    return FlowGMMClassifier(**QUICK).fit(frame, y)


def test_columns_of_all_sorts_are_learned(fitted: FlowGMMClassifier) -> None:
    frame, y, true = make_frame()
    assert fitted.feature_names_in_.tolist() == ["x", "dept", "day", "n", "flag"]
    assert fitted.n_features_in_ == 5
    assert fitted.score(frame, true) > 0.9
    assert fitted.score(frame, y) == (fitted.predict(frame) == true)[:40].mean()
    kinds = {column.name: column.kind for column in fitted.trained_.preprocessor.columns}
    assert kinds == {"x": "numeric", "n": "numeric", "day": "date", "dept": "category", "flag": "category"}
    scores = cross_val_score(FlowGMMClassifier(**QUICK), frame[10:90], true[10:90], cv=2)
    assert scores.min() > 0.7


def test_a_frame_means_the_same_in_every_library_and_order(fitted: FlowGMMClassifier) -> None:
    frame, _, _ = make_frame()
    p = fitted.predict_proba(frame)
    for same in (
        frame[frame.columns[::-1]],
        frame.set_index(np.arange(len(frame)) + 7).assign(other=1),
        pa.Table.from_pandas(frame, preserve_index=False),
    ):
        assert np.array_equal(fitted.predict_proba(same), p)


def test_samples_and_latents_are_frames_if_wanted(fitted: FlowGMMClassifier) -> None:
    frame, _, _ = make_frame()
    drawn, classes = fitted.sample(30, y="yes")
    assert set(classes) == {"yes"}
    assert set(drawn) == {"x", "dept", "day", "n", "flag"}
    assert set(drawn["dept"].dropna()) <= {"IT", "HR", "OPS"}
    assert drawn["n"].dtype.kind == "i"
    assert (fitted.predict(drawn) == "yes").mean() > 0.7
    latents = fitted.set_output(transform="pandas").transform(frame)
    assert latents.index.equals(frame.index)
    fitted.set_output(transform="default")


def test_a_saved_or_pickled_classifier_reads_frames(fitted: FlowGMMClassifier, tmp_path: Path) -> None:
    frame, _, _ = make_frame()
    fitted.save(tmp_path)
    for again in (FlowGMMClassifier.load(tmp_path), pickle.loads(pickle.dumps(fitted))):
        assert np.array_equal(again.predict_proba(frame), fitted.predict_proba(frame))
        assert again.sample(2)[0].equals(fitted.sample(2)[0])


def test_columns_that_are_left_out_and_unseen_categories_are_warned_of(fitted: FlowGMMClassifier) -> None:
    frame, y, _ = make_frame()
    texts = frame.assign(note=[f"a long text about row {row}" for row in range(len(frame))])
    with pytest.warns(UserWarning, match="left out `note`"):
        FlowGMMClassifier(max_steps=4, hidden=8).fit(texts, y)
    with pytest.warns(UserWarning, match="`dept`: 3 of 3 cells hold a category that training never saw"):
        fitted.predict(frame[:3].assign(dept="new"))
    with pytest.warns(UserWarning, match="X has other values than the training rows: `x` goes from"):
        fitted.predict(frame.assign(x=1000 * frame["x"]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (make_frame()[0].drop(columns="x"), "X has no column `x`"),
        (make_frame()[0].assign(x="wide"), "X, row 1: column `x` wants a number, got `wide`"),
        (np.zeros((3, 5)), "X is a ndarray; the classifier was fitted to a data frame with x, dept"),
    ],
)
def test_rows_that_do_not_fit_are_value_errors(fitted: FlowGMMClassifier, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.predict(rows)


def test_arrays_of_other_cells_than_numbers_have_a_remedy() -> None:
    for x in ([["IT", 1], ["HR", 2]], [[np.nan, 1], [2, 3]]):
        with pytest.raises(ValueError, match=r"a data frame .* may hold categories, dates and missing cells"):
            FlowGMMClassifier().fit(np.array(x, dtype=object), [0, 1])
    frame, y, _ = make_frame()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        FlowGMMClassifier().fit(frame, y[:7])


def test_a_frame_of_numbers_stays_a_matrix() -> None:
    frame, _, true = make_frame(60)
    numbers = pd.DataFrame({"x": frame["x"].fillna(0), "flag": frame["flag"]})
    by_frame = FlowGMMClassifier(**QUICK).fit(numbers, true)
    array = numbers.to_numpy(dtype=float)
    by_array = FlowGMMClassifier(**QUICK).fit(array, true)
    assert np.array_equal(by_frame.predict_proba(numbers), by_array.predict_proba(array))
