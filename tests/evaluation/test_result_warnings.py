"""Warnings about labels and probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.evaluation.metrics import CrossFitted, Evaluation, evaluate
from flowgmm_cli.evaluation.result_warnings import (
    calibration_warnings,
    evaluation_warnings,
    is_informative,
    label_warnings,
    model_warnings,
)

CALIBRATION = {"method": "cross_fit", "rows": 100, "nll": 1.0, "frequency_nll": 1.0, "temperature": 2e6}


def evaluation(p_true: float, labels: list[int], *, names: str = "abc", split: str = "test") -> Evaluation:
    """Results of predictions that give the true class a probability, and the others the rest."""
    classes = len(names)
    p = np.full((len(labels), classes), (1 - p_true) / (classes - 1))
    p[np.arange(len(labels)), labels] = p_true
    return evaluate(split, np.log(p), np.zeros(len(labels)), np.array(labels), list(names))


def test_labels_of_one_class_test_nothing() -> None:
    (warning,) = evaluation_warnings(evaluation(0.9, [1] * 120))
    text = "all 120 labelled test rows are of the class `b`, one of 3: the results say"
    assert warning.text.startswith(text)
    expected = {"kind": "single_class", "split": "test", "rows": 120, "class": "b"}
    assert warning.to_dict().items() >= expected.items()
    (warning,) = evaluation_warnings(evaluation(0.9, [1] * 20, split="new.csv"))
    assert warning.text.startswith("all 20 labelled rows are of the class `b`")
    # so few may be of one class by chance
    assert evaluation_warnings(evaluation(0.9, [1] * 4, split="val")) == []


def test_classes_without_a_test_row_are_named() -> None:
    (warning,) = evaluation_warnings(evaluation(0.9, [0, 2] * 60))
    assert warning.text.startswith("1 of 3 classes have no labelled test rows (`b`): the results say nothing")
    assert warning.values["classes"] == ["b"]
    assert label_warnings({"a": 30}, "test") == []  # a model of a single class


@pytest.mark.parametrize(("p_true", "warned"), [(1 / 3, True), (0.2, True), (0.4, False), (0.9, False)])
def test_a_model_is_compared_with_the_frequencies_of_the_classes(p_true: float, warned: bool) -> None:
    found = evaluation_warnings(evaluation(p_true, [0, 1, 2] * 40))
    assert [warning.kind for warning in found] == ["uninformative"] * warned
    if warned:
        assert f"(NLL {-np.log(p_true):.3f}, by frequency 1.099; accuracy" in found[0].text


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_few_test_rows_are_warned_of_with_the_interval(cross_fitted: bool) -> None:
    result = evaluation(0.9, [0, 1, 2] * 10)
    if cross_fitted:
        summary = CrossFitted.summarise(result.classification, 40)
        result = replace(result, cross_fitted=summary)
    (warning,) = evaluation_warnings(result)
    text = "30 test rows are few: the 95 % interval of the accuracy is 11 points wide, 88.6 % to 100.0 %"
    assert warning.text.startswith(text)
    assert ("data.split.test=0" in warning.text) == cross_fitted
    assert warning.to_dict().items() >= {"kind": "few_test_rows", "rows": 30}.items()
    assert evaluation_warnings(evaluation(0.9, [0, 1, 2] * 10, split="new.csv")) == []


def test_classes_that_the_model_lacks_are_no_classes_to_test() -> None:
    assert evaluation_warnings(evaluation(0.2, [0, 1, 2] * 40), ["a", "b"]) == []


@pytest.mark.parametrize(("gain", "informative"), [(0.02, True), (0.005, False), (-1.0, False)])
def test_a_calibration_must_gain_more_than_a_nat(gain: float, informative: bool) -> None:
    calibration = {**CALIBRATION, "nll": 1 - gain}
    assert is_informative(calibration) == informative
    found = calibration_warnings(calibration)
    assert len(found) == (not informative)
    for warning in found:
        assert "the 100 cross-fitted labels no better" in warning.text
        assert warning.values["temperature"] == 2e6


def test_probabilities_that_say_nothing_are_warned_of_once() -> None:
    result = evaluation(1 / 3, [0, 1, 2] * 40)
    for calibration, tested, rows in (
        (CALIBRATION, result, 100),
        ({}, result, 120),
        (CALIBRATION, None, 100),
    ):
        assert [found.values["rows"] for found in model_warnings(calibration, tested)] == [rows]


@pytest.mark.parametrize("values", [(None, None, 0), (0.1, 0.0, 20)])
def test_a_calibration_without_labels_or_with_one_class_shows_nothing(values: tuple[Any, ...]) -> None:
    assert calibration_warnings({}) == []
    assert calibration_warnings(dict(zip(("nll", "frequency_nll", "rows"), values, strict=True))) == []
