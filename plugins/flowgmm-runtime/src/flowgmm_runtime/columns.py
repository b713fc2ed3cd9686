"""Columns of rows as features: each function is the inference half of one of flowgmm's column encoders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_runtime.cells import InputError, to_canonical, to_number, to_seconds, to_string, to_text
from flowgmm_runtime.texts import TextEncoder

Floats = npt.NDArray[np.floating[Any]]
Problems = dict[int, str]
"""Position of a row -> reason that it cannot be scored."""
Table = Mapping[str, Sequence[Any]]
"""Cells by column."""

_MISSING, _DAY = "(missing)", 86400.0


@dataclass
class Column:
    """An input column of the model: `encoder` has the fitted values, `parts` the columns of a text."""

    name: str
    kind: str
    shape: tuple[int, ...]
    format: str
    parts: tuple[str, ...]
    encoder: Mapping[str, Any]
    texts: TextEncoder | None = field(default=None, repr=False)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], folder: Path) -> Column:
        """Restore a column from `model.json` and the files beside it."""
        texts = TextEncoder(values["encoder"], folder) if values["kind"] == "text" else None
        lists = {name: tuple(values[name]) for name in ("shape", "parts")}
        return cls(**{**values, **lists}, texts=texts)

    @property
    def size(self) -> int:
        """Number of entries of a cell."""
        return math.prod(self.shape)

    def spellings(self) -> list[tuple[str, ...]]:
        """Return the names under which a table may hold the column, the preferred first."""
        names = [self.parts] if self.parts else []
        names.append((self.name,))
        if self.kind in ("vector", "image"):
            entries = range(self.size)
            names.append(tuple(f"{self.name}[{entry}]" for entry in entries))
            names.append(tuple(f"{self.name}_{entry}" for entry in entries))
        return names

    def find(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of a table that form this one. Raises `InputError` if one is missing."""
        for spelling in self.spellings():
            if set(names).issuperset(spelling):
                return spelling
        missing = [name for name in self.spellings()[0] if name not in names]
        raise InputError(
            f"there is no column {', '.join(f'`{name}`' for name in missing)}; the columns are: "
            f"{', '.join(names)}"
        )

    def encode(self, cells: Sequence[Sequence[Any]], problems: Problems) -> Floats:
        """Return features `(N, d)` of the columns that `find` has named, and add the rows without any."""
        if self.kind == "category":
            return _encode_categories([to_string(cell) for cell in cells[0]], self.encoder)
        if self.texts is not None:
            return self.texts.encode([to_text(row) for row in zip(*cells, strict=True)])
        if self.kind == "date":
            values = self._parse(cells, lambda cell: to_seconds(cell, self.format), problems)
            return _encode_dates(_fill(values, self.encoder), self.encoder, self.format)
        if len(cells) == 1 and self.shape:
            values = self._parse_vectors(cells[0], problems)
        else:
            values = self._parse(cells, to_number, problems)
        if self.kind != "image":
            return _fill(values, self.encoder)
        images = values.reshape(len(values), *self.shape)
        return np.moveaxis(images, 3, 1).reshape(values.shape) if images.ndim == 4 else values

    def _parse(
        self, cells: Sequence[Sequence[Any]], parse: Callable[[Any], float], problems: Problems
    ) -> Floats:
        """Return the numbers of columns `(N, columns)`, NaN in a row with another cell."""
        values = np.full((len(cells[0]), len(cells)), np.nan)
        for place, column in enumerate(cells):
            for row, cell in enumerate(column):
                try:
                    values[row, place] = parse(cell)
                except InputError as error:
                    problems.setdefault(row, f"column `{self.name}` {error}")
        return values

    def _parse_vectors(self, cells: Sequence[Any], problems: Problems) -> Floats:
        values = np.full((len(cells), self.size), np.nan)
        for row, cell in enumerate(cells):
            try:
                values[row] = np.asarray(cell, dtype=np.float64).reshape(self.size)
            except (TypeError, ValueError):
                reason = f"column `{self.name}` wants a list of {self.size:,} numbers"
                problems.setdefault(row, reason)
        return values


def encode_table(
    columns: Sequence[Column], found: Sequence[tuple[str, ...]], table: Table, problems: Problems
) -> Floats:
    """Return the features of a table `(N, F)`, and add the rows with features that are not finite."""
    parts = []
    for column, names in zip(columns, found, strict=True):
        features = column.encode([table[name] for name in names], problems)
        for row in np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist():
            problems.setdefault(row, f"column `{column.name}` is missing or infinite")
        parts.append(features)
    if all(column.kind == "text" for column in columns):
        texts = [[table[name] for name in names] for names in found]
        for row, cells in enumerate(zip(*(zip(*text, strict=True) for text in texts), strict=True)):
            if not any(to_text(part) for part in cells):
                problems.setdefault(row, "the text is empty")
    return np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)


def _fill(values: Floats, encoder: Mapping[str, Any]) -> Floats:
    """Fill missing cells in, and mark them by a second feature if those of training were many."""
    if encoder["fill"] is None:
        return values
    missing = ~np.isfinite(values)
    filled = np.where(missing, np.asarray(encoder["fill"]), values)
    return np.hstack([filled, missing]) if encoder["marked"] else filled


def _encode_categories(cells: Sequence[str | None], encoder: Mapping[str, Any]) -> Floats:
    if "categories" not in encoder:
        return _hash_categories(cells, encoder["size"])
    categories: list[str] = encoder["categories"]
    codes: dict[str | None, int] = {to_canonical(name): code for code, name in enumerate(categories)}
    codes |= {name: code for code, name in enumerate(categories)}
    codes[None] = codes.get(_MISSING, -1)
    matrix = np.zeros((len(cells), len(categories)))
    for row, cell in enumerate(cells):
        code = codes.get(cell, -1)
        code = codes.get(to_canonical(cell), -1) if code < 0 and cell is not None else code
        if code >= 0:
            matrix[row, code] = 1
    return matrix


def _hash_categories(cells: Sequence[str | None], size: int) -> Floats:
    matrix = np.zeros((len(cells), size))
    for row, cell in enumerate(cells):
        if cell is not None:
            data = to_canonical(cell).encode("utf-8", "surrogatepass")
            number = int.from_bytes(blake2b(data, digest_size=7).digest(), "little")
            matrix[row, number // 2 % size] = 1 - 2 * (number % 2)
    return matrix


def _encode_dates(values: Floats, encoder: Mapping[str, Any], form: str) -> Floats:
    """Return elapsed days, and the place in each cycle as sine and cosine, then the mark."""
    seconds, features = values[:, :1], []
    if "elapsed" in encoder["parts"]:
        features.append((seconds - encoder["origin"]) / _DAY)
    known = np.where(np.isfinite(seconds), seconds, 0)
    months = known.astype("M8[s]").astype("M8[M]").astype(np.int64)
    cycles: dict[str, Floats] = {"month": months % 12 / 12, "weekday": (seconds // _DAY + 3) % 7 / 7}
    cycles["hour"] = seconds % _DAY / _DAY
    for part in encoder["parts"]:
        if part in cycles:
            angle = 2 * np.pi * np.where(np.isfinite(seconds), cycles[part], np.nan)
            features += [np.sin(angle), np.cos(angle)]
    return np.hstack([*features, values[:, 1:]])
