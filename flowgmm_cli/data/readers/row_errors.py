"""Errors of single rows, and the policies for them: stop, leave such rows out, or give them no answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from flowgmm_cli.data.array_types import Ints
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some

if TYPE_CHECKING:
    from flowgmm_cli.data.readers.table import Table

OnError = Literal["fail", "keep"]
"""Policy for a row that cannot be read: `fail` stops with an error, `keep` records a problem."""

_FEW_ROWS, _FEW_SHARE, _MAX_SHARE = 3, 1e-3, 0.05  # malformed rows that training leaves out by default
_MAX_LISTED = 5


@dataclass(frozen=True)
class RowError:
    """Description of a malformed row: the problem, without the place, and advice to the user."""

    message: str
    hint: str = "correct it"


def row_error(name: str, place: str, error: RowError, remedy: str) -> DataError:
    """Return the error for a malformed row: `place` is `line 17`, `row 3` or the name of an image."""
    number = place.removeprefix("line ")
    where = f"{name}:{number}" if number != place else f"{name}, {place}"
    return DataError(f"{where}: {error.message}", hint=f"{error.hint}, {remedy}")


def raise_or_skip(
    errors: Mapping[int, RowError], locate: Callable[[int], tuple[str, str]], on_error: OnError
) -> dict[int, str]:
    """Raise the first error of a chunk if `on_error` is `fail`, else return position -> place and message.

    `locate` gives the first arguments of `row_error` for a position.
    """
    if errors and on_error == "fail":
        position = min(errors)
        remedy = "or keep such rows without an answer: --on-error keep"
        raise row_error(*locate(position), errors[position], remedy)
    return {position: f"{locate(position)[1]}: {errors[position].message}" for position in sorted(errors)}


def max_faulty_rows(total: int) -> float:
    """Return the number of malformed rows of `total` that training leaves out by default."""
    return min(max(_FEW_ROWS, _FEW_SHARE * total), _MAX_SHARE * total)


class FaultyRows:
    """The policy of training for malformed rows: leave a few out and say so, or stop.

    Args:
        name: the input as messages call it.
        on_error: `fail` stops at the first malformed row, `keep` leaves out any number; None leaves out at
            most 3 rows or one in a thousand, but not more than one in twenty.
        unit: the rows as messages call them.
    """

    def __init__(self, name: str, on_error: OnError | None, unit: str = "rows") -> None:
        self._name = name
        self._on_error = on_error
        self._unit = unit
        self._count = 0
        self._first: list[tuple[str, str, RowError]] = []

    def add(self, source: str, place: str, error: RowError) -> None:
        """Count a malformed row; `source` and `place` are those of `row_error`."""
        if self._count < _MAX_LISTED:
            self._first.append((source, place, error))
        self._count += 1

    def drop(self, batch: Table) -> tuple[Table, Ints]:
        """Return the rows of a batch that are not malformed, and their positions in the batch."""
        good = self.select(len(batch), batch.errors, batch.locate)
        return batch.take(good) if batch.errors else batch, good

    def select(
        self, rows: int, errors: Mapping[int, RowError], locate: Callable[[int], tuple[str, str]]
    ) -> Ints:
        """Return the positions of the rows without an error; `locate` gives a row's `source` and `place`.

        Raises:
            DataError: a row is malformed, and the policy is `fail`.
        """
        for position in sorted(errors):
            if self._count < _MAX_LISTED:
                self.add(*locate(position), errors[position])
            else:
                self._count += 1
        if errors and self._on_error == "fail":
            raise self._error(None)
        return np.delete(np.arange(rows), list(errors))

    def finish(self, total: int, note: Callable[[str], None]) -> None:
        """Stop, or note the rows that are left out, after all `total` rows were read."""
        if not self._count:
            return
        limit = {"fail": 0.0, "keep": total - 1.0, None: max_faulty_rows(total)}[self._on_error]
        if self._count > limit:
            raise self._error(total)
        listed = [f"{place}: {error.message}" for _, place, error in self._first]
        note(
            f"{self._name}: {self._count:,} of {total:,} {self._unit} cannot be read and are left out "
            f"({join_some(listed, self._count, len(listed))})"
        )

    def _error(self, total: int | None) -> DataError:
        source, place, error = self._first[0]
        remedy = f"or leave such {self._unit} out of training: data.on_error=keep"
        single = row_error(source, place, error, remedy)
        others = [f"{place}: {error.message}" for _, place, error in self._first[1:]]
        if self._count > 1:
            of_total = "" if total is None else f" of {total:,}"
            others.append(f"{self._count:,}{of_total} {self._unit} cannot be read")
        hint = error.hint if self._on_error == "keep" else single.hint
        return DataError(single.message, details=others, hint=hint)
