"""Source `sql`: the result of a SELECT, through DuckDB or an ADBC driver."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flowgmm_arrow.columns import select_columns
from flowgmm_arrow.gather import SplitBuilder, assemble
from flowgmm_cli.api import DataContext, DataError, PluginError, RecipeError, SourceData

if TYPE_CHECKING:
    from flowgmm_arrow.plugin import SqlConfig

LOCAL_DRIVERS = ("adbc_driver_duckdb", "adbc_driver_sqlite")
"""ADBC drivers that connect to nothing."""


class SqlSource:
    """Queries of one database, a split each."""

    def __init__(self, config: SqlConfig, context: DataContext) -> None:
        self._config = config
        self._context = context

    def load(self) -> SourceData:
        """Run the queries, and read their results in batches."""
        config = self._config
        queries_by_split = {"train": config.query, "val": config.val_query, "test": config.test_query}
        queries = {split: query for split, query in queries_by_split.items() if query is not None}
        if config.id is None and not all(
            re.search(r"\border\s+by\b", query_text, re.I) for query_text in queries.values()
        ):
            self._context.note(
                "without data.id and without ORDER BY in the query, rows may come in another order next "
                "time, and be divided otherwise"
            )
        splits: dict[str, SplitBuilder] = {}
        selection = None
        with self._connect() as connection:
            for split, query in queries.items():
                with _reader(connection, query, f"data.{'' if split == 'train' else split + '_'}query",
                             config.batch_rows) as reader:  # fmt: skip
                    selection = selection or select_columns(reader.schema, config, f"the {split} query")
                    lost = [name for name in selection.read if name not in reader.schema.names]
                    if lost:
                        raise DataError(
                            f"the {split} query gives no column `{lost[0]}`, which the training rows have",
                            hint="let both queries select the same columns",
                        )
                    splits[split] = SplitBuilder(selection, config, f"the {split} query")
                    for batch in reader:
                        done = splits[split].rows
                        rows = range(done + 1, done + 1 + batch.num_rows)
                        splits[split].add(batch.select(selection.read), (f"{split}:{row}" for row in rows))
                        self._context.progress(splits[split].rows, 0, "reading rows")
        if selection is None:
            raise DataError("there is no query")
        return assemble(splits, selection, config, sort=config.id is not None)

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        """Open a connection to the database."""
        config, offline = self._config, self._context.offline
        database = _address(config.database)
        if config.driver == "duckdb":
            with closing(_duckdb(database, offline=offline)) as connection:
                yield connection
            return
        if offline and config.driver not in LOCAL_DRIVERS:
            raise DataError(
                f"{config.driver} connects to a server, and this run is offline",
                hint="write the rows to a Parquet file first, and use {use: arrow, path: FILE}",
            )
        driver = _module(f"{config.driver}.dbapi", config.driver.replace("_", "-"))
        try:
            connection = driver.connect(database)
        except Exception as error:  # each driver has errors of its own
            raise DataError(
                f"{config.driver} cannot connect: {_first_line(error)}", hint="check data.database"
            ) from error
        with closing(connection):
            yield connection


def _duckdb(database: str | None, *, offline: bool) -> Any:
    """Open a read-only connection; offline it loads no extension, so it needs no network."""
    duckdb = _module("duckdb", "duckdb")
    options = {"autoinstall_known_extensions": "false"}
    if offline:
        options["autoload_known_extensions"] = "false"
    if database is not None and not Path(database).expanduser().is_file():
        raise DataError(
            f"no such database: {database}",
            hint="check data.database, a file of DuckDB's; leave it out to query files: FROM 'x.parquet'",
        )
    place = ":memory:" if database is None else str(Path(database).expanduser())
    try:
        return duckdb.connect(place, read_only=database is not None, config=options)
    except duckdb.Error as error:
        raise DataError(
            f"DuckDB cannot open {database}: {_first_line(error)}",
            hint="the file is no DuckDB database, is in use, or was written by another version",
        ) from error


@contextmanager
def _reader(connection: Any, query: str, key: str, rows: int) -> Iterator[pa.RecordBatchReader]:
    """Open a reader of the batches of a query.

    Raises:
        DataError: the database refuses it, or fails on the way.
        RecipeError: it is more than one SELECT.
    """
    try:
        if hasattr(connection, "cursor") and not hasattr(connection, "sql"):  # ADBC
            with closing(connection.cursor()) as cursor:
                cursor.execute(query)
                with cursor.fetch_record_batch() as reader:
                    yield reader
            return
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type.name != "SELECT":
            raise RecipeError(f"{key}  is not one SELECT", hint="prepare the data in the database beforehand")
        relation = connection.sql(query)
        # `to_arrow_reader` in newer versions of DuckDB; both stream the batches
        read = getattr(relation, "to_arrow_reader", None) or relation.fetch_arrow_reader
        with read(rows) as reader:
            yield reader
    except (DataError, RecipeError):
        raise
    except Exception as error:  # of DuckDB, of each driver, of Arrow
        hint = "check the query"
        if "extension" in str(error):
            hint = "install it beforehand, in DuckDB: INSTALL NAME; offline, none is loaded"
        raise DataError(f"{key}  fails: {_first_line(error)}", hint=hint) from error


def _address(queries_by_split: str | None) -> str | None:
    if queries_by_split is None or not queries_by_split.startswith("env:"):
        return queries_by_split
    name = queries_by_split.removeprefix("env:")
    if name not in os.environ:
        raise DataError(
            f"data.database  the environment variable {name} is not set", hint=f"export {name}=..."
        )
    return os.environ[name]


def _module(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise PluginError(
            f"data.driver  needs the package {package}: {error}", hint=f"pip install {package}"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def build(config: SqlConfig, context: DataContext) -> SqlSource:
    """Build the source."""
    return SqlSource(config, context)
