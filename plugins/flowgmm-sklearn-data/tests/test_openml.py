import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from flowgmm_cli.api import DataContext, DataError, SourceData
from flowgmm_sklearn_data.conformance import write_download
from flowgmm_sklearn_data.openml import build
from flowgmm_sklearn_data.plugin import OpenMLConfig

ROWS = [["1.5", "1", "no"], ["?", "0", "yes"], ["-2", "?", "yes"], ["4", "1", "no"], ["5", "1", "?"]]


@pytest.fixture
def home(tmp_path: Path) -> str:
    columns = {"size": "numeric", "flag": ["0", "1"], "class": ["yes", "no"]}
    write_download(str(tmp_path), 7, columns, ROWS, target="class")
    return str(tmp_path)


def load(**values: Any) -> SourceData:
    return build(OpenMLConfig(**values), DataContext(offline=True)).load()


@pytest.mark.parametrize("which", [{"id": 7}, {"name": "made"}])
def test_numbers_are_numbers_and_categories_are_categories(home: str, which: dict[str, Any]) -> None:
    read = load(data_home=home, **which)
    assert [(item.name, item.kind) for item in read.columns] == [("size", "numeric"), ("flag", "category")]
    rows = read.splits["train"]
    np.testing.assert_array_equal(rows.columns["size"], [1.5, np.nan, -2, 4, 5])
    assert rows.columns["flag"].tolist() == ["1", "0", None, "1", "1"]
    assert read.class_names == ("no", "yes")
    assert rows.labels.tolist() == [0, 1, 1, 0, -1]


def test_another_column_may_be_the_class(home: str) -> None:
    read = load(data_home=home, id=7, label="flag", drop=["class"])
    assert read.class_names == ("0", "1")
    assert read.splits["train"].labels.tolist() == [1, 0, -1, 1, 1]
    with pytest.raises(DataError, match="did you mean `flag`"):
        load(data_home=home, id=7, label="flags")


def test_texts_are_joined(home: str) -> None:
    columns = {"title": "string", "body": "string", "class": ["a", "b"]}
    write_download(home, 8, columns, [["'One'", "'two three'", "a"], ["'Four'", "?", "b"]], target="class")
    read = load(data_home=home, id=8, text=["title", "body"])
    assert read.splits["train"].columns["text"].tolist() == ["One\ntwo three", "Four"]


def test_offline_what_is_not_there_is_refused(home: str) -> None:
    before = getattr(urllib.request, "_opener", None)
    with pytest.raises(DataError, match="this run is offline") as caught:
        load(data_home=home, id=9)
    assert "data.data_home" in str(caught.value.hint)
    assert getattr(urllib.request, "_opener", None) is before


@pytest.mark.parametrize("values", [{}, {"id": 1, "name": "iris"}, {"id": 1, "version": 2}])
def test_a_data_set_has_an_id_or_a_name(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OpenMLConfig(**values)
