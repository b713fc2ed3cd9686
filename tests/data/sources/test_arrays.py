import numpy as np
import pytest

from flowgmm_cli.data.sources.arrays import build
from flowgmm_cli.data.specs import ArraysConfig
from flowgmm_cli.errors import DataError

X = np.arange(12, dtype=np.float16).reshape(6, 2)


def load(path, context, **parameters):
    return build(ArraysConfig(path=str(path), **parameters), context).load()


def archive(tmp_path, **arrays):
    path = tmp_path / "with space.npz"
    np.savez(path, **arrays)
    return path


def test_an_archive_with_both_splits(tmp_path, context):
    path = archive(
        tmp_path, train=X, train_label=[0, 1, -1, 0, 1, 10], test=X[:2], test_label=np.array([1, 10])
    )
    data = load(path, context)
    assert data.class_names == ("0", "1", "10")
    assert data.splits["train"].labels.tolist() == [0, 1, -1, 0, 1, 2]
    assert data.splits["test"].labels.tolist() == [1, 2]
    assert data.columns[0].shape == (2,)
    assert data.splits["train"].columns["x"].dtype == np.float16


def test_own_keys_class_names_and_no_test(tmp_path, context):
    path = archive(tmp_path, a=X, b=[1, 0, 1, 0, -1, 1])
    data = load(path, context, x="a", y="b", class_names=["no", "yes"])
    assert data.class_names == ("no", "yes")
    assert data.splits["train"].labels.tolist() == [1, 0, 1, 0, -1, 1]
    assert set(data.splits) == {"train"}
    assert "no array `test`" in data.notes[0]


def test_npy_files_name_each_other(tmp_path, context):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", np.array([0, 1, 0, 1, 0, 1]))
    data = load(tmp_path / "x.npy", context, y=str(tmp_path / "y.npy"))
    assert data.splits["train"].labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("arrays", "parameters", "words"),
    [
        ({"train": X, "train_label": [0, 1]}, {}, "labels of shape (2,)"),
        ({"train": X, "train_labels": [0] * 6}, {}, "did you mean `train_labels`"),
        ({"train": X[:0], "train_label": []}, {}, "non-empty"),
        ({"train": X.astype(complex), "train_label": [0] * 6}, {}, "real numbers"),
        ({"train": X, "train_label": [0, 1] * 3, "test": X[:, :1], "test_label": [0] * 6}, {}, "shape (1,)"),
        ({"train": X, "train_label": [0, 1] * 3}, {"x_test": "held_out"}, "no array `held_out`"),
        ({"train": np.array([None] * 6, dtype=object), "train_label": [0] * 6}, {}, "got object"),
    ],
)
def test_mismatches_are_errors(tmp_path, context, arrays, parameters, words):
    with pytest.raises(DataError) as caught:
        load(archive(tmp_path, **arrays), context, **parameters)
    assert words in caught.value.message


def test_files_that_are_no_arrays(tmp_path, context):
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "bad.npz", context)
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.npz", context)
    (tmp_path / "x.txt").write_text("1 2 3")
    with pytest.raises(DataError, match="neither"):
        load(tmp_path / "x.txt", context)
