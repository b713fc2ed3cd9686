"""Results with rows: as dicts, as a table of any library, and as HTML in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from flowgmm_cli.data.array_types import Array

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_SHOWN_ROWS = 10
_SHOWN_COLUMNS = 12


class TableResult(ABC):
    """A result with `table()`, which has a name for each column.

        for row in model.predict("new.csv"):
            print(row["id"], row["prediction"])

    `len` is the number of rows, iteration yields a dict for each, and missing cells are None. polars,
    pyarrow and DuckDB read it through Arrow's PyCapsule interface: `polars.DataFrame(result)`.
    """

    @abstractmethod
    def table(self) -> Mapping[str, Array]:
        """Return the columns by name, each `(N,)` or `(N, D)`."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dicts of Python values."""
        yield from self.to_arrow().to_pylist()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} rows of {', '.join(self.table())}>"

    def _repr_html_(self) -> str:
        table = self.to_arrow()
        names = table.column_names[:_SHOWN_COLUMNS]
        cells = table.select(names).slice(0, _SHOWN_ROWS).to_pylist()
        caption = f"{len(self):,} rows and {table.num_columns:,} columns"
        if len(cells) < len(self) or len(names) < table.num_columns:
            caption += f", of which {len(cells)} and {len(names)} are shown"
        return render_table(names, [list(row.values()) for row in cells], caption)

    def to_arrow(self) -> pa.Table:
        """Return the table as a pyarrow table."""
        import pyarrow as pa

        from flowgmm_cli.data.writers.base import to_arrow

        return pa.table({name: to_arrow(cells) for name, cells in self.table().items()})

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas data frame."""
        return self.to_arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Export the table through Arrow's PyCapsule interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def render_table(names: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """Return a table in HTML; texts are escaped, and numbers have four digits.

    >>> render_table(["<x>"], [[0.12345]], "1 row")
    '<table><caption>1 row</caption><tr><th>&lt;x&gt;</th></tr><tr><td>0.1235</td></tr></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{_render(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def _render(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list):
        return escape(f"{len(cell):,} numbers")
    return escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))
