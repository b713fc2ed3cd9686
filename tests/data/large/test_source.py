"""A table on disk is split and labelled like a table in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large import duplicates, source
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.errors import DataError


def indices(rows):
    """Return the indices of rows in the table."""
    return np.array([int(name.split(":")[1]) - 1 for name in rows.ids])


def parts(loaded):
    return {name: rows for name in ("train", "val", "test") if (rows := getattr(loaded, name)) is not None}


def test_rows_in_memory_are_equal_to_those_in_the_files(config, context, folder):
    whole = load_rows(config(folder, memory=2.0, split=SplitConfig(test=0, val=0)), context)
    loaded = load_rows(config(folder, labels=LabelsConfig(count=30)), context)
    assert whole.large is None
    assert loaded.large is not None
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
    assert loaded.large.left_out.tolist() == sorted([*places[1], *places[2]])
    assert len(loaded.large) == 2400 - len(places[1]) - len(places[2])
    assert loaded.fingerprint == again.fingerprint
    assert (loaded.train.ids == again.train.ids).all()
    other = load_rows(config(folder, labels=LabelsConfig(count=30, seed=1)), context)
    assert other.fingerprint != loaded.fingerprint


def test_held_out_rows_are_bounded_and_a_note_says_so(config, context, folder, monkeypatch):
    monkeypatch.setattr(source, "MAX_HELD_OUT_ROWS", 50)
    monkeypatch.setattr(source, "MAX_SAMPLE_ROWS", 200)
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0.5, val=0.2))
    loaded = load_rows(data, context)
    assert (len(loaded.test), len(loaded.val)) == (50, 50)
    assert 200 <= len(loaded.train) <= 230
    assert len(loaded.large) == 2300
    assert sum("kept in memory" in note for note in loaded.notes) == 2
    assert any("stay in their files (data.memory)" in note for note in loaded.notes)


def test_labelled_rows_are_drawn_from_a_subset_of_many_labels(config, context, folder, monkeypatch):
    monkeypatch.setattr(source, "_MAX_CANDIDATES", 90)
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


def test_rows_equal_to_a_held_out_row_are_left_out(config, context, tmp_path, some_rows, write_table):
    table = some_rows(600, 0)
    write_table(tmp_path / "rows-0.parquet", table)
    write_table(tmp_path / "rows-1.parquet", pa.concat_tables([some_rows(300, 1), table.slice(0, 100)]))
    test = tmp_path / "test" / "test.parquet"
    test.parent.mkdir()
    write_table(test, table.slice(40, 100))
    pattern = tmp_path / "*.parquet"
    loaded = load_rows(config(pattern, test_path=str(test), labels=LabelsConfig(count=30)), context)
    out = set(loaded.large.left_out.tolist())
    assert {*range(40, 140), *range(940, 1000)} <= out
    assert not set(indices(loaded.train)) & out
    assert any("are equal to a held-out row and are left out" in note for note in loaded.notes)
    kept = load_rows(
        config(
            pattern,
            test_path=str(test),
            labels=LabelsConfig(count=30),
            split=SplitConfig(val=0, duplicates="keep"),
        ),
        context,
    )
    assert len(kept.large) == 1000


def test_too_many_duplicates_are_an_error(config, context, tmp_path, some_rows, write_table, monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_DUPLICATES", 50)
    table = some_rows(200, 0)
    write_table(tmp_path / "a.parquet", pa.concat_tables([table, table]))
    with pytest.raises(DataError, match="more than 50 rows are equal") as caught:
        load_rows(config(tmp_path, labels=LabelsConfig(count=9), split=SplitConfig(test=0.5)), context)
    assert "duplicates=keep" in caught.value.hint


def test_column_statistics_cover_all_rows(config, context, folder, some_rows, write_table, monkeypatch):
    monkeypatch.setattr(source, "MAX_SAMPLE_ROWS", 40)
    monkeypatch.setattr(source, "MIN_ROWS", 40)
    table = some_rows(600, 9)
    odd = table.set_column(0, "a", pa.array([*[1e4, float("inf"), None], *table["a"].to_pylist()[3:]]))
    colours = pa.array(["violet", *table["colour"].to_pylist()[1:]])
    write_table(folder / "part-9.parquet", odd.set_column(3, "colour", colours))
    data = config(folder, labels=LabelsConfig(count=30), split=SplitConfig(test=0, val=0))
    loaded = load_rows(data, context)
    statistics = loaded.large.statistics
    assert statistics["a"].finite == statistics["a"].cells - 2
    assert statistics["a"].maximum == 1e4
    assert statistics["colour"].categories == {"red", "green", "blue", "violet"}
    preprocessor = fit_preprocessor(loaded, data, context)
    assert "colour=violet" in preprocessor.feature_names
    assert preprocessor.ranges["a"][1] == 1e4
    assert any("missing cells of `a` are filled in" in note for note in preprocessor.notes)


def test_a_missing_cell_is_an_error_with_its_row_if_the_recipe_says_so(
    config, context, folder, some_rows, write_table
):
    table = some_rows(300, 9)
    cells = table["b"].to_pylist()
    cells[270] = None
    write_table(folder / "part-9.parquet", table.set_column(1, "b", pa.array(cells, pa.float32())))
    with pytest.raises(DataError) as caught:
        load_rows(config(folder, missing="error", labels=LabelsConfig(count=9)), context)
    assert (
        "part-9.parquet, row group 2: column `b` is missing or infinite in row 2,671" in caught.value.message
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"text": "name"}, "texts cannot stay on disk"),
        ({"label": "kid"}, "did you mean `kind`"),
        ({"id": "colour", "labels": LabelsConfig(count=9)}, "names two of them"),
        ({"labels": LabelsConfig(column="b")}, "must hold true or false"),
        ({"id": "nam"}, "did you mean `name`"),
    ],
)
def test_errors_name_the_column(config, context, folder, parameters, message):
    with pytest.raises(DataError, match=message):
        load_rows(config(folder, **parameters), context)


def test_labelled_rows_must_fit_into_memory(config, context, folder, monkeypatch):
    monkeypatch.setattr(source, "MIN_ROWS", 100)
    with pytest.raises(DataError, match="labelled rows are kept in memory") as caught:
        load_rows(config(folder), context)
    assert "data.labels.count" in caught.value.hint


def test_a_column_of_many_categories_must_be_named_in_the_recipe(config, context, folder):
    loaded = load_rows(config(folder, drop=[], categorical=["name"], labels=LabelsConfig(count=9)), context)
    assert len(loaded.large.statistics["name"].categories) > 2000


def test_large_splits_beside_the_training_rows_are_refused(config, context, folder, monkeypatch):
    monkeypatch.setattr("flowgmm_cli.data.sources.csv._HELD_OUT_BYTES", 100)
    with pytest.raises(DataError, match="only training rows can stay on disk"):
        load_rows(config(folder, test_path=str(folder)), context)


def test_a_record_batch_that_is_too_large_to_read_is_refused(
    config, context, tmp_path, some_rows, write_table, monkeypatch
):
    monkeypatch.setattr("flowgmm_cli.data.large.source._MIN_BATCH_BYTES", 8 * 6 * 200)
    write_table(tmp_path / "a.arrow", some_rows(600, 0), rows=200)
    data = config(tmp_path, labels=LabelsConfig(count=9))
    assert load_rows(data, context).large is not None
    write_table(tmp_path / "a.arrow", some_rows(600, 0), rows=201)
    with pytest.raises(DataError, match="record batch of 201 rows") as error:
        load_rows(data, context)
    assert "at most 200 rows" in error.value.hint


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
    assert Path(loaded.large.table.files[0].path).name == "a.parquet"
