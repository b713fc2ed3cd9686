"""Dates: formats, seconds, features, and the way back."""

from __future__ import annotations

import json
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.dates import ISO, find_date_format, format_dates, is_day_first, parse_dates
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.errors import DataError

CONTEXT = DataContext()
DAY = 86400


def cells(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-01-31", "1999-12-01"], ISO),
        (["2024-01-31T10:00:00Z", "2024-01-31 10:00:00.123"], ISO),
        (["31.12.2024", "1.2.1999"], "%d.%m.%Y"),
        (["12/31/2024", "01/02/1999"], "%m/%d/%Y"),
        (["31/12/99", "1/2/99"], "%d/%m/%y"),
        (["31/12/2024 10:30", "01/02/1999 23:59"], "%d/%m/%Y %H:%M"),
        (["10:30", "23:59"], "%H:%M"),
        (["10:30:05", "23:59:59"], "%H:%M:%S"),
        (["3 Mar 2020", "14 Jul 1999"], "%d %b %Y"),
        (["March 3, 2020", "July 14, 1999"], "%B %d, %Y"),
        (["NA", "2024-01-31", "-"], ISO),
        ([*(f"{day:02d}/{month:02d}/2024" for day in range(1, 29) for month in range(1, 13))], "%d/%m/%Y"),
        ([*(f"{month:02d}/{day:02d}/2024" for day in range(1, 29) for month in range(1, 13))], "%m/%d/%Y"),
    ],
)
def test_the_format_of_dates_is_found(values: list[str], form: str) -> None:
    assert find_date_format(values) == form
    seconds, odd = parse_dates(cells(values), form)
    assert len(odd) == 0
    assert np.isnan(seconds).tolist() == [value in ("NA", "-") for value in values]


@pytest.mark.parametrize(
    "values",
    [["1.5", "2.5"], ["red", "blue"], ["2024", "1999"], ["1-2", "3-4"], ["20240131"], ["10.0.0.1"], []],
)
def test_other_cells_are_not_dates(values: list[str]) -> None:
    assert find_date_format(values) is None


def test_dates_that_may_be_month_first_are_remarked() -> None:
    assert "`1/2/2024` is read day first" in is_day_first(["1/2/2024", "3/4/2024"], "%d/%m/%Y")
    assert is_day_first(["1/2/2024", "31/4/2024"], "%d/%m/%Y") == ""
    assert is_day_first(["2024-01-02"], ISO) == ""


@pytest.mark.parametrize(
    ("values", "kind", "seconds"),
    [
        ([date(1970, 1, 2), None], pa.date32(), [DAY, np.nan]),
        ([datetime(1970, 1, 1, 1), None], pa.timestamp("ns"), [3600, np.nan]),
        ([time(1, 0), None], pa.time32("s"), [3600, np.nan]),
        (["1970-01-02", "", " 1970-01-01T00:00:01.5 "], None, [DAY, np.nan, 1.5]),
        (["1970-01-01T02:00:00+02:00"], None, [0]),
    ],
)
def test_seconds_do_not_depend_on_the_type_of_the_cells(
    values: list[Any], kind: pa.DataType | None, seconds: list[float]
) -> None:
    assert np.array_equal(parse_dates(cells(values, kind), ISO)[0], seconds, equal_nan=True)


def test_cells_of_another_format_are_named() -> None:
    seconds, odd = parse_dates(cells(["2024-01-31", "soon", None, "31.1.2024"]), ISO)
    assert odd.tolist() == [1, 3]
    assert np.isnan(seconds[1:]).all()


def fit(
    values: list[str], form: str, parts: list[str] | None = None, missing: Any = "median"
) -> tuple[FeatureEncoder, Rows]:
    seconds, _ = parse_dates(cells(values), form)
    rows = Rows({"t": seconds}, np.full(len(seconds), -1), np.arange(len(seconds)).astype(str))
    options = {} if parts is None else {"dates": parts}
    return FeatureEncoder.fit(
        rows, [Column("t", "date", format=form)], missing=missing, encoder=None, **options
    ), rows


def test_a_date_becomes_days_and_cycles() -> None:
    encoder, rows = fit(["2024-01-01", "2024-04-03T06:00:00", "2023-12-31T12:00:00"], ISO)
    cycles = [f"t[{part} {wave}]" for part in ("month", "weekday", "hour") for wave in ("sin", "cos")]
    assert encoder.feature_names == ["t[days]", *cycles]
    features = encoder.transform(rows, CONTEXT)
    assert features[:, 0].tolist() == [0.5, 93.75, 0.0]
    np.testing.assert_allclose(features[:, 1], np.sin(2 * np.pi * np.array([0, 3, 11]) / 12))
    np.testing.assert_allclose(features[:, 4], np.cos(2 * np.pi * np.array([0, 2, 6]) / 7))  # a Monday first
    np.testing.assert_allclose(features[:, 5], np.sin(2 * np.pi * np.array([0, 6, 12]) / 24), atol=1e-9)


def test_parts_that_do_not_differ_are_left_out() -> None:
    assert fit(["2024-01-01", "2024-01-08"], ISO)[0].feature_names == ["t[days]"]
    assert fit(["2024-01-01", "2024-01-08", "2024-02-05"], ISO, ["month"])[0].feature_names == [
        "t[month sin]", "t[month cos]"
    ]  # fmt: skip
    with pytest.raises(DataError, match="no input column is left"):
        fit(["2024-01-01", "2024-01-08"], ISO, ["month"])


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-01-31", "1999-12-01", "2011-06-15"], ISO),
        (["2024-01-31T10:20:30", "2024-01-01T00:00:00"], ISO),
        (["31.12.2024", "01.02.1999"], "%d.%m.%Y"),
        (["31/12/2024 10:30", "01/02/1999 23:59"], "%d/%m/%Y %H:%M"),
        (["10:30", "23:59", "00:00"], "%H:%M"),
    ],
)
def test_dates_come_back_as_they_were_written(values: list[str], form: str) -> None:
    encoder, rows = fit(values, form)
    state, arrays = encoder.state()
    restored = FeatureEncoder.from_state(json.loads(json.dumps(state)), arrays, encoder=None)
    assert restored.columns == encoder.columns
    features = restored.transform(rows, CONTEXT)
    assert (features == encoder.transform(rows, CONTEXT)).all()
    back = restored.invert(features)["t"]
    assert back is not None
    assert format_dates(back, form).tolist() == values


def test_missing_dates_take_the_median_and_are_marked() -> None:
    encoder, rows = fit(["2024-01-01", "", "2024-01-03", "2024-01-08"], ISO)
    assert encoder.feature_names[-1] == "t=(missing)"
    features = encoder.transform(rows, CONTEXT)
    assert features[:, 0].tolist() == [0, 2, 2, 7]
    assert features[:, -1].tolist() == [0, 1, 0, 0]
    back = encoder.invert(features)["t"]
    assert back is not None
    assert format_dates(back, ISO).tolist() == ["2024-01-01", None, "2024-01-03", "2024-01-08"]
    strict, _ = fit(["2024-01-01", "2024-01-03"], ISO, missing="error")
    with pytest.raises(DataError, match="`t` is missing or infinite"):
        strict.transform(rows, CONTEXT)


def test_cycles_alone_have_no_inverse() -> None:
    encoder, rows = fit(["2024-01-01", "2024-03-05"], ISO, ["month"])
    assert encoder.invert(encoder.transform(rows, CONTEXT)) == {"t": None}
