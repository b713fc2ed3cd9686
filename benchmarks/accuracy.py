"""Test accuracy on real data over fresh draws of labels: flowgmm beside simple methods.

    python benchmarks/accuracy.py                             compute all missing points, then print a table
    python benchmarks/accuracy.py --only digits,susy --seeds 0..4
    python benchmarks/accuracy.py --methods flowgmm           compute no baselines
    python benchmarks/accuracy.py --markdown                 the table of docs/results.md from the points

Every method gets the same vectors, the same labelled rows and the same test rows; the baselines choose their
settings by cross-validation on the labelled rows. `all_labels` is logistic regression with all training
labels, an informal upper bound. Each point (data set, draw, method) is a small file in the work folder, so
an interrupted or extended benchmark only computes the missing points. A point whose recipe has changed is
computed again.

The recipes were developed on draws 0 to 4. The published results come from other draws.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_tables import BASELINES, METHODS, compare_with_chosen, details, environment, footnote, table
from data_sets import DATA_SETS, KEEL_CHOOSE, KEEL_REPORT, DataSet, data_folder

from flowgmm_cli.api import DataContext
from flowgmm_cli.baselines.run import predict_baselines
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.evaluation.folds import split_labelled
from flowgmm_cli.evaluation.metrics import BaselineMetrics, log_probabilities
from flowgmm_cli.files import read_json, write_json
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

SCHEMA = "flowgmm/benchmark/accuracy/1"
FRESH = "10..14"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "seconds")


class Benchmark:
    """The points of one work folder.

    Args:
        work: folder of points, runs and converted data.
        shared: the folder of real data.
        extra: overrides for every run, after those of the data set.
    """

    def __init__(self, work: Path, shared: Path, extra: Sequence[str] = ()) -> None:
        self.work = work
        self.shared = shared
        self.extra = tuple(extra)
        self.context = DataContext(offline=True, cache_dir=str(user_cache_dir()))

    def points(self, data_set: DataSet, seed: int, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Results of one draw by method; missing ones are computed."""
        recipe = self.recipe(data_set, seed)
        points = {name: self._read(data_set, seed, name, recipe) for name in methods}
        missing = [name for name, point in points.items() if point is None]
        simple = [name for name in missing if name in BASELINES]
        results = self._baselines(recipe, simple) if simple else {}
        if "all_labels" in missing:
            results["all_labels"] = self._all_labels(data_set, seed)
        if "flowgmm" in missing:
            results["flowgmm"] = self._flowgmm(data_set, seed, recipe)
        for name, values in results.items():
            point = {"key": _key(recipe, name), **values, "environment": environment()}
            write_json(self._file(data_set, seed, name), point)
            points[name] = point
        return {name: point for name, point in points.items() if point is not None}

    def existing_points(
        self, data_set: DataSet, seeds: Iterable[int], methods: Iterable[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """Points of these recipes that exist already, by method."""
        recipes = {seed: self.recipe(data_set, seed) for seed in seeds}
        pairs = {
            name: [(seed, self._read(data_set, seed, name, recipe)) for seed, recipe in recipes.items()]
            for name in methods
        }
        return {
            name: [{"seed": seed, **values} for seed, values in points if values is not None]
            for name, points in pairs.items()
        }

    def recipe(self, data_set: DataSet, seed: int, *words: str) -> Recipe:
        """Load the recipe of a draw, and prepare its data."""
        if data_set.prepare is not None and not self._has_files(data_set):
            data_set.prepare(self.shared, self.work / "data")
        own = data_set.overrides(shared=self.shared, work=self.work / "data", seed=seed)
        return load_recipe(data_set.recipe, [*own, *self.extra, *words])

    def _has_files(self, data_set: DataSet) -> bool:
        files = [word.partition("{work}/")[2] for word in data_set.words if "{work}/" in word]
        return all((self.work / "data" / file).is_file() for file in files)

    def _baselines(
        self, recipe: Recipe, names: Sequence[str], *, cross_fit: bool = True
    ) -> dict[str, dict[str, Any]]:
        from flowgmm_cli.training.prepare import prepare

        data = prepare(recipe, self.context)
        if data.test is None:
            raise SystemExit(f"{recipe.name} has no test rows")
        arrays = data.train.x.numpy(), data.train.labels.numpy(), data.test.x.numpy()
        classes = len(data.rows.class_names)
        seed, labels = recipe.run.seed, arrays[1]
        folds = np.full(len(labels), -1)
        for number, fold in enumerate(split_labelled(labels, 4, seed=seed)):
            folds[fold.held_out] = number
        predicted = predict_baselines(
            *arrays, classes=classes, seed=seed, names=names, folds=folds if cross_fit else None
        )
        results = {}
        for name, prediction in predicted.items():
            log_p = log_probabilities(prediction.probabilities)
            metrics = asdict(BaselineMetrics.measure(log_p, data.test.labels.numpy()))
            results[name] = {**metrics, "seconds": prediction.seconds, "settings": prediction.settings}
            if prediction.cross_fitted is not None:
                held_out = log_probabilities(prediction.cross_fitted), labels[folds >= 0]
                results[name]["cross_fitted"] = asdict(BaselineMetrics.measure(*held_out))
        return results

    def _all_labels(self, data_set: DataSet, seed: int) -> dict[str, Any]:
        recipe = self.recipe(data_set, seed, "data.labels.count=null")
        names = ["logistic_regression"]
        return self._baselines(recipe, names, cross_fit=False)[names[0]]

    def _flowgmm(self, data_set: DataSet, seed: int, recipe: Recipe) -> dict[str, Any]:
        from flowgmm_cli.runs import create_run, open_run
        from flowgmm_cli.training.callbacks import Interrupt
        from flowgmm_cli.training.pipeline import train

        folder = self.work / "runs" / data_set.name / f"{seed}-{_key(recipe, 'flowgmm')}"
        start = time.monotonic()
        run = open_run(folder) if folder.exists() else create_run(recipe, argv=[], directory=folder)
        with Interrupt() as interrupt:
            result = train(recipe, run, context=self.context, interrupt=interrupt)
        if result.test is None:
            raise SystemExit(f"{data_set.name} has no test rows")
        metrics = result.test.metrics()
        seconds = max(result.seconds, time.monotonic() - start)
        return {**metrics, "seconds": seconds, "epochs": result.first.epochs, "run": str(folder)}

    def _read(self, data_set: DataSet, seed: int, name: str, recipe: Recipe) -> dict[str, Any] | None:
        file = self._file(data_set, seed, name)
        if not file.is_file():
            return None
        values = read_json(file, "point")
        return values if values.get("key") == _key(recipe, name) else None

    def _file(self, data_set: DataSet, seed: int, name: str) -> Path:
        return self.work / "points" / data_set.name / f"{seed}-{name}.json"


def _key(recipe: Recipe, method: str) -> str:
    """Digest of the settings that determine the result: data and seed, and for flowgmm the whole recipe."""
    values = recipe.to_dict()
    if method != "flowgmm":
        values = {"seed": recipe.run.seed, "data": {**values["data"], "views": None}}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def summary(points: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, minimum and maximum over draws, by metric."""
    result = {}
    for metric in METRICS:
        values = np.array([point[metric] for point in points], dtype=np.float64)
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        result[metric] = {
            "mean": float(values.mean()),
            "sd": spread,
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return result


def report(
    benchmark: Benchmark, chosen: Sequence[DataSet], seeds: Sequence[int], methods: Sequence[str]
) -> dict[str, Any]:
    """All existing points, with their summaries."""
    sets = {}
    for data_set in chosen:
        existing = benchmark.existing_points(data_set, seeds, methods)
        points = {name: values for name, values in existing.items() if values}
        sets[data_set.name] = {
            "recipe": data_set.recipe,
            "labels": data_set.labels,
            "what": data_set.what,
            "summary": {name: summary(values) for name, values in points.items()},
            "points": points,
        }
    return {"schema": SCHEMA, "environment": environment(), "seeds": list(seeds), "data_sets": sets}


def main() -> None:
    """Compute missing points, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="data sets, separated by commas")
    parser.add_argument("--seeds", default=FRESH, help=f"draws, such as 0..4 or 0,2,5 (default {FRESH})")
    parser.add_argument(
        "--methods", help=f"separated by commas: {', '.join(METHODS)}, or baselines for all eight"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/accuracy"), help="work folder")
    parser.add_argument("--out", type=Path, help="the JSON (default: results.json in the work folder)")
    parser.add_argument("--report", action="store_true", help="compute nothing, report the existing points")
    parser.add_argument("--markdown", action="store_true", help="the same as the table of docs/results.md")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override of every recipe"
    )
    options = parser.parse_args()

    groups = {"keel_report": KEEL_REPORT, "keel_choose": KEEL_CHOOSE}
    sets = groups | {each.name: (each,) for each in (*DATA_SETS, *KEEL_REPORT, *KEEL_CHOOSE)}
    names = options.only or ",".join(each.name for each in DATA_SETS)
    chosen = [data_set for name in parse_names(names, sets) for data_set in sets[name]]
    words = options.methods.split(",") if options.methods else list(METHODS)
    words = [name for word in words for name in (BASELINES if word == "baselines" else [word])]
    methods = parse_names(",".join(words), METHODS)
    seeds = parse_seeds(options.seeds)
    benchmark = Benchmark(options.work.resolve(), data_folder(), options.set)
    if not (options.markdown or options.report):
        for data_set in chosen:
            for seed in seeds:
                points = benchmark.points(data_set, seed, methods)
                accuracies = "  ".join(f"{name} {values['accuracy']:.4f}" for name, values in points.items())
                print(f"{data_set.name} {seed}: {accuracies}", flush=True)
    everything = report(benchmark, chosen, seeds, METHODS)
    if options.markdown:
        print("\n".join([*table(everything, METHODS), "", footnote(everything)]))
        return
    write_json(options.out or benchmark.work / "results.json", everything)
    print("\n".join([*details(everything), *compare_with_chosen(everything)]))


def parse_seeds(text: str) -> list[int]:
    """Parse `0..4`, `0,2,5` or `3`."""
    from flowgmm_cli.experiments.points import parse_integers

    return parse_integers(text, "--seeds")


def parse_names(names: str, allowed: Iterable[str]) -> list[str]:
    """Parse names with commas between them; stop the program at one that is not allowed."""
    known = list(allowed)
    if unknown := [name for name in names.split(",") if name not in known]:
        raise SystemExit(f"there is no `{unknown[0]}`; choose one of {', '.join(known)}")
    return names.split(",")


if __name__ == "__main__":
    main()
