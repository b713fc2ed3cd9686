"""Check paths and header lines of table files. Imports no table library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from flowgmm_cli.errors import DataError, did_you_mean

NO_HEADER = "the first line must hold the names of the columns, but it holds numbers"
_DELIMITERS = ",;\t|"


def require_file(path: str) -> Path:
    """Return the absolute path of a file; `DataError` if it does not exist or is a folder."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise DataError(f"{path} is a folder, not a file", hint="name one of the files in it")
    if not file.is_file():
        if "://" in path:
            raise DataError(f"{path} is an address, not a file", hint="download it, and name the file here")
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise DataError(
            f"no such file: {path}{did_you_mean(file.name, siblings)}",
            hint=f"check the path; it is looked for in {Path.cwd()}"
            if not file.is_absolute()
            else "check the path",
        )
    return file.resolve()


def column_names(header: Sequence[str], *, where: str) -> list[str]:
    """Return the names in a header line; a column without a name gets the one that pandas would give it.

    Raises:
        DataError: two columns have the same name.

    >>> column_names(["", " x ", "y"], where="t.csv")
    ['Unnamed: 0', 'x', 'y']
    """
    names = [name.strip() or f"Unnamed: {index}" for index, name in enumerate(header)]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(
            f"{where}: the header names a column twice: {', '.join(repeated)}",
            hint=NO_HEADER if all(map(is_number, names)) else "rename one of them",
        )
    return names


def require_header(names: Sequence[str], *, where: str) -> None:
    """Raise `DataError` if the names of columns are the numbers of a row; 0, 1, 2, ... are names.

    >>> require_header(["0", "1", "2"], where="t.csv")
    """
    named = [name for name in names if not name.startswith("Unnamed: ")]
    counted = [[str(place) for place in range(start, start + len(named))] for start in (0, 1)]
    if named and all(map(is_number, named)) and named not in counted:
        raise DataError(
            f"{where}: {NO_HEADER}",
            details=[f"first line: {', '.join(named[:8])}{', ...' if len(named) > 8 else ''}"],
            hint="write a line with the names of the columns above the rows",
        )


def is_number(text: str) -> bool:
    """Return True if a word is a number, which names of columns rarely are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def guess_delimiter(suffix: str, header: str) -> str:
    """Return the most frequent delimiter of the header line, by default a comma."""
    if suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return max(_DELIMITERS, key=header.count)
