"""Tables of the benchmark of accuracy, and the methods that it compares."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

BASELINES = (
    "logistic_regression",
    "knn",
    "label_spreading",
    "self_training",
    "mlp",
    "extra_trees",
    "lda",
    "svm",
)
METHODS = ("flowgmm", *BASELINES, "all_labels")


def environment() -> dict[str, Any]:
    """Date, processor and versions of a measurement."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": date.today().isoformat(),
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def table(value: dict[str, Any], methods: Sequence[str]) -> list[str]:
    """Format a Markdown table: mean accuracy and standard deviation, the best method in bold."""
    names = [name.replace("_", " ") for name in methods]
    lines = [f"| data | labels | {' | '.join(names)} |", f"| --- | --- |{' --- |' * len(names)}"]
    for name, data_set in value["data_sets"].items():
        accuracies = {
            key: data_set["summary"][key]["accuracy"] for key in methods if key in data_set["summary"]
        }
        means = [round(value["mean"], 3) for key, value in accuracies.items() if key != "all_labels"]
        best = max(means, default=None)
        cells = []
        for method in methods:
            if method not in accuracies:
                cells.append("")
                continue
            mean = accuracies[method]["mean"]
            text = f"{mean:.3f}"
            text = f"**{text}**" if method != "all_labels" and round(mean, 3) == best else text
            cells.append(f"{text} ± {accuracies[method]['sd']:.3f}")
        title = f"{name} ({data_set['what']})" if data_set["what"] else name
        lines.append(f"| {title} | {data_set['labels']} | {' | '.join(cells)} |")
    return lines


def details(value: dict[str, Any]) -> list[str]:
    """Format plain lines: every data set and method with spread, NLL, ECE and time."""
    lines = [
        f"{'data':16} {'method':20} {'n':>2} {'mean':>6} {'sd':>6} {'min':>6} {'max':>6}   NLL    ECE    s"
    ]
    for name, data_set in value["data_sets"].items():
        for method, values in sorted(
            data_set["summary"].items(), key=lambda item: -item[1]["accuracy"]["mean"]
        ):
            accuracy = values["accuracy"]
            numbers = " ".join(f"{accuracy[key]:.4f}" for key in ("mean", "sd", "min", "max"))
            rest = (
                f"{values['nll']['mean']:6.3f} {values['ece']['mean']:6.3f} {values['seconds']['mean']:6.1f}"
            )
            lines.append(f"{name:16} {method:20} {len(data_set['points'][method]):2} {numbers} {rest}")
    return lines


def compare_with_chosen(value: dict[str, Any]) -> list[str]:
    """Format flowgmm's accuracy minus that of the baseline with the best cross-validated accuracy."""
    lines, means = [], []
    for name, data_set in value["data_sets"].items():
        by_seed = {
            method: {point["seed"]: point for point in data_set["points"].get(method, [])}
            for method in METHODS
        }
        pairs = []
        for seed, own in by_seed["flowgmm"].items():
            others = {
                key: by_seed[key][seed] for key in BASELINES if "cross_fitted" in by_seed[key].get(seed, {})
            }
            if len(others) == len(BASELINES):
                ranks = {key: rank_cross_fitted(point) for key, point in others.items()}
                chosen = max(ranks, key=lambda key: ranks[key])
                pairs.append((own["accuracy"] - others[chosen]["accuracy"], chosen))
        if pairs:
            means.append(float(np.mean([difference for difference, _ in pairs])))
            chosen_names = ", ".join(sorted({chosen for _, chosen in pairs}))
            lines.append(f"{name:20} {100 * means[-1]:+.1f} points to the chosen of eight ({chosen_names})")
    if means:
        above = sum(mean > 0 for mean in means)
        lines.append(
            f"mean {100 * np.mean(means):+.2f}, above on {above} of {len(means)}, worst "
            f"{100 * min(means):+.1f}"
        )
    return lines


def rank_cross_fitted(point: dict[str, Any]) -> tuple[float, float]:
    """Rank a baseline by its cross-validated accuracy, among equals by the log loss."""
    return point["cross_fitted"]["accuracy"], -point["cross_fitted"]["nll"]


def footnote(value: dict[str, Any]) -> str:
    """Describe the measurement in one line, from the environments of the points."""
    by_method = [points for data in value["data_sets"].values() for points in data["points"].values()]
    places = [point["environment"] for points in by_method for point in points] or [value["environment"]]
    days = sorted({place["date"] for place in places})
    machines = sorted(
        {f"{place['cores']} cores of {place['cpu']}, torch {place['torch']}" for place in places}
    )
    draws = ", ".join(str(seed) for seed in value["seeds"])
    return (
        f"Mean test accuracy ± standard deviation over the draws {draws} of labels, seed and, where the data "
        f"have no test rows of their own, split; {' to '.join(dict.fromkeys((days[0], days[-1])))}, "
        f"{'; '.join(machines)}."
    )
