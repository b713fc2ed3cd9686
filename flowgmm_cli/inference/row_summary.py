"""Summary of training rows that new rows are compared with: ranges and quantiles of numbers, known words."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.array_types import Array, Floats
from flowgmm_cli.data.column_encoders import as_strings

MAX_ROWS = 20_000
"""Training rows that are summarised; fewer of large images, which may have to be decoded."""
_MIN_ROWS, _MAX_NUMBERS = 500, 2**27
_MAX_ENTRIES = 128  # of a vector whose entries are compared one by one
_MAX_WORDS, _TEXT_WORDS, _TEXT_LETTERS = 20_000, 500, 5000
_WORD = re.compile(r"\w+")

Words = frozenset[int]
"""Hashes of words."""


def summarise_rows(train: Rows, columns: Sequence[Column]) -> dict[str, Any]:
    """Summarise training rows, or some of them, as plain values for JSON.

    `numbers` has for each column of numbers, or entry of a vector, the range, the quantiles of 5, 50 and 95 %
    and the share of missing cells; `words` has for each column of texts the known words and the shares of
    known words.
    """
    width = max(math.prod(column.shape) for column in columns)
    most = min(MAX_ROWS, max(_MIN_ROWS, _MAX_NUMBERS // width))
    if len(train) > most:
        train = train.take(np.unique(np.linspace(0, len(train) - 1, most).astype(np.int64)))
    numbers, words = {}, {}
    for column in columns:
        cells = train.columns[column.name]
        if column.kind == "text":
            words[column.name] = _summarise_texts(cells)
        for name, values in number_series(column, cells).items():
            known = finite_rows(values)
            if len(known):
                numbers[name] = {
                    "range": [float(known[:, 0].min()), float(known[:, 2].max())],
                    "quantiles": np.quantile(known[:, 1], [0.05, 0.5, 0.95]).tolist(),
                    "missing": 1 - len(known) / len(values),
                }
    return {"rows": len(train), "numbers": numbers, "words": words}


def number_series(column: Column, cells: Array) -> dict[str, Floats]:
    """Return the smallest, mean and largest number of each row, `(N, 3)`, by name; {} without numbers.

    Entries of a short vector are compared one by one, those of images and long vectors together.
    """
    if column.kind in ("text", "category"):
        return {}
    numbers = np.asarray(cells).reshape(len(cells), -1)
    if len(column.shape) > 1 or numbers.shape[1] > _MAX_ENTRIES:
        parts = numbers.min(axis=1), numbers.mean(axis=1, dtype=np.float64), numbers.max(axis=1)
        return {column.name: np.stack(parts, axis=1).astype(np.float64)}
    single = not column.shape
    return {
        column.name if single else f"{column.name}[{entry}]": np.repeat(
            cell[:, None].astype(np.float64), 3, 1
        )
        for entry, cell in enumerate(numbers.T)
    }


def finite_rows(values: Floats) -> Floats:
    """Return the rows without a missing or infinite number."""
    return values[np.isfinite(values).all(axis=1)]


def _summarise_texts(cells: Array) -> dict[str, Any]:
    """Return the words of two or more texts, and shares of words that two or more other texts have."""
    counts = Counter(word for text in as_strings(cells) for word in set(_hashes(text)))
    common = [word for word, count in counts.most_common(_MAX_WORDS) if count > 1]
    shares = word_shares(cells, frozenset(word for word in common if counts[word] > 2))
    shares = shares[np.isfinite(shares)]
    low, median = np.quantile(shares, [0.05, 0.5]).tolist() if len(shares) else (0.0, 0.0)
    return {
        "known": base64.b64encode(np.array(sorted(common), dtype="<u4").tobytes()).decode(),
        "low": low,
        "median": median,
        "usual": float((shares < low).mean()) if len(shares) else 0.0,
    }


def decode_words(text: str) -> Words:
    """Return the hashes of known words as `summarise_rows` saved them."""
    return frozenset(np.frombuffer(base64.b64decode(text), dtype="<u4").tolist())


def word_shares(cells: Array, known: Words) -> Floats:
    """Return the share of known words of each text, `(N,)`: NaN of an empty text, 0 of one without words."""
    return np.array([_share(text, known) for text in as_strings(cells)], dtype=np.float64)


def _share(text: str, known: Words) -> float:
    words = _hashes(text)
    if not words:
        return 0.0 if text.strip() else np.nan
    return sum(word in known for word in words) / len(words)


def _hashes(text: str) -> list[int]:
    words = islice(_WORD.finditer(text[:_TEXT_LETTERS].casefold()), _TEXT_WORDS)
    return [zlib.crc32(word.group().encode("utf-8", "surrogatepass")) for word in words]
