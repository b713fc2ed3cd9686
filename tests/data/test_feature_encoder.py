import json
from dataclasses import replace

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.feature_encoder import FeatureEncoder, UnseenCategories
from flowgmm_cli.errors import DataError

NAN, INF = np.nan, np.inf


class Lengths:
    """The length of a text, and how many training texts there were."""

    dim = 2

    def __init__(self):
        self.fitted = -1

    def fit(self, texts):
        self.fitted = len(texts)

    def encode(self, texts):
        return np.array([[len(text), self.fitted] for text in texts], np.float32).reshape(-1, 2)

    def cache_key(self):
        return None

    def state(self):
        return {"fitted": self.fitted}, {}

    def load_state(self, values, arrays):
        self.fitted = values["fitted"]


def rows(**columns):
    columns = {
        name: np.array(cells, dtype=object if isinstance(cells[0], str | None) else float)
        for name, cells in columns.items()
    }
    count = len(next(iter(columns.values())))
    return Rows(columns, np.zeros(count, np.int64), np.array([f"train:{i + 1}" for i in range(count)]))


def fit(data, *columns, missing="median", encoder=None, **options):
    return FeatureEncoder.fit(data, columns, missing=missing, encoder=encoder, **options)


def restore(fitted, encoder=None):
    values, arrays = fitted.state()
    return FeatureEncoder.from_state(json.loads(json.dumps(values)), arrays, encoder=encoder)


X = Column("x", "numeric")
COLOUR = Column("colour", "category")
TEXT = Column("text", "text")


def test_missing_and_infinite_cells_take_training_statistics(context):
    train, new = rows(x=[1, 2, 9, NAN, INF]), rows(x=[NAN, -INF, 5])
    assert fit(train, X).transform(new, context)[:, 0].tolist() == [2, 2, 5]
    assert fit(train, X, missing="mean").transform(new, context)[:, 0].tolist() == [4, 4, 5]


def test_missing_cells_are_marked_if_they_are_many(context):
    fitted = fit(rows(x=[1, 2, 3, NAN, 5, 6, 7, 8, 9, 10]), X)
    assert fitted.feature_names == ["x", "x=(missing)"]
    assert fitted.layout == [(X, slice(0, 2))]
    assert "a tenth or more of the cells of `x` is missing" in fitted.notes[1]
    features = fitted.transform(rows(x=[NAN, 4]), context)
    assert features.tolist() == [[6, 1], [4, 0]]
    assert np.array_equal(fitted.invert(features)["x"], [NAN, 4], equal_nan=True)
    assert (restore(fitted).transform(rows(x=[NAN, 4]), context) == features).all()
    assert fit(rows(x=[*range(11), NAN]), X).feature_names == ["x"]
    assert fit(rows(x=[1, 2, NAN]), X, missing="error").feature_names == ["x"]


def test_the_arrays_of_many_columns_are_searched_once():
    class Arrays(dict):
        searches = 0

        def items(self):
            self.searches += 1
            return super().items()

    columns = [Column(f"x{i}", "numeric") for i in range(30)]
    fitted = fit(Rows({column.name: np.arange(3.0) for column in columns}, np.zeros(3, int), None), *columns)
    values, arrays = fitted.state()
    arrays = Arrays(arrays)
    assert FeatureEncoder.from_state(values, arrays, encoder=None).feature_names == fitted.feature_names
    assert arrays.searches == 1


def test_missing_cells_can_be_an_error_that_names_column_count_and_row(context):
    fitted = fit(rows(x=[1, 2, 3]), X, missing="error")
    with pytest.raises(DataError, match=r"`x` is missing or infinite, .*: 2 rows, the first is train:2"):
        fitted.transform(rows(x=[1, NAN, INF]), context)


@pytest.mark.parametrize(
    ("cells", "reason"), [([NAN, NAN, INF], "missing"), ([3, 3, 3], "equal"), ([3, NAN, 3], "equal")]
)
def test_columns_that_carry_nothing_are_left_out_with_a_note(context, cells, reason):
    data = rows(x=[1, 2, 3], dull=cells)
    fitted = fit(data, Column("dull", "numeric"), X)
    assert fitted.feature_names == ["x"]
    assert fitted.notes[0].startswith("left out `dull`")
    assert reason in fitted.notes[0]
    assert fitted.transform(data, context).tolist() == [[1], [2], [3]]


