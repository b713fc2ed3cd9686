"""Text laid out for a width: lines that break between words only, and tables that fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

_GAP = "  "  # between the columns of a table
_PROSE = 16  # letters; a column of text is not narrower
# code spans, and commands after a colon or at the start, are copied whole
_WHOLE = re.compile(r"`[^`]*`|(?:^|(?<=: ))flowgmm .*?(?=; | · |$)")


def wrap(text: str, width: int, *, indent: str | None = None) -> list[str]:
    """Break lines between words; code spans and commands are words, too.

    A word that is longer than a line stays where it is: broken by the terminal, it can be copied. Lines after
    the first of a paragraph begin with `indent`, by default below the text after its label.

    >>> wrap("ood     rows are flagged above 4.3", 24)
    ['ood     rows are flagged', '        above 4.3']
    >>> wrap("next: flowgmm eval runs/a --baselines", 32)
    ['next:', 'flowgmm eval runs/a --baselines']
    """
    from rich.cells import cell_len

    lines = []
    for paragraph in text.split("\n"):
        label = re.match(r" *(?:\S+ {2,})?", paragraph)
        margin = " " * len(label[0]) if indent is None and label else indent or ""
        line, empty = "", True
        for space, word in re.findall(r"( *)([^ ]+)", _WHOLE.sub(_join, paragraph)):
            too_long = cell_len(line) + len(space) + cell_len(word) > width
            if too_long and not empty and cell_len(margin) + cell_len(word) <= width:
                lines.append(line)
                line, space = margin, ""
            line, empty = line + space + word, False
        lines.append(line)
    return [line.replace("\0", " ") for line in lines]


def _join(match: re.Match[str]) -> str:
    return match[0].replace(" ", "\0")


def format_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[str] = (),
    width: int | None = None,
) -> tuple[list[str], list[str]]:
    """Return the heading and the other lines of a table, without trailing blanks.

    With a `width`, texts are wrapped at words. A table that does not fit even so is turned, with a column for
    each row, or written as blocks with a line for each cell. `right` has the headings of columns whose cells
    are aligned right and never wrapped.

    >>> format_table(["name", "n"], [["a", "5"], ["bb", "12"]], right=["n"])
    (['name   n'], ['a      5', 'bb    12'])
    """
    widths = _column_widths(columns, rows, right, width)
    if widths is None:
        heading, *turned = zip(columns, *rows, strict=True)
        widths = _column_widths(heading, turned, heading[1:], width)
        if widths is None:
            return [], _format_blocks(columns, rows, width or 0)
        columns, rows, right = heading, turned, heading[1:]
    aligned = [column in right for column in columns]
    first, *others = (_format_row(row, widths, aligned) for row in (columns, *rows))
    return first, [line for lines in others for line in lines]


def fits(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), width: int
) -> bool:
    """Return True if a table has room without breaking words or numbers."""
    return _column_widths(columns, rows, right, width) is not None


def _column_widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], width: int | None
) -> list[int] | None:
    """Width of each column; None if words or numbers do not fit side by side."""
    from rich.cells import cell_len

    cells = list(zip(columns, *rows, strict=True))
    full = [max(map(cell_len, column)) for column in cells]
    room = sum(full) if width is None else width - len(_GAP) * (len(columns) - 1)
    if sum(full) <= room:
        return full
    least = []
    for index, column in enumerate(cells):
        if columns[index] in right:
            least.append(max([*map(cell_len, column[1:]), *map(cell_len, columns[index].split())]))
        else:
            words = [cell_len(word) for cell in column for word in _WHOLE.sub(_join, cell).split(" ")]
            is_last = index == len(columns) - 1  # a path in it may be longer, and remains whole
            least.append(min(full[index], _PROSE if is_last else max(*words, min(_PROSE, full[index]))))
    if sum(least) > room:
        return None
    widths = least
    for _ in range(room - sum(least)):
        lacks = [need - has for need, has in zip(full, widths, strict=True)]
        widths[lacks.index(max(lacks))] += 1
    return widths


def _format_row(cells: Sequence[str], widths: Sequence[int], aligned: Sequence[bool]) -> list[str]:
    from rich.cells import cell_len

    def pad(text: str, index: int) -> str:
        space = " " * (widths[index] - cell_len(text))
        return space + text if aligned[index] else text + space

    parts = [wrap(cell, width, indent="") for cell, width in zip(cells, widths, strict=True)]
    height = max(map(len, parts))
    return [
        _GAP.join(pad(part[line] if line < len(part) else "", i) for i, part in enumerate(parts)).rstrip()
        for line in range(height)
    ]


def _format_blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Write each row as lines of a heading and a cell; empty cells are left out."""
    longest = max(map(len, columns))
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for column, cell in zip(columns, row, strict=True):
            if cell:
                margin = " " * (longest + len(_GAP))
                lines += wrap(f"{column:{longest}}{_GAP}{cell}", width, indent=margin)
    return lines
