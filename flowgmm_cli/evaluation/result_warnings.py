"""Warnings about results: predictions that say nothing, and labels that cannot test or validate a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import join_some

_ADVICE = "check that its columns have to do with the classes, or label more rows"
_SPLITS = {"test": "test", "val": "validation", "cross_fitted": "cross-fitted"}
_MIN_GAIN = 1.0  # nats
_MIN_TEST_ROWS = 100  # with fewer, the interval of a share is wider than ten points either way
_MIN_LABELS = 5  # of one class, which are no chance
_MAX_LISTED = 8


@dataclass(frozen=True)
class ResultWarning:
    """A warning: its kind, a sentence with the next step, and numbers for JSON."""

    kind: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"kind": self.kind, "text": self.text, **self.values}


def is_informative(calibration: Mapping[str, Any]) -> bool:
    """Return False if the frequencies of the classes explain the labels of a calibration as well as a model.

    The temperature was fitted to these labels, so it must gain more than 1 nat (Akaike, 1974). Labels of a
    single class show nothing. `calibration` has the values of `Calibration.to_dict`.
    """
    nll, by_frequency = calibration.get("nll"), calibration.get("frequency_nll")
    if nll is None or not by_frequency:
        return True
    return bool(calibration.get("rows", 0) * (by_frequency - nll) > _MIN_GAIN)


def calibration_warnings(calibration: Mapping[str, Any]) -> list[ResultWarning]:
    """Warn if the model does not predict the labels that its temperature was fitted to."""
    if is_informative(calibration):
        return []
    labels = "cross-fitted" if calibration.get("method") == "cross_fit" else "validation"
    values = {name: calibration.get(name, 0) for name in ("rows", "nll", "frequency_nll", "temperature")}
    text = (
        f"the model predicts the {values['rows']:,} {labels} labels no better than the frequencies of the "
        f"classes do (NLL {values['nll']:.3f}, by frequency {values['frequency_nll']:.3f}): its "
        f"probabilities say nothing; {_ADVICE}"
    )
    return [ResultWarning("uninformative", text, {"labels": labels, **values})]


def model_warnings(calibration: Mapping[str, Any], result: Evaluation | None) -> list[ResultWarning]:
    """Warn about a calibration and an evaluation; that probabilities say nothing is said once."""
    found = calibration_warnings(calibration)
    tested = [] if result is None else evaluation_warnings(result)
    return found + [warning for warning in tested if not found or warning.kind != found[0].kind]


def label_warnings(counts: Mapping[str, int], split: str, meaning: str = "") -> list[ResultWarning]:
    """Warn if the labels of a split, counted by class, are all of one class, or if a class has none.

    `meaning` is the consequence of a single class; by default that of test rows.
    """
    total, missing = sum(counts.values()), [name for name, count in counts.items() if not count]
    if len(counts) < 2 or not missing or total < _MIN_LABELS:
        return []
    rows = f"labelled {split} rows" if split else "labelled rows"
    if len(missing) == len(counts) - 1:
        only = max(counts, key=lambda name: counts[name])
        meaning = meaning or "the results say nothing about the other classes"
        text = (
            f"all {total:,} {rows} are of the class `{only}`, one of {len(counts):,}: {meaning}; give rows "
            "of every class"
        )
        return [ResultWarning("single_class", text, {"split": split, "rows": total, "class": only})]
    listed = join_some((f"`{name}`" for name in missing), len(missing), _MAX_LISTED)
    text = (
        f"{len(missing):,} of {len(counts):,} classes have no {rows} ({listed}): the results say nothing "
        "about them; label more rows"
    )
    return [ResultWarning("untested_classes", text, {"split": split, "rows": total, "classes": missing})]


def _few_rows_warnings(result: Evaluation) -> list[ResultWarning]:
    """Warn of test rows that are too few for a precise accuracy, with its interval."""
    n, interval = result.classification.n, result.classification.intervals["accuracy"]
    if result.split != "test" or n >= _MIN_TEST_ROWS:
        return []
    low, high = 100 * interval.low, 100 * interval.high
    text = (
        f"{pluralise(n, 'test row')} are few: the {100 * interval.level:.0f} % interval of the accuracy is "
        f"{high - low:.0f} points wide, {low:.1f} % to {high:.1f} %"
    )
    if result.cross_fitted is not None:
        text += "; data.split.test=0 trains on every label and reports the cross-fitted accuracy"
    return [ResultWarning("few_test_rows", text, {"rows": n, "low": interval.low, "high": interval.high})]


def evaluation_warnings(result: Evaluation, class_names: Sequence[str] | None = None) -> list[ResultWarning]:
    """Warn if the labelled rows cannot test the model or are few, or if frequencies predict them as well.

    `class_names` are the classes of the model if the rows may have others.
    """
    metrics = result.classification
    kind = _SPLITS.get(result.split, "")
    known = {row.name for row in metrics.per_class} if class_names is None else set(class_names)
    counts = {row.name: row.support for row in metrics.per_class if row.name in known}
    found = label_warnings(counts, kind) + _few_rows_warnings(result)
    support = np.array([row.support for row in metrics.per_class if row.support])
    if len(support) < 2 or len(counts) < len(metrics.per_class) or kind == "cross-fitted":
        return found  # see `calibration_warnings` for cross-fitted labels
    shares = support / support.sum()
    by_frequency = float(-(shares * np.log(shares)).sum())
    if metrics.n * (by_frequency - metrics.nll) > _MIN_GAIN:
        return found
    labels = f"{kind} labels" if kind else "labels"
    text = (
        f"the model predicts the {metrics.n:,} {labels} no better than the frequencies of the classes do "
        f"(NLL {metrics.nll:.3f}, by frequency {by_frequency:.3f}; accuracy {metrics.accuracy:.3f}, of the "
        f"most frequent class {shares.max():.3f}): {_ADVICE}"
    )
    values = {"labels": kind, "rows": metrics.n, "nll": metrics.nll, "frequency_nll": by_frequency}
    values |= {"accuracy": metrics.accuracy, "majority_share": float(shares.max())}
    return [*found, ResultWarning("uninformative", text, values)]
