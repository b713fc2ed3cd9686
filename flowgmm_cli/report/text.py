"""Results in plain words, for reports and model cards. Facts of the run only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.dates import readable_cells
from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.intervals import LEVEL, Interval
from flowgmm_cli.evaluation.metrics import ClassificationMetrics, CrossFitted, Evaluation
from flowgmm_cli.evaluation.result_warnings import evaluation_warnings
from flowgmm_cli.files import read_json
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.messages import escape_controls
from flowgmm_cli.recipe.schema import Recipe

_MAX_ENTRIES = 8  # of a vector that are written


def percent(share: float, digits: int = 1) -> str:
    """Format a share.

    >>> percent(0.9666), percent(1.0)
    ('96.7 %', '100.0 %')
    """
    return f"{100 * share:.{digits}f} %"


def percent_range(interval: Interval) -> str:
    """Format the ends of an interval of shares."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def format_cell(value: Any, *, number: str = ".4g", max_letters: int = 160) -> str:
    r"""Format a cell of a table: numbers by a format specification, long texts cut.

    >>> format_cell(3.14159), format_cell(np.nan), format_cell("two\nlines"), format_cell(np.eye(2))
    ('3.142', '', 'two lines', '1 0 0 1')
    """
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        value = " ".join(f"{entry:.3g}" for entry in value.ravel()[:_MAX_ENTRIES].tolist())
    elif isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:{number}}"
    return shorten(" ".join(str(value).split()), max_letters)


def describe_row(rows: Rows, columns: Sequence[Column], place: int) -> str:
    """Return the cells of a row on one line, without vectors and pixels; its text comes without a name."""
    return ", ".join(
        format_input(rows, column, place, max_letters=240)
        if column.kind == "text"
        else f"{column.name}={format_input(rows, column, place)}"
        for column in columns
        if not column.shape
    )


def format_input(rows: Rows, column: Column, place: int, max_letters: int = 160) -> str:
    """Format a cell of a row as `format_cell` does; a date has the format of its table."""
    return format_cell(readable_cells(column, rows.columns[column.name][[place]])[0], max_letters=max_letters)


def shorten(name: str, max_letters: int = 18) -> str:
    """Cut a name so that it fits beside an axis, and show its control characters."""
    name = escape_controls(name)
    return name if len(name) <= max_letters else f"{name[: max_letters - 1]}…"


def describe_source(recipe: Recipe) -> str:
    """Name the origin of the rows, such as `my.csv`."""
    values = recipe.to_stored()["data"]
    if recipe.data.use.rpartition("/")[2] == "sklearn":
        return f"the data set `{values.get('name', '')}`"
    path = values.get("path")
    if isinstance(path, list):
        return ", ".join(Path(item).name for item in path)
    return Path(path).name if isinstance(path, str) else f"the data source `{recipe.data.use}`"


def describe_model(recipe: Recipe, rows: Mapping[str, int], classes: int, members: int) -> str:
    """Describe the model, its rows and its labels."""
    labelled, train = rows.get("labelled", 0), rows.get("train", 0)
    model = "a FlowGMM model:" if members == 1 else f"an ensemble of {members} FlowGMM models, each"
    return (
        f"This is {model} a normalizing flow that maps every row to a point in a latent space, where "
        f"each of the {pluralise(classes, 'class')} is a Gaussian. It was trained on "
        f"{pluralise(train, 'row')} of {describe_source(recipe)}: {labelled:,} with a label "
        f"({percent(labelled / max(train, 1))}) and {train - labelled:,} without."
    )


def describe_accuracy(evaluation: Evaluation) -> str:
    """Describe the accuracy with its interval, next to that of the most frequent class."""
    metrics, summary = evaluation.classification, evaluation.cross_fitted
    interval = metrics.intervals["accuracy"]
    majority = max(metrics.per_class, key=lambda row: row.support)
    rows, more = f"{pluralise(metrics.n, 'test row')} that training did not see", ""
    if evaluation.split == "cross_fitted":
        rows = f"{pluralise(metrics.n, 'labelled row')}, each predicted by a model that did not see its label"
    elif summary:
        more = f" {describe_cross_fitted(summary).capitalize()}."
    return (
        f"On {rows}, {percent(metrics.accuracy)} of the predicted classes are right. Another sample of rows "
        f"would give another number: with {percent(interval.level, 0)} confidence the share of right "
        f"predictions on such rows lies between {percent(interval.low)} and {percent(interval.high)}.{more} "
        f"Always predicting `{majority.name}`, the most frequent class, would be right in "
        f"{percent(majority.support / max(metrics.n, 1))} of the rows."
    )


def describe_cross_fitted(summary: CrossFitted) -> str:
    """State the accuracy on labelled rows that were held out in training."""
    n, all_rows = f"{summary.n:,}", summary.n + summary.left_out
    rows = f"all {n}" if not summary.left_out else f"{n} of the {all_rows:,}"
    interval = percent_range(summary.intervals["accuracy"])
    return (
        f"cross-fitted accuracy on {rows} labelled rows: {percent(summary.metrics['accuracy'])} "
        f"({percent(LEVEL, 0)} interval {interval})"
    )


def row_kind(evaluation: Evaluation) -> str:
    """Name a row of an evaluation, such as `test row`."""
    return f"{evaluation.split.replace('_', '-')} row"


