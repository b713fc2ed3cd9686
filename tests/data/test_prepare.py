import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from flowgmm_cli.api import Column, LabelsConfig, Rows, SourceData, SplitConfig
from flowgmm_cli.data import prepare
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.preprocessor import Preprocessor
from flowgmm_cli.errors import DataError


@pytest.fixture
def digits(component):
    transforms = [component("transform", "pca", dim=0.95), component("transform", "clip", limit=6.0)]
    return component("data", "sklearn", name="digits", labels=LabelsConfig(count=100), transforms=transforms)


@pytest.fixture
def table(component, tmp_path):
    """A csv with numbers, categories, text and holes."""
    rng = np.random.default_rng(0)
    lines = ["x,hole,colour,text,label"]
    for row in range(120):
        label = row % 3
        hole = "" if row % 5 == 0 else f"{rng.normal():.4f}"
        name = ["red", "blue", ""][rng.integers(3)]
        text = ["ball goal", "vote law", "stock price"][label] if row != 7 else ""
        lines.append(f"{rng.normal(label):.4f},{hole},{name},{text} {row},{'abc'[label] if row % 2 else ''}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines))
    return component(
        "data",
        "csv",
        path=str(path),
        label="label",
        text="text",
        features=["x", "hole", "colour"],
        encoder=component("encoder", "tfidf_svd", dim=8, min_df=1),
        transforms=[component("transform", "quantile"), component("transform", "standardise")],
    )


def fit(data, context):
    rows = load_rows(data, context)
    return rows, fit_preprocessor(rows, data, context)


def test_rows_come_divided_with_labels_hidden(digits, context):
    rows = load_rows(digits, context)
    assert (rows.train.labels >= 0).sum() == 100
    assert (rows.val.labels == -1).all()
    assert (rows.test.labels >= 0).all()
    assert not rows.val_labels
    assert len(rows.train) + len(rows.val) + len(rows.test) == 1797


def test_the_fingerprint_follows_what_may_be_seen(component, context):
    def of(**parameters):
        return load_rows(component("data", "sklearn", name="two_moons", **parameters), context).fingerprint

    base = of()
    assert base == of()
    assert base == of(transforms=[])
    assert len({base, of(seed=1), of(labels=LabelsConfig(per_class=3)), of(split=SplitConfig(seed=1))}) == 4


def test_tensors_have_the_promised_types(digits, context):
    rows, preprocessor = fit(digits, context)
    split = preprocessor.apply(rows.train, context)
    assert split.x.dtype == torch.float32
    assert split.x.shape == (len(rows.train), preprocessor.dim)
    assert split.log_det.dtype == torch.float64
    assert split.labels.dtype == torch.int64
    assert split.labels.tolist() == rows.train.labels.tolist()
    assert split.ids.tolist() == rows.train.ids.tolist()
    assert len(split) == len(rows.train)


def test_the_feature_matrix_is_kept_on_request(digits, context):
    rows, preprocessor = fit(digits, context)
    split = preprocessor.apply(rows.train, context, with_inputs=True)
    assert split.inputs.dtype == torch.float32
    pixels = rows.train.columns["pixels"].reshape(len(rows.train), -1)
    assert torch.equal(split.inputs, torch.from_numpy(pixels).float())
    plain = preprocessor.apply(rows.train, context)
    assert torch.equal(split.x, plain.x)
    assert plain.inputs is None


def test_everything_is_fitted_on_training_rows_alone(digits, table, context):
    for data in (digits, table):
        rows = load_rows(data, context)
        columns = {
            name: np.full_like(cells, "foreign words" if cells.dtype == object else 1e9)
            for name, cells in rows.test.columns.items()
        }
        poisoned = replace(rows, splits={"train": rows.train, "test": replace(rows.test, columns=columns)})
        first, second = (fit_preprocessor(some, data, context) for some in (rows, poisoned))
        assert torch.equal(first.apply(rows.train, context).x, second.apply(rows.train, context).x)


def test_hidden_labels_cannot_matter(table, context):
    rows = load_rows(table, context)
    other = replace(rows, splits={"train": replace(rows.train, labels=np.full_like(rows.train.labels, -1))})
    first, second = (fit_preprocessor(some, table, context) for some in (rows, other))
    assert torch.equal(first.apply(rows.train, context).x, second.apply(rows.train, context).x)


def test_state_survives_json_and_safetensors(digits, table, context):
    for data in (digits, table):
        rows, old = fit(data, context)
        values, arrays = old.state()
        values, arrays = json.loads(json.dumps(values)), load(save(arrays))
        new = Preprocessor.from_state(values, arrays, data=data, context=context)
        for split in (rows.train, rows.val, rows.test):
            first, second = old.apply(split, context), new.apply(split, context)
            assert torch.equal(first.x, second.x)
            assert torch.equal(first.log_det, second.log_det)
        assert (new.dim, new.notes, new.inexact) == (old.dim, old.notes, old.inexact)


def test_log_det_is_the_sum_over_all_transforms(component, context):
    transforms = [component("transform", name) for name in ("standardise", "quantile", "pca", "scale")]
    data = component("data", "sklearn", name="pinwheel", transforms=transforms)
    rows, preprocessor = fit(data, context)
    assert not preprocessor.inexact
    split = preprocessor.apply(rows.test.take(np.arange(5)), context)
    features = torch.from_numpy(preprocessor.feature_encoder.transform(rows.test.take(np.arange(5)), context))
    for row, log_det in zip(features, split.log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda first: preprocessor.transforms(first[None])[0][0], row
        )
        assert torch.linalg.slogdet(jacobian)[1].item() == pytest.approx(log_det.item())


def test_what_makes_the_density_inexact_is_listed(table, digits, context):
    for data, words in ((table, ("texts", "filled in", "categories")), (digits, ("pca keeps", "clip"))):
        reasons = "; ".join(fit(data, context)[1].inexact)
        assert [word for word in words if word in reasons] == list(words)


def test_no_transforms_leave_the_features_as_they_are(component, context):
    data = component("data", "sklearn", name="two_moons", transforms=[])
    rows, preprocessor = fit(data, context)
    split = preprocessor.apply(rows.test, context)
    assert preprocessor.dim == 2
    assert preprocessor.apply(rows.test.take(np.arange(0)), context).x.shape == (0, 2)
    assert split.x[:, 0].tolist() == rows.test.columns["x1"].astype(np.float32).tolist()
    assert (split.log_det == 0).all()


def test_values_beyond_float32_are_an_error(component, context):
    data = component("data", "sklearn", name="two_moons", transforms=[])
    rows, preprocessor = fit(data, context)
    far = replace(rows.test, columns={name: cells * 1e300 for name, cells in rows.test.columns.items()})
    with pytest.raises(DataError, match="too large"):
        preprocessor.apply(far, context)


@pytest.mark.parametrize(
    ("labels", "ids", "words"),
    [([0, 1, 0], ["a"], "differ in length"), ([], [], "no rows"), ([0, 5], ["a", "b"], "not an index")],
)
def test_a_source_that_breaks_its_contract_is_refused(component, context, monkeypatch, labels, ids, words):
    rows = Rows({"x": np.zeros(len(labels))}, np.array(labels, np.int64), np.array(ids))

    class Broken:
        def load(self):
            return SourceData((Column("x", "numeric"),), ("a", "b"), {"train": rows})

    monkeypatch.setattr(prepare, "build", lambda *_: Broken())
    with pytest.raises(DataError, match=words):
        load_rows(component("data", "sklearn", name="digits"), context)


def test_ag_news_is_encoded_once(component, context, shared_data):
    options = {"labels": LabelsConfig(count=200), "transforms": [component("transform", "pca", dim=32)]}
    data = component("data", "hf_text", path=str(shared_data / "ag_news_hub"), **options)
    rows = load_rows(data, context)
    rows = replace(rows, splits={"train": rows.train.take(np.arange(3000))})
    requests = []
    context = replace(context, progress=lambda done, total, what: requests.append(total))
    first = fit_preprocessor(rows, data, context).apply(rows.train, context)
    assert max(requests) == 3000
    requests.clear()
    second = fit_preprocessor(rows, data, context).apply(rows.train, context)
    assert requests == []
    assert torch.equal(first.x, second.x)


def _two_columns(component, context, missing):
    data = component("data", "csv", path="unused", label="y", missing=missing)
    values = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([0.0, 1.0, 5.0])}
    rows = Rows(values, np.array([0, 1, -1]), np.array(["1", "2", "3"]))
    columns = (Column("a", "numeric"), Column("b", "numeric"))
    splits = prepare.SplitData(columns, ("u", "v"), {"train": rows})
    return fit_preprocessor(splits, data, context)


