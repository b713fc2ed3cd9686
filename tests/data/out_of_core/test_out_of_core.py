"""A table larger than memory is split and labelled like a table in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data import out_of_core
from flowgmm_cli.data.out_of_core import build_store
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.tensors import load_tensor
from flowgmm_cli.errors import DataError


def indices(rows):
    """Return the indices of rows in the table."""
    return np.array([int(name.split(":")[1]) - 1 for name in rows.ids])


def parts(loaded):
    return {name: rows for name in ("train", "val", "test") if (rows := getattr(loaded, name)) is not None}


def test_rows_in_memory_are_equal_to_those_in_the_files(config, context, folder):
    whole = load_rows(config(folder, memory=2.0, split=SplitConfig(test=0, val=0)), context)
    loaded = load_rows(config(folder, labels=LabelsConfig(count=30)), context)
    assert whole.chunked is None
    assert loaded.chunked is not None
    assert loaded.columns == whole.columns
    assert loaded.class_names == whole.class_names == ("ash", "birch", "yew")
    for rows in parts(loaded).values():
        at = indices(rows)
        for name, cells in rows.columns.items():
            np.testing.assert_array_equal(cells, whole.train.columns[name][at])
        seen = rows.labels >= 0
        assert (rows.labels[seen] == whole.train.labels[at][seen]).all()


def test_splits_are_disjoint_and_reproducible_and_hide_labels(config, context, folder):
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0.1, val=0.05))
    loaded, again = load_rows(data, context), load_rows(data, context)
    places = [indices(rows) for rows in parts(loaded).values()]
    assert len(np.unique(np.concatenate(places))) == sum(map(len, places))
    assert (loaded.train.labels >= 0).sum() == 30
    assert np.bincount(loaded.train.labels[loaded.train.labels >= 0]).tolist() == [10, 10, 10]
    assert (loaded.val.labels == -1).all()
    assert (loaded.test.labels >= 0).all()
    assert len(loaded.val) == pytest.approx(120, abs=8)
    assert loaded.chunked.left_out.tolist() == sorted([*places[1], *places[2]])
    assert len(loaded.chunked.table.labels) == 2400
    assert loaded.fingerprint == again.fingerprint
    assert (loaded.train.ids == again.train.ids).all()
    other = load_rows(config(folder, labels=LabelsConfig(count=30, seed=1)), context)
    assert other.fingerprint != loaded.fingerprint


def test_held_out_rows_are_bounded_and_a_note_says_so(config, context, folder, monkeypatch):
    monkeypatch.setattr(out_of_core, "MAX_HELD_OUT_ROWS", 50)
    monkeypatch.setattr(out_of_core, "MAX_SAMPLE_ROWS", 200)
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0.5, val=0.2))
    loaded = load_rows(data, context)
    assert (len(loaded.test), len(loaded.val)) == (50, 50)
    assert 200 <= len(loaded.train) <= 230
    assert len(loaded.chunked.left_out) == 100
    assert sum("kept in memory" in note for note in loaded.notes) == 2
    assert any("are read in chunks (data.memory)" in note for note in loaded.notes)


def test_labelled_rows_are_drawn_from_a_subset_of_many_labels(config, context, folder, monkeypatch):
    monkeypatch.setattr(out_of_core, "_MAX_CANDIDATES", 300)
    loaded = load_rows(config(folder, labels=LabelsConfig(per_class=7)), context)
    assert np.bincount(loaded.train.labels[loaded.train.labels >= 0]).tolist() == [7, 7, 7]
    assert np.bincount(loaded.test.labels).min() > 0.2 * len(loaded.test)
    with pytest.raises(DataError, match=r"only \d+ rows have a label"):
        load_rows(config(folder, labels=LabelsConfig(count=997)), context)


def test_validation_labels_a_marker_column_and_an_id_column(
    config, context, tmp_path, some_rows, write_table
):
    table = some_rows(900, 0)
    marks = pa.array(["yes" if row % 30 == 0 else None for row in range(900)])
    write_table(tmp_path / "a.parquet", table.append_column("mark", marks))
    data = config(
        tmp_path,
        labels=LabelsConfig(column="mark"),
        split=SplitConfig(test=0.1, val=0.1, val_labels=True),
        drop=[],
        id="name",
    )
    loaded = load_rows(data, context)
    assert loaded.val_labels
    assert (loaded.val.labels >= 0).all()
    visible = loaded.train.ids[loaded.train.labels >= 0]
    assert sorted(visible) == sorted(f"0-{row}" for row in range(0, 900, 30))
    assert all("-" in name for name in [*loaded.test.ids, *loaded.val.ids])


def test_rows_equal_to_a_held_out_row_are_left_out(config, context, stored, tmp_path, some_rows, write_table):
    table = some_rows(600, 0)
    write_table(tmp_path / "rows-0.parquet", table)
    write_table(tmp_path / "rows-1.parquet", pa.concat_tables([some_rows(300, 1), table.slice(0, 100)]))
    test = tmp_path / "test" / "test.parquet"
    test.parent.mkdir()
    write_table(test, table.slice(40, 100))
    data = {"test_path": str(test), "labels": LabelsConfig(count=30)}
    rows, store = stored(config(tmp_path / "*.parquet", **data))
    out = set(store.left_out.tolist())
    assert {*range(40, 140), *range(940, 1000)} <= out
    assert len(store) == 1000 - len(out)
    assert not set(indices(rows.train)) & out
    assert not set(store.resident.tolist()) & out
    assert any("training rows are equal to a held-out row and are left out" in note for note in rows.notes)
    keep = SplitConfig(val=0, duplicates="keep")
    _, store = stored(config(tmp_path / "*.parquet", **data, split=keep))
    assert len(store) == 1000


def test_too_many_duplicates_are_an_error(config, stored, tmp_path, some_rows, write_table, monkeypatch):
    monkeypatch.setattr(out_of_core, "MAX_DUPLICATES", 50)
    table = some_rows(200, 0)
    write_table(tmp_path / "a.parquet", pa.concat_tables([table, table]))
    with pytest.raises(DataError, match="more than 50 rows are equal") as caught:
        stored(config(tmp_path, labels=LabelsConfig(count=9), split=SplitConfig(test=0.5)))
    assert "duplicates=keep" in caught.value.hint


def test_labelled_rows_that_contradict_each_other_are_noted(
    config, context, tmp_path, some_rows, write_table
):
    table = some_rows(300, 0)
    other = table.set_column(table.column_names.index("kind"), "kind", pa.array(["ash"] * 300))
    write_table(tmp_path / "a.parquet", pa.concat_tables([table, other]))
    rows = load_rows(config(tmp_path, split=SplitConfig(test=0, val=0)), context)
    wrong = sum(kind != "ash" for kind in table["kind"].to_pylist())
    assert any(note.startswith(f"{wrong} rows equal another row with another") for note in rows.notes)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv", "jsonl"])
@pytest.mark.parametrize("with_inputs", [False, True])
def test_features_are_those_of_a_table_in_memory(
    config, context, stored, tmp_path, some_rows, write_table, kind, with_inputs
):
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(3):
        table = some_rows(400, number, shown=0.5)
        write_table(folder / f"{number}.{kind}", table.drop_columns(["v"]) if kind == "csv" else table)
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0.1, val=0.05))
    rows, store = stored(data, with_inputs=with_inputs)
    whole = load_rows(config(folder, memory=2.0, split=SplitConfig(test=0, val=0)), context)
    assert rows.class_names == whole.class_names
    preprocessor = fit_preprocessor(rows, data, context)
    expected = preprocessor.apply(whole.train, context, with_inputs=with_inputs)
    read = store.to_tensors(torch.from_numpy(store.read(0, 1200)))
    torch.testing.assert_close(load_tensor(read.x), expected.x, atol=1e-5, rtol=1e-5)
    if with_inputs:
        assert torch.equal(read.inputs, expected.inputs)
    held_out = [*indices(rows.test), *indices(rows.val)]
    assert store.left_out.tolist() == sorted(held_out)
    assert store.resident.tolist() == indices(rows.train).tolist()


def test_texts_are_encoded_in_chunks(component, context, stored, tmp_path):
    rng = np.random.default_rng(0)
    words = [
        ["ball goal team", "vote law state"][row % 2] + f" word{row} {rng.integers(9)}" for row in range(900)
    ]
    empty = [3, 500, 501]
    for row, blank in zip(empty, ("", " ", None), strict=True):
        words[row] = blank
    table = pa.table({"text": words, "kind": np.array(["sport", "news"])[np.arange(900) % 2]})
    pq.write_table(table, tmp_path / "texts.parquet")
    encoder = component("encoder", "tfidf_svd", dim=4, min_df=1)
    data = component(
        "data", "csv", path=str(tmp_path / "texts.parquet"), label="kind", text="text", memory=0.0,
        labels=LabelsConfig(count=20), encoder=encoder,
    )  # fmt: skip
    rows, store = stored(data)
    assert rows.chunked is not None
    resident = fit_preprocessor(rows, data, context).apply(rows.train, context).x
    torch.testing.assert_close(torch.from_numpy(store.read(0, 900)[store.resident]), resident)
    assert "3 of 900 rows have no text and are left out" in rows.notes
    assert set(empty) <= set(store.left_out.tolist())
    assert not set(empty) & set(store.resident.tolist())


def test_column_statistics_cover_all_rows(config, context, folder, some_rows, write_table, monkeypatch):
    monkeypatch.setattr(out_of_core, "MAX_SAMPLE_ROWS", 40)
    monkeypatch.setattr(out_of_core, "MIN_ROWS", 40)
    table = some_rows(600, 9)
    odd = table.set_column(0, "a", pa.array([*[1e4, float("inf"), None], *table["a"].to_pylist()[3:]]))
    colours = pa.array(["violet", *table["colour"].to_pylist()[1:]])
    write_table(folder / "part-9.parquet", odd.set_column(3, "colour", colours))
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0, val=0))
    loaded = load_rows(data, context)
    statistics = loaded.chunked.statistics
    assert statistics["a"].finite == statistics["a"].cells - 2
    assert statistics["a"].maximum == 1e4
    assert statistics["colour"].categories == {"red", "green", "blue", "violet"}
    preprocessor = fit_preprocessor(loaded, data, context)
    assert "colour=violet" in preprocessor.feature_names
    assert preprocessor.ranges["a"][1] == 1e4
    assert any("missing cells of `a` are filled in" in note for note in preprocessor.notes)


def test_a_missing_cell_is_an_error_with_its_row_if_the_recipe_says_so(
    config, stored, folder, some_rows, write_table
):
    table = some_rows(300, 9)
    cells = table["b"].to_pylist()
    cells[270] = None
    write_table(folder / "part-9.parquet", table.set_column(1, "b", pa.array(cells, pa.float32())))
    words = r"part-9\.parquet: column `b` is missing or infinite.*, the first is 271"
    with pytest.raises(DataError, match=words):
        stored(config(folder, missing="error", labels=LabelsConfig(count=9)))


def test_malformed_rows_are_left_out_and_counted(config, context, tmp_path, some_rows, write_table):
    write_table(tmp_path / "a.csv", some_rows(900, 0).drop_columns(["v"]))
    lines = (tmp_path / "a.csv").read_text().splitlines()
    lines[800] = "1,2"
    (tmp_path / "a.csv").write_text("\n".join(lines))
    for _ in range(2):  # from the file, and from the cache
        rows = load_rows(config(tmp_path / "a.csv", labels=LabelsConfig(count=9)), context)
        assert len(rows.chunked.table.labels) == 899
        assert any("1 of 900 rows cannot be read and are left out (line 801" in note for note in rows.notes)
    with pytest.raises(DataError, match=r"a\.csv:801: 2 cells"):
        load_rows(config(tmp_path / "a.csv", on_error="fail", labels=LabelsConfig(count=9)), context)


@pytest.mark.parametrize("missing", ["median", "error"])
def test_rows_with_a_cell_that_does_not_fit_its_column_are_left_out(
    config, context, stored, tmp_path, some_rows, write_table, missing
):
    write_table(tmp_path / "a.csv", some_rows(900, 0).drop_columns(["v"]))
    whole = stored(config(tmp_path / "a.csv", missing=missing, labels=LabelsConfig(count=9)))[1]
    lines = (tmp_path / "a.csv").read_text().splitlines()
    labelled = next(row for row in range(600, 900) if lines[row].split(",")[-1].strip('"'))
    for row in (500, labelled):
        lines[row] = ",".join(["oops", *lines[row].split(",")[1:]])
    (tmp_path / "a.csv").write_text("\n".join(lines))
    data = config(tmp_path / "a.csv", missing=missing, labels=LabelsConfig(count=9))
    for _ in range(2):  # from the file, and from the cache
        rows, store, *_ = stored(data)
        assert len(store) == len(whole) - 2
        assert not set(store.left_out) & set(store.resident)
        assert {499, labelled - 1} <= set(store.left_out)
        note = "a.csv: 2 of 900 rows cannot be read and are left out (line 501: column `a` wants a number"
        assert any(note in text for text in rows.notes)
    with pytest.raises(DataError, match=r"a\.csv:501: column `.*` wants a number, got `oops`"):
        load_rows(config(tmp_path / "a.csv", on_error="fail", labels=LabelsConfig(count=9)), context)


def test_files_that_change_between_passes_are_refused(
    config, context, stored, folder, some_rows, write_table
):
    data = config(folder, labels=LabelsConfig(count=9))
    rows = load_rows(data, context)
    write_table(folder / "part-1.parquet", some_rows(20, 0))
    with pytest.raises(DataError, match="has been written since"):
        build_store(rows, fit_preprocessor(rows, data, context), context, with_inputs=False)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"label": "kid"}, "did you mean `kind`"),
        ({"labels": LabelsConfig(column="b")}, "must hold true or false"),
        ({"id": "nam"}, "did you mean `name`"),
    ],
)
def test_errors_name_the_column(config, context, folder, parameters, message):
    with pytest.raises(DataError, match=message):
        load_rows(config(folder, **parameters), context)


def test_labelled_rows_must_fit_into_memory(config, context, folder, monkeypatch):
    monkeypatch.setattr(out_of_core, "MIN_ROWS", 100)
    with pytest.raises(DataError, match="labelled rows are kept in memory") as caught:
        load_rows(config(folder), context)
    assert "data.labels.count" in caught.value.hint


def test_a_column_of_many_categories_must_be_named_in_the_recipe(config, context, folder):
    loaded = load_rows(config(folder, drop=[], categorical=["name"], labels=LabelsConfig(count=9)), context)
    assert len(loaded.chunked.statistics["name"].categories) > 2000


def test_large_splits_beside_the_training_rows_are_refused(config, context, folder, monkeypatch):
    monkeypatch.setattr("flowgmm_cli.data.sources.csv._HELD_OUT_BYTES", 100)
    with pytest.raises(DataError, match="only training rows can be read in chunks"):
        load_rows(config(folder, test_path=str(folder)), context)


def test_more_classes_than_a_byte_can_count(config, context, tmp_path, write_table):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.standard_normal(4000), "kind": pa.array(np.arange(4000) % 300)})
    write_table(tmp_path / "a.parquet", table)
    loaded = load_rows(config(tmp_path, drop=[], labels=LabelsConfig(per_class=2)), context)
    assert loaded.class_names == tuple(str(number) for number in range(300))
    seen = loaded.train.labels >= 0
    assert (loaded.train.labels[seen] == indices(loaded.train)[seen] % 300).all()


def test_class_names_are_read_from_the_metadata(config, context, tmp_path, write_table):
    features = '{"info": {"features": {"kind": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'
    table = pa.table({"x": np.arange(100.0) / 3, "kind": pa.array([0, 1, -1, None] * 25)})
    write_table(tmp_path / "a.parquet", table.replace_schema_metadata({"huggingface": features}))
    loaded = load_rows(config(tmp_path, drop=[]), context)
    assert loaded.class_names == ("no", "yes")
