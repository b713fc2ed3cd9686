from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import Column, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data.fingerprint import row_hashes
from flowgmm_cli.data.splits import split_rows
from flowgmm_cli.errors import DataError


def rows(labels, x=None, prefix="train", **extras):
    labels = np.array(labels, dtype=np.int64)
    x = np.arange(len(labels), dtype=float) if x is None else np.array(x, dtype=float)
    ids = np.array([f"{prefix}:{row}" for row in range(len(labels))], dtype=object)
    return Rows({"x": x}, labels, ids, {k: np.array(v, dtype=object) for k, v in extras.items()})


def source(names=("a", "b"), **splits):
    return SourceData((Column("x", "numeric"),), names, splits)


def split(data, labels=None, **config):
    data = data if isinstance(data, SourceData) else source(train=data)
    return split_rows(data, labels=LabelsConfig(**labels or {}), split=SplitConfig(**config))


def parts(splits):
    return list(splits.splits.values())


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(4, 60), st.integers(4, 60), st.integers(0, 80)),
    test=st.sampled_from([0.0, 0.2, 0.5]),
    val=st.sampled_from([0.0, 0.05, 0.3]),
    val_labels=st.booleans(),
    stratify=st.booleans(),
    per_class=st.sampled_from([None, 1]),
    seed=st.integers(0, 3),
)
def test_splits_are_disjoint_complete_reproducible_and_honest(
    sizes, test, val, val_labels, stratify, per_class, seed
):
    truth = np.repeat([0, 1, -1], sizes)
    config = {"test": test, "val": val, "val_labels": val_labels, "stratify": stratify, "seed": seed}
    budget = {"per_class": per_class, "seed": seed}
    splits, again = (split(rows(truth), budget, **config) for _ in range(2))

    ids = np.concatenate([part.ids for part in parts(splits)])
    assert sorted(ids) == sorted(f"train:{row}" for row in range(len(truth)))
    assert all(
        (first.ids == second.ids).all() for first, second in zip(parts(splits), parts(again), strict=True)
    )
    for part in parts(splits):
        assert part.columns["x"].tolist() == [float(name.split(":")[1]) for name in part.ids]
        true = truth[[int(name.split(":")[1]) for name in part.ids]]
        assert ((part.labels == true) | (part.labels == -1)).all()
        if part is splits.test:
            assert (part.labels >= 0).all()
    assert set(splits.train.labels) >= {0, 1}
    if per_class == 1:
        visible = (splits.train.labels >= 0).sum()
        beyond = 0 if splits.val is None else (splits.val.labels >= 0).sum()
        assert visible + (0 if val_labels else beyond) == 2


def test_drawn_splits_keep_proportions():
    truth = np.repeat([0, 1], [800, 200])
    splits = split(rows(truth), test=0.25, val=0.1)
    assert np.bincount(splits.test.labels).tolist() == [200, 50]
    assert np.bincount(splits.val.labels).tolist() == [60, 15]


def test_validation_rows_are_unlabelled_training_rows():
    data = source(train=rows([0, 1] * 50), test=rows([0, 1], [200, 201], "test"))
    splits = split(data, {"count": 20}, val=0.3)
    assert len(splits.val) == 30
    assert (splits.val.labels == -1).all()
    assert (splits.train.labels >= 0).sum() == 20


def test_without_unlabelled_rows_validation_is_held_out_of_the_budget():
    splits = split(rows([0, 1] * 50), test=0, val=0.1)
    assert (splits.val.labels >= 0).sum() == 10
    assert (splits.train.labels >= 0).sum() == 90
    assert any("out of the labelled budget" in note for note in splits.notes)


def test_validation_labels_beyond_the_budget_leave_the_budget_whole_and_are_stated():
    splits = split(rows([0, 1] * 50), {"count": 20}, test=0, val=0.1, val_labels=True)
    assert (splits.val.labels >= 0).sum() == 10
    assert (splits.train.labels >= 0).sum() == 20
    assert any("beyond the labelled budget" in note for note in splits.notes)


def test_labels_of_a_given_validation_split_are_masked_by_default():
    data = source(train=rows([0, 1] * 5), val=rows([0, 1], [50, 51], "val"))
    hidden = split(data, test=0)
    shown = split(data, test=0, val_labels=True)
    assert hidden.val.labels.tolist() == [-1, -1]
    assert shown.val.labels.tolist() == [0, 1]


def test_training_rows_equal_to_a_test_row_go_unless_kept():
    data = source(train=rows([0, 1, 0, 1], [1, 2, 3, 4]), test=rows([0, 1], [2, 9], "test"))
    dropped = split(data, val=0)
    kept = split(data, val=0, duplicates="keep")
    assert dropped.train.columns["x"].tolist() == [1, 3, 4]
    assert kept.train.columns["x"].tolist() == [1, 2, 3, 4]
    assert any("1 training rows are equal to a test row" in note for note in dropped.notes)


def test_a_held_out_row_has_no_twin_among_the_training_rows():
    x = np.repeat(np.arange(40), 3)
    truth = np.tile([0, 1, -1], 40)
    splits = split(rows(truth, x), {"per_class": 5}, test=0.2, val=0.2)
    values = [set(part.columns["x"]) for part in parts(splits)]
    assert not values[0] & values[1]
    assert not values[0] & values[2]