def test_rows_that_cannot_be_used_are_left_out_with_the_reason(component, context):
    preprocessor = _two_columns(component, context, "error")
    cells = {"a": np.array([1.0, np.nan, 2.0, 1e300, 3.0]), "b": np.array([0.0, 1.0, np.inf, 1.0, 2.0])}
    rows = Rows(cells, np.array([0, 1, -1, 1, 0]), np.array(list("pqrst")))
    split, problems = preprocessor.apply_valid(rows, context, with_inputs=True)
    assert list(problems) == [1, 2, 3]
    assert "`a` is missing" in problems[1]
    assert "`b` is missing or infinite" in problems[2]
    assert "too large" in problems[3]
    expected = preprocessor.apply(rows.take(np.array([0, 4])), context, with_inputs=True)
    assert split.ids.tolist() == ["p", "t"]
    for name in ("x", "log_det", "labels", "inputs"):
        assert torch.equal(getattr(split, name), getattr(expected, name))
    split, problems = preprocessor.apply_valid(rows, context, skip=[0, 2])
    assert list(problems) == [1, 3]
    assert split.ids.tolist() == ["t"]
    with pytest.raises(DataError):
        preprocessor.apply(rows, context)


def test_all_rows_can_be_used_or_none(component, context):
    cells = {"a": np.array([np.nan, np.inf]), "b": np.array([1.0, np.nan])}
    rows = Rows(cells, np.array([0, 1]), np.array(["p", "q"]))
    preprocessor = _two_columns(component, context, "median")
    split, problems = preprocessor.apply_valid(rows, context)
    assert problems == {}
    assert torch.equal(split.x, preprocessor.apply(rows, context).x)
    split, problems = _two_columns(component, context, "error").apply_valid(rows, context)
    assert (split.x.shape, list(problems)) == ((0, 2), [0, 1])


