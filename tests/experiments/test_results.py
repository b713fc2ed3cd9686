from __future__ import annotations

import csv
import io

import pytest

from flowgmm_cli.experiments.results import Result, group_results, to_csv


def result(
    labels: int, seed: int, accuracy: float, *, knn: float | None = None, criterion: str = "val.nll"
) -> Result:
    methods = {"flowgmm": {"accuracy": accuracy, "nll": 1 - accuracy, "seconds": 2.0}}
    if knn is not None:
        methods["knn"] = {"accuracy": knn}
    return Result(
        {"labels": labels}, seed, f"runs/labels-{labels}/seed-{seed}", methods, (criterion, accuracy)
    )


RESULTS = [result(20, 0, 0.5, knn=0.4), result(20, 1, 0.7, knn=0.6), result(50, 0, 0.9)]


def test_groups_are_settings_and_methods() -> None:
    groups = {(group["settings"]["labels"], group["method"]): group for group in group_results(RESULTS)}
    assert set(groups) == {(20, "flowgmm"), (20, "knn"), (50, "flowgmm")}
    flowgmm = groups[20, "flowgmm"]
    summary = {"n": 2, "mean": pytest.approx(0.6), "sd": pytest.approx(0.02**0.5), "min": 0.5, "max": 0.7}
    assert flowgmm["accuracy"] == summary
    assert groups[50, "flowgmm"]["accuracy"]["sd"] == 0
    assert "ece" not in flowgmm
    assert (flowgmm["criterion"]["metric"], flowgmm["criterion"]["max"]) == ("val.nll", 0.7)
    assert "criterion" not in groups[20, "knn"]


def test_criteria_of_different_kinds_are_not_averaged() -> None:
    mixed = [result(20, 0, 0.5), result(20, 1, 0.7, criterion="monitor.loss")]
    assert group_results(mixed)[0]["criterion"] is None


def test_the_csv_has_a_row_for_each_method_of_each_run() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(RESULTS))))
    assert list(rows[0]) == [
        "labels", "seed", "method", "accuracy", "balanced_accuracy", "nll", "ece", "seconds", "run",
    ]  # fmt: skip
    assert [(row["labels"], row["seed"], row["method"]) for row in rows] == [
        ("20", "0", "flowgmm"), ("20", "0", "knn"), ("20", "1", "flowgmm"), ("20", "1", "knn"),
        ("50", "0", "flowgmm"),
    ]  # fmt: skip
    assert rows[0]["run"] == "runs/labels-20/seed-0"
    assert rows[1]["nll"] == ""
    assert to_csv([]) == ""
