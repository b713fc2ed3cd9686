"""Comparison of new rows with the training rows: flagged rows, ranges and units, missing cells, words.

A training run stores a summary of its training rows. Of new rows a sample that is spread over the input is
compared with it, so memory is flat and the cost does not grow with the number of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flowgmm_cli.api import Rows
from flowgmm_cli.data.array_types import Floats
from flowgmm_cli.data.column_encoders import UnseenCategories
from flowgmm_cli.data.dates import format_dates
from flowgmm_cli.data.images.arrays import LazyPixels
from flowgmm_cli.evaluation.result_warnings import ResultWarning, calibration_warnings
from flowgmm_cli.inference.row_summary import decode_words, finite_rows, number_series, word_shares
from flowgmm_cli.inference.scores import OODRule, Totals
from flowgmm_cli.messages import join_some, list_some
from flowgmm_cli.trained_model import TrainedModel

SAMPLE_ROWS = 4096
"""Rows of an input that are compared with the training rows, at least; fewer of wide tables."""
_MIN_ROWS, _MAX_NUMBERS = 256, 2**22
_USUAL, _TIMES, _ALPHA = 0.05, 3.0, 0.01  # a share is odd above 3 times the usual one, if that is no chance
_UNIT_FACTOR, _UNIT_AGREEMENT, _UNIT_ROWS = 5.0, 1.5, 5
_MAX_LISTED = 3


def is_odd(count: int, n: int, usual: float = _USUAL, *, known_from: int = 0, alpha: float = _ALPHA) -> bool:
    """Return True if `count` of `n` rows is more than 3 times the usual share, and not by chance.

    `known_from` is the number of rows that the usual share comes from: of few rows it may be larger.

    >>> is_odd(10, 10), is_odd(1, 10), is_odd(1, 1), is_odd(200, 1000), is_odd(100, 1000)
    (True, False, False, True, False)
    >>> is_odd(10, 10, known_from=3)
    False
    """
    if not n or count <= _TIMES * usual * n:
        return False
    from scipy.special import betainc, betaincinv

    if known_from:  # upper limit at 95 % confidence (Clopper and Pearson, 1934)
        successes = usual * known_from
        usual = float(betaincinv(successes + 1, known_from - successes, 0.95))
    return bool(betainc(count, n - count + 1, usual) < alpha)  # P(X >= count) of a binomial distribution


class Drift:
    """A sample of the rows of an input called `name`, in comparison with the training rows.

    For a model without a summary of its training rows only flags are compared.
    """

    def __init__(self, trained: TrainedModel, name: str) -> None:
        reference: Mapping[str, Any] = trained.facts.get("training_rows") or {}
        self.name = name
        self._rows = int(reference.get("rows", 0))
        self._model = calibration_warnings(trained.facts.get("calibration") or {})
        self._held_out = int((trained.facts.get("ood") or {}).get("held_out_rows", 0))
        self._reference: Mapping[str, Any] = reference.get("numbers", {})
        self._words: Mapping[str, Any] = reference.get("words", {})
        self._columns = trained.preprocessor.columns if reference else ()
        self._most = min(SAMPLE_ROWS, max(_MIN_ROWS, _MAX_NUMBERS // max(1, len(self._reference))))
        self._known = {name: decode_words(words["known"]) for name, words in self._words.items()}
        self._unseen = UnseenCategories(trained.preprocessor.feature_encoder.encoders)
        self._infinite = Counter[str]()
        self._seen = self._kept = 0
        self._stride = 1
        self._series: dict[str, list[Floats]] = {}

    def add(self, rows: Rows) -> None:
        """Count odd cells of the next rows of the input, and add some of the rows to the sample."""
        self._unseen.add(rows)
        positions = np.arange(-self._seen % self._stride, len(rows), self._stride)
        self._seen += len(rows)
        self._kept += len(positions)
        for column in self._columns:
            cells = rows.columns.get(column.name)
            if cells is None or isinstance(cells, LazyPixels):
                continue
            if column.kind == "numeric" and (count := int(np.isinf(cells).sum())):
                self._infinite[column.name] += count
            if not len(positions):
                continue
            some = cells if len(positions) == len(rows) else cells[positions]
            parts = number_series(column, some)
            if column.name in self._known:
                parts = {column.name: word_shares(some, self._known[column.name])}
            for name, values in parts.items():
                self._series.setdefault(name, []).append(values)
        if self._kept > 2 * self._most:
            self._series = {name: [np.concatenate(parts)[::2]] for name, parts in self._series.items()}
            self._kept = -(-self._kept // 2)
            self._stride *= 2

    def notes(self) -> list[str]:
        """Return notes about infinite cells, and a few cells with a category that training never saw."""
        infinite = [
            f"`{name}`: {count:,} of {self._seen:,} cells are infinite and count as missing"
            for name, count in self._infinite.items()
        ]
        return infinite + [
            found.text for found in self._unseen.describe() if not is_odd(found.cells, found.rows)
        ]

    def warnings(self, totals: Totals | None = None, rule: OODRule | None = None) -> list[ResultWarning]:
        """Return the differences that are more than chance; `totals` counts the rows that `rule` flags.

        With these, probabilities are of interest: a model whose probabilities say nothing is warned of.
        """
        series = {name: np.concatenate(parts) for name, parts in self._series.items()}
        numbers = {name: values for name, values in series.items() if name in self._reference}
        found = [self._range_warning(numbers), self._missing_warning(numbers)]
        found += [self._words_warning(name, series[name]) for name in self._words if name in series]
        explained = [warning for warning in found if warning is not None]
        explained += [
            ResultWarning("categories", text, {"column": column, "cells": cells, "rows": rows})
            for column, cells, rows, text in self._unseen.describe()
            if is_odd(cells, rows)
        ]
        if totals is None or rule is None:
            return explained
        if not is_odd(totals.flagged, totals.scored, rule.fpr, known_from=self._held_out):
            return [*self._model, *explained]
        shifts = None if explained else self._shifts(numbers)
        return [*self._model, self._flag_warning(totals, rule, shifts), *explained]

    @property
    def _of_sample(self) -> str:
        return "" if self._kept == self._seen else f" (of {self._kept:,} rows that were compared)"

    def _flag_warning(self, totals: Totals, rule: OODRule, shifts: Mapping[str, Any] | None) -> ResultWarning:
        """Describe the flagged rows; `shifts` is None where another warning explains them."""
        text = (
            f"{totals.flagged:,} of the {totals.scored:,} rows of {self.name} are flagged as out of "
            f"distribution, {100 * rule.fpr:g} % would be usual"
        )
        if shifts is not None:
            text += ": they are unlike the training rows"
        if shifts:
            medians = {
                name: self._format(name, shift["median"], shift["training_median"])
                for name, shift in shifts.items()
            }
            listed = (f"`{name}` ({now}, in training {before})" for name, (now, before) in medians.items())
            text += f", most in the medians of {join_some(listed, len(shifts), _MAX_LISTED)}"
        if shifts is not None:
            text += "; `flowgmm report --data FILE` shows the oddest"
        values: dict[str, Any] = {"flagged": totals.flagged, "rows": totals.scored, "usual_share": rule.fpr}
        values |= {"shifts": shifts} if shifts else {}
        return ResultWarning("flagged", text, values)

    def _shifts(self, numbers: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
        """Return the columns whose median differs by more than a standard deviation, the largest first."""

        def ratio(shift: Mapping[str, float]) -> float:
            return abs(shift["median"] - shift["training_median"]) / max(shift["scale"], 1e-300)

        found = {}
        for name, values in numbers.items():
            known, quantiles = finite_rows(values), self._reference[name]["quantiles"]
            if not len(known):
                continue
            scale = (quantiles[2] - quantiles[0]) / 3.29  # between 5 % and 95 % of a normal distribution
            median = float(np.median(known[:, 1]))
            if abs(median - quantiles[1]) > scale:
                found[name] = {"median": median, "training_median": quantiles[1], "scale": scale}
        far = sorted(found, key=lambda name: -ratio(found[name]))
        return {name: found[name] for name in far[: 2 * _MAX_LISTED]}

    def _range_warning(self, numbers: Mapping[str, Floats]) -> ResultWarning | None:
        """Compare ranges and units of numbers."""
        usual, found = max(_USUAL, 2 / (self._rows + 1)), list[dict[str, Any]]()
        for name, values in numbers.items():
            known, reference = finite_rows(values), self._reference[name]
            if not len(known):
                continue
            low, high = reference["range"]
            margin = 1e-6 * (high - low)
            outside = int(((known[:, 0] < low - margin) | (known[:, 2] > high + margin)).sum())
            factor = _unit_factor(known[:, 1], reference["quantiles"])
            if factor or is_odd(outside, len(known), usual, alpha=_ALPHA / len(numbers)):
                smallest, largest = float(known[:, 0].min()), float(known[:, 2].max())
                excess = max(largest - high, low - smallest) / max(high - low, 1e-300)
                ranges = {"range": [smallest, largest], "training_range": [low, high]}
                counts = {"outside": outside, "rows": len(known), "factor": factor, "excess": excess}
                found.append({"column": name, **ranges, **counts})
        found.sort(key=lambda item: (item["factor"] is None, -item["excess"]))
        return self._list_columns("range", "other values", map(self._describe_range, found), found)

    def _list_columns(
        self, kind: str, what: str, texts: Iterable[str], found: Sequence[Mapping[str, Any]]
    ) -> ResultWarning | None:
        if not found:
            return None
        listed = "; ".join(list_some(texts, len(found), _MAX_LISTED))
        text = f"{self.name} has {what} than the training rows: {listed}{self._of_sample}"
        return ResultWarning(kind, text, {"columns": found})

    def _describe_range(self, item: Mapping[str, Any]) -> str:
        ends = self._format(item["column"], *item["range"], *item["training_range"])
        unit = ": another unit?" if item["factor"] else ""
        training = f"in training from {ends[2]} to {ends[3]}{unit}"
        return f"`{item['column']}` goes from {ends[0]} to {ends[1]}, {training}"

    def _format(self, name: str, *values: float) -> list[str]:
        """Format values of a column."""
        form = next((column.format for column in self._columns if column.name == name), "")
        return format_dates(np.array(values), form).tolist() if form else [_number(value) for value in values]

    def _missing_warning(self, numbers: Mapping[str, Floats]) -> ResultWarning | None:
        """Compare the shares of missing cells."""
        found = []
        for name, values in numbers.items():
            usual = min(1.0, max(_USUAL, self._reference[name]["missing"]))
            missing = len(values) - len(finite_rows(values))
            if is_odd(missing, len(values), usual, alpha=_ALPHA / len(numbers)):
                item = {"column": name, "missing": missing, "rows": len(values)}
                found.append({**item, "training_share": self._reference[name]["missing"]})
        found.sort(key=lambda item: -item["missing"])
        texts = (
            f"`{item['column']}` is missing in {item['missing']:,} of {item['rows']:,} rows, in training in "
            f"{100 * item['training_share']:.3g} %"
            for item in found
        )
        return self._list_columns("missing", "more missing cells", texts, found)

    def _words_warning(self, name: str, shares: Floats) -> ResultWarning | None:
        """Compare the shares of known words in texts."""
        words, shares = self._words[name], shares[np.isfinite(shares)]
        few = int((shares < words["low"]).sum())
        if not is_odd(few, len(shares), max(words["usual"], 1 / (self._rows + 1))):
            return None
        text = (
            f"{few:,} of the {len(shares):,} texts of {self.name} have few words in common with the training "
            f"texts (median share of known words {100 * np.median(shares):.0f} %, in training "
            f"{100 * words['median']:.0f} %): are they in another language, or numbers?{self._of_sample}"
        )
        values = {"column": name, "texts": few, "rows": len(shares), "usual_share": words["usual"]}
        values |= {"median": float(np.median(shares)), "training_median": words["median"]}
        return ResultWarning("words", text, values)


def _unit_factor(values: Floats, quantiles: Sequence[float]) -> float | None:
    """Return the factor by which centre and spread both differ from training; None if they differ otherwise.

    A unit multiplies both. New rows of one kind or one year differ in one of them.
    """
    if len(values) < _UNIT_ROWS:
        return None
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    spread = quantiles[2] - quantiles[0]
    if not (high > low and spread > 0 and middle * quantiles[1] > 0):
        return None
    factors = float(middle / quantiles[1]), float((high - low) / spread)
    large = min(factors) > _UNIT_FACTOR or max(factors) < 1 / _UNIT_FACTOR
    return float(f"{factors[0]:.4g}") if large and max(factors) < _UNIT_AGREEMENT * min(factors) else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