def _texts(component, tmp_path, texts, **parameters):
    lines = [f"{text},{'ab'[row % 2]}" for row, text in enumerate(texts)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *lines]))
    encoder = component("encoder", "tfidf_svd", dim=4, min_df=1)
    path = str(tmp_path / "texts.csv")
    return component("data", "csv", path=path, label="label", text="text", encoder=encoder, **parameters)


def test_rows_without_a_text_are_left_out_with_a_count(component, context, tmp_path):
    texts = [f"word{row} ball goal" for row in range(20)]
    texts[3], texts[6] = "", "  "
    rows = load_rows(_texts(component, tmp_path, texts), context)
    assert "2 of 20 rows have no text, the first is train:4; they are left out" in rows.notes
    assert sum(len(part) for part in rows.splits.values()) == 18
    with pytest.raises(DataError, match="2 of 20 rows have no text"):
        load_rows(_texts(component, tmp_path, texts, on_error="fail"), context)
    with pytest.raises(DataError, match="20 of 20 rows have no text"):
        load_rows(_texts(component, tmp_path, [""] * 20), context)


def test_a_new_row_without_a_text_cannot_be_used_unless_it_has_other_inputs(
    component, context, tmp_path, table
):
    data = _texts(component, tmp_path, [f"word{row} ball goal" for row in range(20)])
    preprocessor = fit_preprocessor(load_rows(data, context), data, context)
    cells = np.array(["ball", "", " ", None, "", 7], dtype=object)
    rows = Rows({"text": cells}, np.full(6, -1), np.arange(6).astype(str))
    split, problems = preprocessor.apply_valid(rows, context, skip=[1])
    assert problems == dict.fromkeys((2, 3, 4), "the text is empty")
    assert split.ids.tolist() == ["0", "5"]
    mixed = load_rows(table, context)
    rows = replace(
        mixed.train, columns={**mixed.train.columns, "text": np.full(len(mixed.train), "", object)}
    )
    assert fit_preprocessor(mixed, table, context).apply_valid(rows, context)[1] == {}


def test_rows_that_cannot_be_divided_are_explained_by_the_columns_that_were_left_out(
    component, context, tmp_path
):
    path = tmp_path / "calls.csv"
    lines = [f"T-{row},{'ab'[row % 2]},{'xy'[row % 2]}" for row in range(40)]
    path.write_text("\n".join(["ticket,channel,label", *lines]))
    with pytest.raises(DataError, match="every training row is equal to a test row") as caught:
        load_rows(component("data", "csv", path=str(path), label="label"), context)
    assert "left out `ticket` (it names the rows); data.id=ticket" in caught.value.details[0]
