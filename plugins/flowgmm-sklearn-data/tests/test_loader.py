import codecs
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.utils import Bunch

from flowgmm_cli.api import DataContext, DataError, RecipeError, SourceData
from flowgmm_sklearn_data.loader import build
from flowgmm_sklearn_data.plugin import SklearnLoaderConfig


def load(loader: str, *, offline: bool = True, **values: Any) -> SourceData:
    config = SklearnLoaderConfig(loader=loader, **values)
    return build(config, DataContext(offline=offline)).load()


def test_a_table_has_the_names_of_the_data_set() -> None:
    wine = load("load_wine")
    bunch = datasets.load_wine()
    assert [column.name for column in wine.columns] == bunch.feature_names
    assert wine.class_names == tuple(bunch.target_names)
    np.testing.assert_array_equal(wine.splits["train"].labels, bunch.target)
    np.testing.assert_array_equal(wine.splits["train"].columns["ash"], bunch.data[:, 2])


def test_images_are_a_single_column_in_0_to_1() -> None:
    digits = load("load_digits", arguments={"n_class": 2})
    (column,) = digits.columns
    assert (column.kind, column.shape) == ("vector", (8, 8))
    pixels = digits.splits["train"].columns["pixels"]
    np.testing.assert_allclose(pixels * 16, datasets.load_digits(n_class=2).images)


def test_the_seed_decides_a_drawn_set() -> None:
    first, again, other = (load("make_blobs", seed=seed).splits["train"].columns["x1"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_second_call_gives_the_test_rows() -> None:
    both = load("make_moons", arguments={"noise": 0.1}, test_arguments={"n_samples": 30})
    assert (len(both.splits["train"]), len(both.splits["test"])) == (100, 30)
    assert not set(both.splits["train"].ids) & set(both.splits["test"].ids)


def test_texts_of_a_folder_have_their_file_for_an_id(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"{index}.txt").write_text(f"{name} {index}", encoding="utf-8")
    read = load("load_files", arguments={"container_path": str(tmp_path)})
    rows = read.splits["train"]
    assert read.columns[0].kind == "text"
    assert read.class_names == ("bad", "good")
    for text, row_id, label in zip(rows.columns["text"], rows.ids, rows.labels, strict=True):
        name, index = text.split()
        assert (row_id, read.class_names[label]) == (f"train:{name}/{index}.txt", name)


def test_a_sparse_file_is_read_and_minus_1_is_a_class(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("-1 1:2 3:1\n+1 2:4\n-1 1:1\n", encoding="utf-8")
    read = load("load_svmlight_file", arguments={"f": str(tmp_path / "data")})
    assert read.class_names == ("-1", "1")
    assert [column.name for column in read.columns] == ["x1", "x2", "x3"]
    assert read.splits["train"].columns["x1"].tolist() == [2.0, 0.0, 1.0]


def test_a_value_may_mark_unlabelled_rows() -> None:
    read = load("make_hastie_10_2", arguments={"n_samples": 50}, unlabelled="-1")
    assert read.class_names == ("1",)
    assert set(read.splits["train"].labels) == {-1, 0}


def test_data_bins_makes_classes_of_about_the_same_size() -> None:
    with pytest.raises(DataError, match="a quantity for a target") as caught:
        load("load_diabetes")
    assert "data.bins" in str(caught.value.hint)
    read = load("load_diabetes", bins=3)
    target = datasets.load_diabetes().target
    labels = read.splits["train"].labels
    assert len(read.class_names) == 3
    assert np.bincount(labels).min() > len(labels) / 4
    assert target[labels == 0].max() < target[labels == 1].min()
    assert target[labels == 1].max() < target[labels == 2].min()


def test_columns_of_a_table_may_be_dropped_or_taken_for_categories() -> None:
    wine = load("load_wine", drop=["ash"], categorical=["proline"])
    kinds = {column.name: column.kind for column in wine.columns}
    assert "ash" not in kinds
    assert (kinds["proline"], kinds["alcohol"]) == ("category", "numeric")
    assert wine.splits["train"].columns["proline"][0] == "1065"
    with pytest.raises(RecipeError) as caught:
        load("load_wine", drop=["prolin"])
    assert caught.value.details == ("data.drop  no column `prolin`; did you mean `proline`?",)


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        load("make_classification", arguments={"n_sample": 3, "random_state": 1})
    assert caught.value.details == (
        "data.arguments.n_sample  make_classification has no such argument; did you mean `n_samples`?",
        "data.arguments.random_state  is given by the source: set data.seed",
    )
    with pytest.raises(RecipeError, match="cannot be called") as caught:
        load("load_files")
    assert caught.value.details == ("data.arguments.container_path  is missing",)
    with pytest.raises(RecipeError, match="n_samples"):
        load("make_moons", arguments={"n_samples": "many"})


def test_an_unknown_loader_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean `load_wine`"):
        load("load_wines")
    with pytest.raises(RecipeError, match="source of its own"):
        load("fetch_openml")


@pytest.mark.parametrize(
    "loader", ["load_linnerud", "make_multilabel_classification", "make_low_rank_matrix"]
)
def test_data_without_a_single_class_for_each_row_is_refused(loader: str) -> None:
    with pytest.raises(DataError) as caught:
        load(loader, arguments={"n_dim": 3} if loader == "make_spd_matrix" else {})
    assert caught.value.hint


@pytest.mark.parametrize("loader", ["fetch_covtype", "fetch_20newsgroups", "fetch_lfw_people"])
def test_offline_nothing_is_downloaded(loader: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this run is offline"):
        load(loader, data_home=str(tmp_path))


def test_offline_reads_what_was_downloaded_before(tmp_path: Path) -> None:
    bunch = Bunch(
        data=["a text", "another"],
        target=np.array([1, 0]),
        target_names=["x", "y"],
        filenames=np.array(["a/1", "b/2"]),
    )
    content = {"train": bunch, "test": bunch}
    packed = codecs.encode(pickle.dumps(content), "zlib_codec")
    (tmp_path / "20news-bydate_py3.pkz").write_bytes(packed)
    read = load("fetch_20newsgroups", data_home=str(tmp_path), test_arguments={"subset": "test"})
    assert sorted(read.splits["train"].columns["text"]) == ["a text", "another"]
    assert set(read.splits) == {"train", "test"}
