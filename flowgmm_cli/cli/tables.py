"""Tables: fitted to a terminal, or as plain aligned lines for pipes and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from rich.table import Table


def rich_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> Table:
    """A table that folds long cells to the terminal's width; cells are text, not markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(title) if title else None,
        title_justify="left",
        pad_edge=False,
        header_style="bold",
    )
    for column in columns:
        table.add_column(Text(column), justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def plain_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> list[str]:
    """Lines of aligned columns, never wrapped, without trailing blanks.

    >>> plain_table(["name", "n"], [["a", "5"], ["bb", "12"]], right=["n"])
    ['name   n', 'a      5', 'bb    12']
    """
    lines = [columns, *rows]
    widths = [max(cell_len(line[place]) for line in lines) for place in range(len(columns))]

    def pad(text: str, place: int) -> str:
        space = " " * (widths[place] - cell_len(text))
        return space + text if columns[place] in right else text + space

    body = ["  ".join(pad(text, place) for place, text in enumerate(line)).rstrip() for line in lines]
    return [title, *body] if title else body
