import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flowgmm_arrow.plugin import SqlConfig
from flowgmm_arrow.sql import build
from flowgmm_cli.api import DataContext, DataError, PluginError, RecipeError, SourceData

duckdb = pytest.importorskip("duckdb")


def load(query: str, *, offline: bool = True, notes: list[str] | None = None, **values: Any) -> SourceData:
    config = SqlConfig(query=query, **{"label": "y", **values})
    note = (lambda text: None) if notes is None else notes.append
    return build(config, DataContext(offline=offline, note=note)).load()


@pytest.fixture
def database(tmp_path: Path) -> str:
    file = str(tmp_path / "t.duckdb")
    with duckdb.connect(file) as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS k, i / 2 AS x, i % 2 AS y FROM range(5) r(i)")
    return file


def test_a_database_is_read_and_not_written(database: str) -> None:
    before = Path(database).stat().st_mtime_ns
    rows = load("SELECT * FROM t", database=database, id="k").splits["train"]
    assert rows.ids.tolist() == ["0", "1", "2", "3", "4"]
    assert rows.columns["x"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert Path(database).stat().st_mtime_ns == before


def test_rows_are_in_the_order_of_their_ids_for_every_query(database: str) -> None:
    first, second = (
        load(f"SELECT * FROM t ORDER BY k {way}", database=database, id="k").splits["train"]
        for way in ("ASC", "DESC")
    )
    assert first.ids.tolist() == second.ids.tolist()
    assert first.columns["x"].tolist() == second.columns["x"].tolist()
    assert first.labels.tolist() == second.labels.tolist()


def test_without_an_order_there_is_a_note(database: str) -> None:
    notes: list[str] = []
    load("SELECT * FROM t", database=database, drop=["k"], notes=notes)
    assert len(notes) == 1
    load("SELECT * FROM t order  by k", database=database, drop=["k"], notes=notes)
    assert len(notes) == 1


def test_each_split_has_its_query(database: str) -> None:
    read = load("FROM t WHERE k < 3", test_query="FROM t WHERE k >= 3", database=database, id="k")
    assert [len(read.splits[split]) for split in ("train", "test")] == [3, 2]


def test_files_are_queried_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,b\n", encoding="utf-8")
    read = load(f"SELECT x, y FROM '{tmp_path / 't.csv'}' ORDER BY x")
    assert read.class_names == ("a", "b")


@pytest.mark.parametrize(
    "query", ["DROP TABLE t", "SELECT 1 AS x, 2 AS y; SELECT 3", "COPY (SELECT 1) TO 'x.csv'"]
)
def test_only_a_single_select_is_accepted(query: str, database: str) -> None:
    with pytest.raises(RecipeError, match="not one SELECT"):
        load(query, database=database)


@pytest.mark.parametrize(
    "query", ["SELECT nothing FROM t", "SELEC", "SELECT x FROM 'https://example.org/x.parquet'"]
)
def test_what_the_database_refuses_is_a_data_error(query: str, database: str) -> None:
    with pytest.raises(DataError, match=r"data\.query  fails") as caught:
        load(query, database=database)
    assert caught.value.hint


def test_the_address_may_come_from_the_environment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADDRESS", database)
    assert len(load("FROM t", database="env:ADDRESS", id="k").splits["train"]) == 5
    monkeypatch.delenv("ADDRESS")
    with pytest.raises(DataError, match="ADDRESS is not set"):
        load("FROM t", database="env:ADDRESS")


def test_what_is_no_database_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such database"):
        load("FROM t", database=str(tmp_path / "none.duckdb"))
    (tmp_path / "bad.duckdb").write_bytes(os.urandom(9000))
    with pytest.raises(DataError, match="cannot open"):
        load("FROM t", database=str(tmp_path / "bad.duckdb"))


def test_drivers_of_servers_are_refused_offline_and_missing_drivers_named() -> None:
    with pytest.raises(DataError, match="this run is offline"):
        load("SELECT 1", driver="adbc_driver_postgresql", database="postgresql://localhost")
    with pytest.raises(PluginError) as caught:
        load("SELECT 1", driver="adbc_driver_nowhere", database="x", offline=False)
    assert caught.value.hint == "pip install adbc-driver-nowhere"
    with pytest.raises(ValidationError):
        SqlConfig(query="SELECT 1", label="y", driver="adbc_driver_sqlite")


def test_sqlite_is_read_through_adbc(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_sqlite")
    import sqlite3
    from contextlib import closing

    file = tmp_path / "t.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE t (x REAL, y TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(0.5, "a"), (None, "b"), (2.0, None)])
        connection.commit()
    read = load("SELECT x, y FROM t ORDER BY rowid", driver="adbc_driver_sqlite", database=str(file))
    assert read.class_names == ("a", "b")
    assert read.splits["train"].labels.tolist() == [0, 1, -1]
    with pytest.raises(DataError, match="fails"):
        load("SELECT z FROM t", driver="adbc_driver_sqlite", database=str(file))