def test_a_column_that_tells_the_class_is_left_out_unless_it_is_chosen():
    labels = np.arange(60) % 2
    cells = {
        "x": np.arange(60.0),
        "code": labels.astype(float),
        "name": np.array(["a", "b"] * 30, dtype=object),
    }
    data = Rows(cells, labels, np.arange(60).astype(str))
    columns = (X, Column("code", "numeric"), Column("name", "category"))

    def names(**options):
        encoder = fit(data, *columns, **options)
        return [column.name for column in encoder.columns], encoder.notes

    kept, notes = names(chosen=())
    assert kept == ["x"]
    assert "left out `code`, `name` (each of its values goes with one class only" in notes[0]
    assert names(chosen=["name"])[0] == ["x", "name"]
    assert names()[0] == ["x", "code", "name"]
    hidden = Rows(cells, np.where(np.arange(60) < 20, labels, -1), data.ids)  # 20 labels are no evidence
    assert fit(hidden, *columns, chosen=()).columns == columns


def test_nothing_left_and_text_without_an_encoder_are_errors():
    with pytest.raises(DataError, match="no input column is left"):
        fit(rows(x=[1, 1]), X)
    with pytest.raises(DataError, match="no `encoder`"):
        fit(rows(text=["a"]), TEXT)


def test_each_known_category_becomes_a_feature(context, notes):
    fitted = fit(rows(colour=["red", "blue", None, "red"]), COLOUR)
    assert fitted.feature_names == ["colour=(missing)", "colour=blue", "colour=red"]
    assert fitted.transform(rows(colour=["red", None, "green", "blue"]), context).tolist() == [
        [0, 0, 1],
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
    ]
    assert notes == ["`colour`: 1 of 4 cells hold a category that training never saw, such as `green`"]


def test_cells_that_training_never_saw_are_counted_over_chunks():
    fitted = fit(rows(flag=["True", "False", "True"]), Column("flag", "category"))
    unseen = UnseenCategories(fitted.encoders)
    unseen.add(rows(flag=["True", "False"]))
    assert list(unseen.describe()) == []
    unseen.add(rows(flag=["true", None, "x"]))
    assert [cells.text for cells in unseen.describe()] == [
        "`flag`: 2 of 5 cells hold a category that training never saw, such as `true` (did you mean `True`?)",
        "`flag`: 1 of 5 cells are empty; in training none was",
    ]


def test_categories_have_one_spelling(context):
    fitted = fit(rows(code=["1", "1.0", "01", "2.0"]), Column("code", "category"))
    assert fitted.feature_names == ["code=01", "code=1", "code=2"]
    assert "`code`: `1.0` and `1` are one category" in fitted.notes
    new = rows(code=["1.0", "2", "1.00", "01"])
    assert fitted.transform(new, context).argmax(1).tolist() == [1, 2, 1, 0]
    values, arrays = fitted.state()
    values["blocks"][0]["values"]["categories"] = ["01", "1", "1.0", "2.0"]  # as saved before this rule
    old = FeatureEncoder.from_state(values, arrays, encoder=None)
    assert old.transform(new, context).argmax(1).tolist() == [2, 3, 1, 0]


def test_many_categories_are_hashed(context):
    towns = [f"town {row}" for row in range(100)]
    town = Column("town", "category")
    fitted = fit(rows(town=[*towns, None]), town)
    assert len(fitted.feature_names) == 16
    assert "`town`: many categories, hashed into 16 features; data.categorical=[town]" in fitted.notes[0]
    new = rows(town=["town 7", None, "elsewhere", "town 7"])
    features = fitted.transform(new, context)
    assert np.abs(features).sum(1).tolist() == [1, 0, 1, 1]
    assert (features[0] == features[3]).all()
    assert fitted.invert(features) == {"town": None}
    hashed = fitted.transform(rows(town=towns), context)
    assert len({tuple(row) for row in hashed.tolist()}) > 24  # of 32 buckets with a sign
    assert abs(hashed.sum()) < 30
    assert (restore(fitted).transform(new, context) == features).all()
    assert features[0].nonzero()[0].tolist() == [7]  # in every version, or saved models change
    frequent = fit(rows(town=towns * 8), town)
    assert len(frequent.feature_names) == 100
    named = fit(rows(town=towns), town, categorical=["town"])
    assert len(named.feature_names) == 100


