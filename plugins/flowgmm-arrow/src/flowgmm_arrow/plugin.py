"""Parameters and specs; imports neither NumPy nor Arrow."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from flowgmm_cli.api import Component, DataConfig, DataSpec, Field, component_field


class TableConfig(DataConfig):
    """Parameters of both sources."""

    label: str = Field(description="column of the class; null or an empty string is an unlabelled row")
    unlabelled: str | None = Field(
        None, description="a further value of the label column that marks an unlabelled row, such as '-1'"
    )
    text: str | list[str] | None = Field(
        None, description="column of text, or several that are joined by a line break"
    )
    features: list[str] | None = Field(
        None, description="input columns; by default the text if there is one, else every other column"
    )
    drop: list[str] = Field(default_factory=list, description="columns to leave out")
    categorical: list[str] | None = Field(
        None, description="columns of categories, numbers too; columns of strings are categories anyway"
    )
    missing: Literal["median", "mean", "error"] = Field(
        "median", description="what replaces an empty or infinite numeric cell"
    )
    id: str | None = Field(None, description="column that names a row")
    encoder: Component = component_field(
        "encoder", {"use": "wordllama"}, description="text to vectors; used where `text` is set"
    )
    batch_rows: int = Field(65_536, ge=1, description="rows that are read at a time")


class ArrowConfig(TableConfig):
    """Parameters of `arrow`."""

    path: str | list[str] = Field(
        description="training rows: Parquet or Arrow (Feather) files, folders of them, or patterns such as "
        "data/part-*.parquet"
    )
    test_path: str | list[str] | None = Field(None, description="rows of the final test, same columns")
    val_path: str | list[str] | None = Field(None, description="rows of the validation split, same columns")
    format: Literal["parquet", "arrow"] | None = Field(
        None, description="format of the files; by default taken from their suffixes"
    )


class SqlConfig(TableConfig):
    """Parameters of `sql`."""

    query: str = Field(min_length=1, description="SELECT that gives the training rows")
    test_query: str | None = Field(None, description="SELECT that gives the rows of the final test")
    val_query: str | None = Field(None, description="SELECT that gives the rows of the validation split")
    database: str | None = Field(
        None,
        description="DuckDB: a database file, or nothing for queries of files; ADBC: the address (uri). "
        "env:NAME takes it from an environment variable, and no run keeps it",
    )
    driver: str = Field(
        "duckdb",
        pattern=r"^(duckdb|adbc_driver_[a-z0-9_]+)$",
        description="duckdb, or the Python package of an ADBC driver, such as adbc_driver_postgresql",
    )

    @model_validator(mode="after")
    def _drivers_need_an_address(self) -> SqlConfig:
        if self.driver != "duckdb" and self.database is None:
            raise ValueError(f"`database` is missing: {self.driver} has to know where to connect to")
        return self


ARROW = DataSpec(
    config=ArrowConfig,
    build="flowgmm_arrow.files:build",
    summary="Parquet and Arrow files: single ones, folders, patterns",
    docs="Only the columns in use are read, a batch at a time. A row's id is its file and its number there, "
    "so that files may be added. Folders such as year=2024/ add a column.",
    conformance="flowgmm_arrow.conformance:ArrowConformance",
)
SQL = DataSpec(
    config=SqlConfig,
    build="flowgmm_arrow.sql:build",
    summary="The result of a SELECT, through DuckDB or an ADBC driver",
    docs="With `id` the rows are put in its order; without, let the query have an ORDER BY. Offline, DuckDB "
    "loads no extension, and ADBC drivers of servers are refused.",
    conformance="flowgmm_arrow.conformance:SqlConformance",
)