def describe_confidence(evaluation: Evaluation) -> str:
    """Compare the stated confidences with the accuracy."""
    metrics = evaluation.classification
    confidence = mean_confidence(metrics)
    gap = metrics.accuracy - confidence
    verdict = "on average its confidence is right"
    if abs(gap) >= 0.01:
        kind = "underconfident" if gap > 0 else "overconfident"
        verdict = f"it is {kind} by {100 * abs(gap):.1f} points on average"
    return (
        "The model states a confidence with each class. Its mean confidence on the "
        f"{row_kind(evaluation)}s is {percent(confidence)} and its accuracy {percent(metrics.accuracy)}: "
        f"{verdict}. The expected calibration error, the mean gap over groups of rows with similar "
        f"confidence, is {metrics.ece:.3f}; a perfectly calibrated model would show about "
        f"{chance_ece(metrics):.3f} by chance on this number of rows."
    )


def describe_verdict(evaluation: Evaluation) -> str:
    """State the verdict on the model beside the baselines; empty without them."""
    text = evaluation.verdict.text if evaluation.verdict else ""
    return f"{text.replace('no difference', 'No difference', 1)}." if text else ""


def describe_weaknesses(metrics: ClassificationMetrics) -> str:
    """Name the class with the lowest recall and the most frequent confusion."""
    recalls = [(row.recall, row) for row in metrics.per_class if row.recall is not None]
    if len(recalls) < 2:
        return ""
    recall, worst = min(recalls, key=lambda pair: pair[0])
    errors = [cell for cell in metrics.confusion_cells if cell[0] != cell[1]]
    if not errors:
        return "It made no mistake on these rows."
    true, predicted, number = max(errors, key=lambda cell: (cell[2], cell))
    names = [row.name for row in metrics.per_class]
    return (
        f"The class with the lowest recall is `{worst.name}`: {percent(recall)} of its "
        f"{pluralise(worst.support, 'row')}. The most frequent mistake is to take `{names[true]}` for "
        f"`{names[predicted]}` ({pluralise(number, 'row')})."
    )


def list_warnings(info: Mapping[str, Any], evaluation: Evaluation | None) -> list[dict[str, Any]]:
    """List the warnings of a training and of an evaluation, one of each kind, as they are in JSON."""
    by_kind = {str(warning.get("kind")): dict(warning) for warning in info.get("warnings") or ()}
    for warning in evaluation_warnings(evaluation) if evaluation else ():
        by_kind.setdefault(warning.kind, warning.to_dict())
    return list(by_kind.values())


def list_caveats(
    info: Mapping[str, Any], evaluation: Evaluation | None, facts: Mapping[str, Any]
) -> list[str]:
    """List limitations of the numbers."""
    texts = [str(warning.get("text")) for warning in list_warnings(info, evaluation)]
    caveats = [f"{text[:1].upper()}{text[1:]}." for text in texts]
    if info.get("val_labels"):
        labels = pluralise((info.get("rows") or {}).get("val_labelled", 0), "validation label")
        caveats.append(
            f"Early stopping and calibration used {labels} beyond the labelled training rows "
            "(data.split.val_labels)."
        )
    if reasons := facts.get("inexact_density"):
        caveats.append(f"The density is not that of the rows as stored in the file: {'; '.join(reasons)}.")
    return caveats


def suggest_next_step(run: Path, evaluation: Evaluation) -> str:
    """Name the command to run next."""
    if not evaluation.baselines:
        return f"Next: `flowgmm eval {run} --baselines` compares it with simpler methods on the same rows."
    return (
        f"Next: `flowgmm predict {run} --data FILE` predicts the classes of other rows, and `flowgmm curve` "
        "shows how much more labels would help."
    )


def read_forecasts(folder: Path) -> list[str]:
    """Read the forecasts in the folder of a curve, a line each; none if it is no such folder."""
    try:
        forecasts = read_json(folder / "curve.json", "curve").get("forecast")
    except RunError:
        return []
    lines = []
    for item in forecasts or ():
        choice = f" ({item['choose']})" if item["choose"] else ""
        lines.append(f"forecast from {item['labels']:,} labels{choice}: {item['text']}")
    return lines


def describe_calibration(calibration: Mapping[str, Any]) -> str:
    """Describe the temperature and its origin."""
    method, rows = calibration.get("method"), int(calibration.get("rows") or 0)
    temperature, noise = float(calibration.get("temperature", 1.0)), float(calibration.get("noise") or 0.0)
    origin = {
        "val": f"fitted on {pluralise(rows, 'label')} of held-out rows",
        "cross_fit": f"cross-fitted on the {pluralise(rows, 'labelled row')}: each was predicted by a model "
        "that had not seen its label",
        "training": "that of the training, since there were too few labels to fit one",
        "none": "left at 1, since the recipe asks for no calibration",
    }.get(str(method), f"fitted by `{method}`")
    text = (
        f"Logits are divided by a temperature of {temperature:.2f} ({origin}); above 1 it makes the model "
        "less confident."
    )
    if noise:
        text += (
            f" In addition, {percent(noise)} of the labels are assumed to be noise, which caps the "
            "confidence of the model."
        )
    return text


def mean_confidence(metrics: ClassificationMetrics) -> float:
    """Return the mean probability of the predicted class."""
    total = sum(row.count * (row.confidence or 0.0) for row in metrics.reliability)
    return total / max(metrics.n, 1)


def chance_ece(metrics: ClassificationMetrics) -> float:
    r"""Estimate the ECE of a perfectly calibrated model on the same number of rows.

    In a bin of n rows with confidence p the share of right answers scatters by :math:`\sqrt{p(1-p)/n}`, whose
    mean size is :math:`\sqrt{2/\pi}` of that.
    """
    bins = [(row.count, row.confidence) for row in metrics.reliability if row.confidence is not None]
    total = sum(math.sqrt(2 / math.pi * max(p * (1 - p), 0.0) * count) for count, p in bins)
    return total / max(metrics.n, 1)