def test_all_rows_equal_to_test_rows_is_an_error():
    data = source(train=rows([0, 1], [1, 2]), test=rows([0, 1], [1, 2], "test"))
    with pytest.raises(DataError, match="every training row"):
        split(data)


def test_a_class_that_only_the_test_shows_is_named():
    data = source(("a", "b", "rare"), train=rows([0, 1] * 5), test=rows([0, 2, 2], [50, 51, 52], "test"))
    with pytest.raises(DataError, match="without a labelled training row") as caught:
        split(data)
    assert caught.value.details == ("class `rare`: 2 test rows",)


def test_a_class_without_labelled_rows_is_left_out_and_the_others_are_renumbered():
    data = source(("a", "unused", "c"), train=rows([0, 2] * 5), test=rows([2, 0], [50, 51], "test"))
    splits = split(data, val=0)
    assert splits.class_names == ("a", "c")
    assert splits.test.labels.tolist() == [1, 0]
    assert any("unused" in note for note in splits.notes)


def test_unlabelled_test_rows_are_left_out_and_an_unlabelled_test_split_is_an_error():
    train = rows([0, 1] * 5)
    some = split(source(train=train, test=rows([0, -1], [50, 51], "test")))
    assert some.test.ids.tolist() == ["test:0"]
    with pytest.raises(DataError, match="no row of the test split has a label"):
        split(source(train=train, test=rows([-1], [50])))


def test_a_file_lists_the_labelled_rows_and_leaves_the_test_rows_as_they_are(tmp_path):
    data, file = rows([0, 1] * 20), tmp_path / "ids.txt"
    whole = split(data)
    file.write_text("".join(f"{name}\n" for name in whole.train.ids[:4]))
    listed = split(data, {"ids": str(file)})
    assert set(listed.train.ids[listed.train.labels >= 0]) == set(whole.train.ids[:4])
    assert (listed.test.ids == whole.test.ids).all()
    file.write_text("train:99\n")
    with pytest.raises(DataError, match="1 ids of no training row, such as train:99"):
        split(data, {"ids": str(file)})


def test_marked_rows_are_not_spent_on_the_test():
    marks = ["1"] * 10 + ["0"] * 90
    splits = split(rows([0, 1] * 50, marked=marks), {"column": "marked"}, test=0.5, val=0)
    assert (splits.train.labels >= 0).sum() == 10
    assert len(splits.test) == 45


@pytest.mark.parametrize("val_labels", [False, True])
@pytest.mark.parametrize("given", [(), ("test",), ("test", "val")])
def test_each_row_is_hashed_once_and_each_cell_copied_once(monkeypatch, given, val_labels):
    hashed, copied = [], []

    class Cells(np.ndarray):
        def __getitem__(self, index):
            copied.append(len(self))
            return np.asarray(self)[index]

    def count_hashes(some, columns):
        hashed.append(len(some))
        return row_hashes(replace(some, columns={"x": np.asarray(some.columns["x"])}), columns)

    monkeypatch.setattr("flowgmm_cli.data.splits.row_hashes", count_hashes)
    given_rows = {
        name: rows([0, 1] * 5, x=np.arange(10) + 100 * place, prefix=name)
        for place, name in enumerate(given, 1)
    }
    given_rows["train"] = rows([0, 1] * 20)
    given_rows = {
        name: replace(part, columns={"x": part.columns["x"].view(Cells)}) for name, part in given_rows.items()
    }
    splits = split(source(**given_rows), {"count": 6}, test=0.2, val=0.2, val_labels=val_labels)
    assert sorted(hashed) == sorted(len(part) for part in given_rows.values())
    assert copied == [40] * (3 - len(given) if len(given) < 2 else 0)
    assert len(splits.train) == 40 - sum(len(part) for part in parts(splits)[1:] if "train" in part.ids[0])


def test_labelled_rows_that_contradict_an_equal_row_are_counted_and_noted():
    x = [1, 2, 3, 4, 5, 6, 1, 2, 3]
    data = source(train=rows([0, 1, 0, 1, -1, 0, 1, 1, 0], x))
    ids = np.array([f"train:{row + 1}" for row in range(9)], dtype=object)
    data = replace(data, splits={"train": replace(data.splits["train"], ids=ids)})
    notes = split(data, test=0, val=0).notes
    assert notes == ("row 7 equals another row with another label",)


def test_equal_pictures_in_two_classes_are_noted():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 2, 2), dtype=np.uint8)
    pixels[9], pixels[10] = pixels[0], pixels[1]
    names = np.array([f"{'ab'[row % 2]}/{row}.png" for row in range(12)], dtype=object)
    train = Rows({"image": pixels}, np.arange(12) % 2, names)
    data = SourceData((Column("image", "image", (2, 2)),), ("a", "b"), {"train": train})
    notes = split(data, test=0, val=0).notes
    assert notes == ("2 rows equal another row with another label; the first is row b/9.png",)