def test_an_empty_text_is_encoded_like_any_other(context):
    fitted = fit(rows(text=["ab", None, ""]), TEXT, encoder=Lengths)
    new = rows(text=[None, "", "abc"])
    assert fitted.transform(new, context).tolist() == [[0, 3], [0, 3], [3, 3]]
    assert fitted.transform_column("text", new, context).tolist() == [[0, 3], [0, 3], [3, 3]]
    assert fitted.invert(np.ones((2, 2))) == {"text": None}


def test_an_encoder_that_returns_nan_is_refused(context):
    class Broken(Lengths):
        def encode(self, texts):
            return np.array([[1, 1], [NAN, 1]], np.float32)

    fitted = fit(rows(text=["ab", "c"]), TEXT, encoder=Broken)
    with pytest.raises(DataError, match="no finite vector: 1 rows, the first is train:2"):
        fitted.transform(rows(text=["ab", "c"]), context)


def test_vectors_are_flattened_and_keep_constant_entries_and_their_shape(context):
    column = Column("v", "vector", (2, 2))
    values = np.arange(12, dtype=np.float16).reshape(3, 2, 2)
    values[:, 0, 0] = 1
    data = Rows({"v": values}, np.zeros(3, np.int64), np.arange(3).astype(str))
    fitted = fit(data, column)
    matrix = fitted.transform(data, context)
    assert matrix.dtype == np.float64
    assert (matrix == values.reshape(3, 4)).all()
    with pytest.raises(DataError, match=r"shape \(5,\), training had \(2, 2\)"):
        fitted.transform(replace(data, columns={"v": np.ones((3, 5))}), context)


def test_a_missing_column_has_near_matches(context):
    fitted = fit(rows(price=[1, 2]), Column("price", "numeric"))
    with pytest.raises(DataError, match="did you mean `prise`"):
        fitted.transform(rows(prise=[1, 2]), context)


def test_only_plain_numbers_have_an_exact_density():
    data = rows(x=[1, 2], colour=["a", "b"], text=["a", "b"], holes=[1, NAN])
    assert not fit(data, X).inexact
    for column in (COLOUR, TEXT):
        fitted = fit(data, X, column, encoder=Lengths)
        assert fitted.inexact
        assert column.name in fitted.inexact[0]
    assert "missing cells of `x` are filled in" in fit(rows(x=[1, 2, NAN]), X).inexact[0]


def test_state_is_json_and_arrays_and_restores_everything(context):
    data = rows(x=[1, NAN, 4], colour=["b", "a", None], text=["q", "", "rst"])
    old = fit(data, X, COLOUR, TEXT, encoder=Lengths)
    new = restore(old, Lengths)
    for name in ("feature_names", "columns", "notes", "inexact"):
        assert getattr(new, name) == getattr(old, name)
    fresh = rows(x=[NAN, 2], colour=["a", "zebra"], text=["", "longer"])
    assert (new.transform(fresh, context) == old.transform(fresh, context)).all()


def test_the_layout_tells_where_each_column_is(context):
    data = rows(x=[1, 2, 3], dull=[1, 1, 1], colour=["red", "blue", "red"])
    data.columns["image"] = np.arange(18.0).reshape(3, 2, 3)
    image = Column("image", "vector", (2, 3))
    fitted = fit(data, X, Column("dull", "numeric"), COLOUR, image)
    assert fitted.layout == [(X, slice(0, 1)), (COLOUR, slice(1, 3)), (image, slice(3, 9))]
    matrix = fitted.transform(data, context)
    assert (matrix[:, 3:9].reshape(3, 2, 3) == data.columns["image"]).all()
