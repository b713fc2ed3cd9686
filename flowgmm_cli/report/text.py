"""Results in plain words, for the head of a report and for the model card. Facts of the run only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.report.figures import method_name

FEW_TEST_ROWS = 100  # below, the interval of a share is wider than ten points either way


def percent(share: float, digits: int = 1) -> str:
    """A share for people.

    >>> percent(0.9666), percent(1.0)
    ('96.7 %', '100.0 %')
    """
    return f"{100 * share:.{digits}f} %"


def count(number: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "row"), count(1200, "row"), count(2, "class")
    ('1 row', '1,200 rows', '2 classes')
    """
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"


def source_of(recipe: Recipe) -> str:
    """Where the rows come from, such as `my.csv` or `the digits of scikit-learn`."""
    config = recipe.data.config
    if recipe.data.use.rpartition("/")[2] == "sklearn":
        return f"the data set `{getattr(config, 'name', '')}`"
    path = getattr(config, "path", None)
    if isinstance(path, list):
        return ", ".join(Path(one).name for one in path)
    return Path(path).name if isinstance(path, str) else f"the data source `{recipe.data.use}`"


def what_was_trained(recipe: Recipe, rows: Mapping[str, int], classes: int, members: int) -> str:
    """One sentence: which model, from which rows and labels."""
    labelled, train = rows.get("labelled", 0), rows.get("train", 0)
    model = "a FlowGMM model" if members == 1 else f"an ensemble of {members} FlowGMM models"
    return (
        f"This is {model}: a normalizing flow that maps every row to a point in a latent space, where each "
        f"of the {count(classes, 'class')} is a Gaussian. It was trained on {count(train, 'row')} of "
        f"{source_of(recipe)}, of which {labelled:,} had a label ({percent(labelled / max(train, 1))}) and "
        f"{train - labelled:,} had none."
    )


def how_good(found: Evaluation) -> str:
    """Accuracy with its interval, and what it is to be held against."""
    one = found.classification
    interval = one.intervals["accuracy"]
    support = [row.support for row in one.per_class]
    usual = max(support) / max(one.n, 1)
    name = one.per_class[support.index(max(support))].name
    return (
        f"On {count(one.n, 'test row')} that training did not see, {percent(one.accuracy)} of the predicted "
        f"classes are right. With another sample of test rows this number would come out differently: with "
        f"{percent(interval.level, 0)} confidence the share of right answers on such rows lies between "
        f"{percent(interval.low)} and {percent(interval.high)}. Always answering `{name}`, the most frequent "
        f"class, would be right in {percent(usual)} of these rows."
    )


def how_sure(one: ClassificationMetrics) -> str:
    """Whether stated confidences can be believed."""
    stated = mean_confidence(one)
    gap = one.accuracy - stated
    if abs(gap) < 0.01:
        verdict = "on average its confidence is as high as it should be"
    elif gap > 0:
        verdict = f"it is too modest by {100 * gap:.1f} points on average"
    else:
        verdict = f"it is too sure of itself by {-100 * gap:.1f} points on average"
    return (
        f"With each class the model states how sure it is. Its mean confidence on the test rows is "
        f"{percent(stated)} and it is right in {percent(one.accuracy)}: {verdict}. The expected calibration "
        f"error, the mean gap over groups of rows of like confidence, is {one.ece:.3f}; on so many rows a "
        f"perfectly calibrated model would show about {chance_ece(one):.3f} by chance."
    )


def against_baselines(found: Evaluation) -> str:
    """The model beside the best simple method; empty where none was tried."""
    if not found.baselines:
        return ""
    name, best = max(found.baselines.items(), key=lambda item: item[1].accuracy)
    ours = found.classification
    difference = 100 * (ours.accuracy - best.accuracy)
    interval = ours.intervals["accuracy"]
    inside = interval.low <= best.accuracy <= interval.high
    rest = " That lies within the model's own interval, so it may be chance." if inside else ""
    more = "more" if difference >= 0 else "less"
    return (
        f"Of {len(found.baselines)} simpler methods given the same rows and labels, {method_name(name)} did "
        f"best with {percent(best.accuracy)}; this model has {abs(difference):.1f} points {more}.{rest}"
    )


def weak_spots(one: ClassificationMetrics) -> str:
    """The class that is found least often, and the confusion that is most frequent."""
    seen = [row for row in one.per_class if row.support]
    if len(seen) < 2:
        return ""
    worst = min(seen, key=lambda row: row.recall)
    mistakes = [
        (number, true, said)
        for true, row in enumerate(one.confusion)
        for said, number in enumerate(row)
        if true != said and number
    ]
    if not mistakes:
        return "It made no mistake on the test rows."
    number, true, said = max(mistakes)
    return (
        f"The class found least often is `{worst.name}`: {percent(worst.recall)} of its "
        f"{count(worst.support, 'row')}. The most frequent mistake is to take `{one.per_class[true].name}` "
        f"for `{one.per_class[said].name}` ({count(number, 'row')})."
    )


def caveats(info: Mapping[str, Any], found: Evaluation | None, facts: Mapping[str, Any]) -> list[str]:
    """What one must know before relying on the numbers."""
    said = []
    if info.get("val_labels"):
        rows = (info.get("rows") or {}).get("val_labelled", 0)
        said.append(
            f"Beyond the labelled training rows, {count(rows, 'validation label')} served early stopping and "
            "calibration (data.split.val_labels)."
        )
    if found is not None and found.classification.n < FEW_TEST_ROWS:
        said.append(
            f"{count(found.classification.n, 'test row')} are few: differences of several points mean little."
        )
    inexact = list(facts.get("inexact_density") or ())
    if inexact:
        said.append(
            "The density is not that of the rows as they stand in the file: " + "; ".join(inexact) + "."
        )
    return said


def calibration_words(calibration: Mapping[str, Any]) -> str:
    """Where the temperature comes from."""
    method, rows = calibration.get("method"), int(calibration.get("rows") or 0)
    temperature, noise = float(calibration.get("temperature", 1.0)), float(calibration.get("noise") or 0.0)
    origin = {
        "val": f"fitted on {count(rows, 'label')} of held-out rows",
        "cross_fit": f"found by cross-fitting on the {count(rows, 'labelled row')}: each was predicted by a "
        "model that had not seen its label",
        "training": "that of the training, since there were too few labels to fit one",
        "none": "left at 1, since the recipe asks for no calibration",
    }.get(str(method), f"found by `{method}`")
    text = (
        f"Confidences are divided out by a temperature of {temperature:.2f} ({origin}); above 1 it makes "
        "the model more modest."
    )
    if noise:
        text += (
            f" Besides, {percent(noise)} of the labels are taken to be noise that nothing in a row explains, "
            "which caps how sure the model can be."
        )
    return text


def mean_confidence(one: ClassificationMetrics) -> float:
    """Mean probability of the predicted class."""
    return sum(row.count * (row.confidence or 0.0) for row in one.reliability) / max(one.n, 1)


def chance_ece(one: ClassificationMetrics) -> float:
    r"""ECE that a perfectly calibrated model shows on so many rows, about.

    In a bin of n rows with confidence p the share of right answers scatters by :math:`\sqrt{p(1-p)/n}`, whose
    mean size is :math:`\sqrt{2/\pi}` of that.
    """
    total = 0.0
    for row in one.reliability:
        if row.count and row.confidence is not None:
            p = min(max(row.confidence, 0.0), 1.0)
            total += row.count * math.sqrt(2 / math.pi * p * (1 - p) / row.count)
    return total / max(one.n, 1)
