from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from flowgmm_arrow.files import build
from flowgmm_arrow.plugin import ArrowConfig
from flowgmm_cli.api import DataContext, DataError, RecipeError, SourceData


def load(path: Any, **values: Any) -> SourceData:
    config = ArrowConfig(path=path if isinstance(path, list) else str(path), **{"label": "y", **values})
    return build(config, DataContext(offline=True)).load()


def write(file: Path, **columns: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if file.suffix == ".parquet":
        pq.write_table(table, file)
    else:
        feather.write_feather(table, file)
    return file


def test_columns_take_their_kind_from_the_type(tmp_path: Path) -> None:
    read = load(
        write(
            tmp_path / "t.parquet",
            n=[1, None, 3],
            flag=[True, False, None],
            word=[" red", "", None],
            coded=pa.array(["u", "v", "u"]).dictionary_encode(),
            point=pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int8())),
            y=["b", "a", None],
        )
    )
    kinds = {column.name: column.kind for column in read.columns}
    assert kinds == {
        "n": "numeric", "flag": "numeric", "word": "category", "coded": "category", "point": "vector"
    }  # fmt: skip
    rows = read.splits["train"]
    np.testing.assert_array_equal(rows.columns["n"], [1, np.nan, 3])
    np.testing.assert_array_equal(rows.columns["flag"], [1, 0, np.nan])
    assert rows.columns["word"].tolist() == ["red", None, None]
    assert rows.columns["coded"].tolist() == ["u", "v", "u"]
    np.testing.assert_array_equal(rows.columns["point"], [[1, 2], [3, 4], [5, 6]])
    assert (read.class_names, rows.labels.tolist()) == (("a", "b"), [1, 0, -1])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_folder_is_read_in_the_order_of_names_for_every_batch_size(tmp_path: Path, suffix: str) -> None:
    for part in (2, 1):
        write(tmp_path / "rows" / f"{part}{suffix}", x=[part + 0.1, part + 0.2, part + 0.3], y=[0, 1, 0])
    (tmp_path / "rows" / "_SUCCESS").touch()
    for size in (1, 2, 100):
        rows = load(tmp_path / "rows", batch_rows=size).splits["train"]
        assert rows.columns["x"].tolist() == [1.1, 1.2, 1.3, 2.1, 2.2, 2.3]
        names = [f"train:{part}{suffix}:{row}" for part in (1, 2) for row in (1, 2, 3)]
        assert rows.ids.tolist() == names


def test_patterns_and_lists_name_files_and_equal_names_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "1.parquet", x=[1.0], y=["p"])
        write(tmp_path / folder / "other.parquet", x=[2.0], y=["q"])
    item = load(tmp_path / "a" / "[0-9]*.parquet", drop=[]).splits["train"]
    assert item.ids.tolist() == ["train:1.parquet:1"]
    both = load([str(tmp_path / "a"), str(tmp_path / "b" / "1.parquet")]).splits["train"]
    assert both.ids.tolist() == ["train:a/1.parquet:1", "train:a/other.parquet:1", "train:b/1.parquet:1"]


def test_types_that_differ_between_files_are_widened(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", x=pa.array([1], pa.int8()), y=["p"])
    write(tmp_path / "2.parquet", x=[2.5], extra=[1], y=["q"])
    rows = load(tmp_path, drop=["extra"]).splits["train"]
    assert rows.columns["x"].tolist() == [1.0, 2.5]
    write(tmp_path / "3.parquet", x=["word"], y=["q"])
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, drop=["extra"])


def test_folders_of_the_form_key_value_are_a_column(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write(tmp_path / "run=7" / "rows" / f"year={year}" / "t.parquet", x=[1.0], y=["p"])
    read = load(tmp_path / "run=7" / "rows")
    assert [column.name for column in read.columns] == ["x", "year"]
    assert read.splits["train"].columns["year"].tolist() == [2023, 2024]


def test_splits_share_their_classes_and_columns(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", x=[1.0, 2.0], y=["a", "b"], k=["i", "j"])
    test = write(tmp_path / "test.arrow", x=[3.0], y=["c"], k=["l"])
    read = load(train, test_path=str(test), id="k")
    assert read.class_names == ("a", "b", "c")
    assert read.splits["test"].labels.tolist() == [2]
    assert read.splits["train"].ids.tolist() == ["i", "j"]
    lacking = write(tmp_path / "lacking.parquet", z=[3.0], y=["c"], k=["l"])
    with pytest.raises(DataError, match="has no column `x`"):
        load(train, test_path=str(lacking), id="k")


def test_texts_are_joined_and_stand_alone_unless_features_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", a=["one", None], b=["two", "three"], n=[1, 2], y=["p", "q"])
    read = load(file, text=["a", "b"])
    assert [column.name for column in read.columns] == ["text"]
    assert read.splits["train"].columns["text"].tolist() == ["one\ntwo", "three"]
    assert "n" in read.notes[0]
    more = load(file, text="b", features=["n"])
    assert [(column.name, column.kind) for column in more.columns] == [("b", "text"), ("n", "numeric")]


def test_names_of_class_labels_are_kept(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"x": datasets.Value("float32"), "y": datasets.ClassLabel(names=["z", "a"])})
    result = datasets.Dataset.from_dict({"x": [1.0, 2.0, 3.0], "y": [1, 0, -1]}, features=features)
    result.to_parquet(str(tmp_path / "t.parquet"))
    read = load(tmp_path)
    assert [read.class_names[item] for item in read.splits["train"].labels[:2]] == ["a", "z"]
    assert read.splits["train"].labels[2] == -1


def test_a_value_and_a_column_may_mark_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", x=[1, 2, 3], y=[0, -1, 1], seen=[True, False, True])
    read = load(file, unlabelled="-1", labels={"column": "seen"})
    assert read.splits["train"].labels.tolist() == [0, -1, 1]
    assert [column.name for column in read.columns] == ["x"]
    assert read.splits["train"].extras["seen"].tolist() == ["True", "False", "True"]


def test_all_unknown_names_are_reported_together(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", size=[1.0], y=["a"])
    with pytest.raises(RecipeError) as caught:
        load(file, label="why", drop=["siz"])
    assert caught.value.details == (
        "data.label  no column `why`",
        "data.drop  no column `siz`; did you mean `size`?",
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [date(2024, 1, 1)] * 2}, "type date32"),
        ({"x": [[1.0], [1.0, 2.0]]}, "different lengths"),
        ({"x": [[1.0], None]}, "an empty cell"),
        ({"x": [1.0, 2.0], "k": ["i", "i"]}, "`i` again"),
    ],
)
def test_what_is_no_input_is_a_data_error_with_a_hint(
    tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / "t.parquet", y=["a", "b"], **columns)
    with pytest.raises(DataError, match=message) as caught:
        load(file, id="k" if "k" in columns else None)
    assert caught.value.hint


def test_many_different_strings_must_be_named(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", word=[f"w{row}" for row in range(65)], y=["a"] * 65)
    with pytest.raises(DataError, match="65 different strings"):
        load(file)
    assert load(file, categorical=["word"]).columns[0].kind == "category"


def test_files_that_are_not_there_or_damaged_are_data_errors(tmp_path: Path) -> None:
    for path in ("none.parquet", "none-*.parquet", "."):
        with pytest.raises(DataError):
            load(tmp_path / path)
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "t.dat").write_bytes(b"")
    with pytest.raises(DataError, match="suffix"):
        load(tmp_path / "t.dat")
