from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers.base import RowReader
from flowgmm_cli.data.readers.open import open_rows
from flowgmm_cli.data.readers.schema import InputSchema

TABLE = (Column("x", "numeric"), Column("colour", "category"), Column("y", "numeric"))
CLASSES = ("ash", "oak")


@pytest.fixture
def table() -> InputSchema:
    """A model of two numbers and a category."""
    return InputSchema(TABLE, CLASSES, label="kind", id="name")


@pytest.fixture
def texts() -> InputSchema:
    """A model of one text column that is joined of two."""
    return InputSchema((Column("text", "text"),), CLASSES, label="kind", text_parts=("title", "description"))


@pytest.fixture
def vector() -> Callable[..., InputSchema]:
    """A model of one vector column `v` of a shape."""

    def make(*shape: int, **more) -> InputSchema:
        return InputSchema((Column("v", "vector", shape),), CLASSES, label="kind", **more)

    return make


@pytest.fixture
def image() -> Callable[..., InputSchema]:
    """A model of one image column `v` of a shape."""
    return lambda *shape, **more: InputSchema((Column("v", "image", shape),), CLASSES, label="kind", **more)


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays to a file."""

    def make(compressed: bool = False, **arrays) -> Path:
        (np.savez_compressed if compressed else np.savez)(tmp_path / "t.npz", **arrays)
        return tmp_path / "t.npz"

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    def make(content: bytes | str, name: str = "t.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


@pytest.fixture
def rows(context: DataContext) -> Callable[..., RowReader]:
    """Open rows: `rows(where, schema, on_error="keep")`."""

    def make(where: object, schema: InputSchema, **options) -> RowReader:
        return open_rows(str(where), schema, context=context, **options)

    return make


@dataclass(frozen=True)
class Read:
    """All chunks of an input as one."""

    columns: dict[str, Any]
    labels: list[int]
    ids: list[str]
    problems: dict[int, str]
    unknown_labels: dict[int, str]

    def __getitem__(self, name: str) -> list:
        """A column as a list, with NaN as None."""
        return [None if cell != cell else cell for cell in self.columns[name].tolist()]


@pytest.fixture
def read() -> Callable[[RowReader], Read]:
    """Read all chunks, and hold them to their contract on the way."""

    def make(reader: RowReader) -> Read:
        chunks = list(reader)
        assert [chunk.start for chunk in chunks] == np.cumsum([0, *map(len, chunks)])[:-1].tolist()
        assert all(chunk.labels.dtype == np.int64 for chunk in chunks)
        assert reader.total in (None, sum(map(len, chunks)))
        columns = {
            name: np.concatenate([chunk.columns[name] for chunk in chunks]) for name in chunks[0].columns
        }
        return Read(
            columns,
            np.concatenate([chunk.labels for chunk in chunks]).tolist(),
            np.concatenate([chunk.ids for chunk in chunks]).tolist(),
            {chunk.start + at: why for chunk in chunks for at, why in chunk.problems.items()},
            {chunk.start + at: label for chunk in chunks for at, label in chunk.unknown_labels.items()},
        )

    return make
