"""Test accuracy on real data over fresh draws of labels: flowgmm beside simple methods.

    python benchmarks/accuracy.py                             everything that is not there yet, then a table
    python benchmarks/accuracy.py --only digits,susy --seeds 0..4
    python benchmarks/accuracy.py --methods flowgmm           leave the baselines as they are
    python benchmarks/accuracy.py --markdown                  the table of the README, of what is there

Every method gets the same vectors, the same labelled rows and the same test rows; the baselines choose their
settings by cross-validation on the labelled rows. `all_labels`, logistic regression with all training labels,
is a ceiling of sorts. Each point (data set, draw, method) is a small file in the work folder, so that an
interrupted or widened benchmark goes on where it was. A point of a recipe that has changed is made anew.

Draws 0 to 4 were looked at while the recipes were made. What is published comes from others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import DATA_SETS, DataSet, shared_folder

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.evaluation.baselines import BASELINES, run_baselines
from flowgmm_cli.files import read_json, write_json
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

SCHEMA = "flowgmm/benchmark/accuracy/1"
METHODS = ("flowgmm", *BASELINES, "all_labels")
FRESH = "10..14"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece", "seconds")


class Benchmark:
    """The points of one work folder.

    Args:
        work: where points, runs and rewritten data are kept.
        shared: the folder of real data.
        extra: overrides for every run, after those of the data set.
    """

    def __init__(self, work: Path, shared: Path, extra: Sequence[str] = ()) -> None:
        self.work = work
        self.shared = shared
        self.extra = tuple(extra)
        self.context = DataContext(offline=True, cache_dir=str(user_cache_dir()))

    def points(self, one: DataSet, seed: int, methods: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Results of one draw by method; what is not there yet is made."""
        recipe = self.recipe(one, seed)
        wanted = list(methods)
        found = {name: self._read(one, seed, name, recipe) for name in wanted}
        missing = [name for name in wanted if found[name] is None]
        simple = [name for name in missing if name in BASELINES]
        made = self._baselines(recipe, simple) if simple else {}
        if "all_labels" in missing:
            made["all_labels"] = self._all_labels(one, seed)
        if "flowgmm" in missing:
            made["flowgmm"] = self._flowgmm(one, seed, recipe)
        for name, values in made.items():
            found[name] = {"key": _key(recipe, name), **values, "environment": environment()}
            write_json(self._file(one, seed, name), found[name])
        return {name: values for name, values in found.items() if values is not None}

    def kept(
        self, one: DataSet, seeds: Iterable[int], methods: Iterable[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """The points of these recipes that are there, by method."""
        recipes = {seed: self.recipe(one, seed) for seed in seeds}
        found = {
            name: [(seed, self._read(one, seed, name, recipe)) for seed, recipe in recipes.items()]
            for name in methods
        }
        return {
            name: [{"seed": seed, **values} for seed, values in points if values is not None]
            for name, points in found.items()
        }

    def recipe(self, one: DataSet, seed: int, *words: str) -> Recipe:
        """The recipe of a draw; its data are made ready."""
        if one.prepare is not None and not self._prepared(one):
            one.prepare(self.shared, self.work / "data")
        own = one.overrides(shared=self.shared, work=self.work / "data", seed=seed)
        return load_recipe(one.recipe, [*own, *self.extra, *words])

    def _prepared(self, one: DataSet) -> bool:
        files = [word.partition("{work}/")[2] for word in one.words if "{work}/" in word]
        return all((self.work / "data" / file).is_file() for file in files)

    def _baselines(self, recipe: Recipe, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        from flowgmm_cli.training.prepare import prepare

        data = prepare(recipe, self.context)
        if data.test is None:
            raise SystemExit(f"{recipe.name} has no test rows")
        results = run_baselines(
            data.train.x.numpy(),
            data.train.labels.numpy(),
            data.test.x.numpy(),
            data.test.labels.numpy(),
            seed=recipe.run.seed,
            names=names,
        )
        return {name: result.to_dict() for name, result in results.items()}

    def _all_labels(self, one: DataSet, seed: int) -> dict[str, Any]:
        recipe = self.recipe(one, seed, "data.labels.count=null")
        return self._baselines(recipe, ["logistic_regression"])["logistic_regression"]

    def _flowgmm(self, one: DataSet, seed: int, recipe: Recipe) -> dict[str, Any]:
        from flowgmm_cli.runs import create_run, open_run
        from flowgmm_cli.training.callbacks import Interrupt
        from flowgmm_cli.training.pipeline import train

        folder = self.work / "runs" / one.name / f"{seed}-{_key(recipe, 'flowgmm')}"
        start = time.monotonic()
        run = open_run(folder) if folder.exists() else create_run(recipe, argv=[], directory=folder)
        with Interrupt() as interrupt:
            result = train(recipe, run, context=self.context, interrupt=interrupt)
        if result.test is None:
            raise SystemExit(f"{one.name} has no test rows")
        metrics = result.test.metrics()
        seconds = max(result.seconds, time.monotonic() - start)
        return {**metrics, "seconds": seconds, "epochs": result.first.epochs, "run": str(folder)}

    def _read(self, one: DataSet, seed: int, name: str, recipe: Recipe) -> dict[str, Any] | None:
        file = self._file(one, seed, name)
        if not file.is_file():
            return None
        values = read_json(file, "point")
        return values if values.get("key") == _key(recipe, name) else None

    def _file(self, one: DataSet, seed: int, name: str) -> Path:
        return self.work / "points" / one.name / f"{seed}-{name}.json"


def _key(recipe: Recipe, method: str) -> str:
    """What the result of a method depends on, as a short digest: the vectors, and for flowgmm all of it."""
    values = recipe.to_dict()
    if method != "flowgmm":
        values = {"seed": recipe.run.seed, "data": {**values["data"], "views": None}}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def environment() -> dict[str, Any]:
    """What the numbers were measured on."""
    import os

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


def summary(points: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, least and most over draws, by metric."""
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
    """All points that are there, with their summaries."""
    sets = {}
    for one in chosen:
        kept = {name: points for name, points in benchmark.kept(one, seeds, methods).items() if points}
        sets[one.name] = {
            "recipe": one.recipe,
            "labels": one.labels,
            "what": one.what,
            "summary": {name: summary(points) for name, points in kept.items()},
            "points": kept,
        }
    return {"schema": SCHEMA, "environment": environment(), "seeds": list(seeds), "data_sets": sets}


def table(value: dict[str, Any], methods: Sequence[str]) -> list[str]:
    """The results as a Markdown table: mean accuracy and standard deviation, the best method in bold."""
    names = [name.replace("_", " ") for name in methods]
    lines = [f"| data | labels | {' | '.join(names)} |", f"| --- | --- |{' --- |' * len(names)}"]
    for name, one in value["data_sets"].items():
        found = {key: one["summary"][key]["accuracy"] for key in methods if key in one["summary"]}
        rivals = [key for key in found if key != "all_labels"]
        best = max((round(found[key]["mean"], 3) for key in rivals), default=None)
        cells = []
        for method in methods:
            if method not in found:
                cells.append("")
                continue
            mean = found[method]["mean"]
            text = f"{mean:.3f}"
            text = f"**{text}**" if method != "all_labels" and round(mean, 3) == best else text
            cells.append(f"{text} ± {found[method]['sd']:.3f}")
        what = f"{name} ({one['what']})" if one["what"] else name
        lines.append(f"| {what} | {one['labels']} | {' | '.join(cells)} |")
    return lines


def details(value: dict[str, Any]) -> list[str]:
    """Plain lines: every data set and method with spread, NLL, ECE and time."""
    lines = [
        f"{'data':16} {'method':20} {'n':>2} {'mean':>6} {'sd':>6} {'min':>6} {'max':>6}   NLL    ECE    s"
    ]
    for name, one in value["data_sets"].items():
        for method, found in sorted(one["summary"].items(), key=lambda item: -item[1]["accuracy"]["mean"]):
            accuracy = found["accuracy"]
            numbers = " ".join(f"{accuracy[key]:.4f}" for key in ("mean", "sd", "min", "max"))
            rest = f"{found['nll']['mean']:6.3f} {found['ece']['mean']:6.3f} {found['seconds']['mean']:6.1f}"
            lines.append(f"{name:16} {method:20} {len(one['points'][method]):2} {numbers} {rest}")
    return lines


def footnote(value: dict[str, Any]) -> str:
    """How the table was measured, in one line; the points themselves know when and where."""
    points = [
        one for found in value["data_sets"].values() for kept in found["points"].values() for one in kept
    ]
    found = [one["environment"] for one in points] or [value["environment"]]
    days = sorted({one["date"] for one in found})
    where = sorted({f"{one['cores']} cores of {one['cpu']}, torch {one['torch']}" for one in found})
    draws = ", ".join(str(seed) for seed in value["seeds"])
    return (
        f"Mean test accuracy ± standard deviation over the draws {draws} of labels, seed and, where the data "
        f"have no test rows of their own, split; {' to '.join(dict.fromkeys((days[0], days[-1])))}, "
        f"{'; '.join(where)}."
    )


def main() -> None:
    """Make what is missing, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="data sets, separated by commas")
    parser.add_argument("--seeds", default=FRESH, help=f"draws, such as 0..4 or 0,2,5 (default {FRESH})")
    parser.add_argument(
        "--methods", help=f"separated by commas: {', '.join(METHODS)}, or baselines for all five"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/accuracy"), help="work folder")
    parser.add_argument("--out", type=Path, help="the JSON (default: results.json in the work folder)")
    parser.add_argument("--report", action="store_true", help="make nothing, only report what is there")
    parser.add_argument("--markdown", action="store_true", help="the same as the table of the README")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override of every recipe"
    )
    given = parser.parse_args()

    sets = {one.name: one for one in DATA_SETS}
    chosen = [_known(name, sets) for name in given.only.split(",")] if given.only else list(DATA_SETS)
    words = given.methods.split(",") if given.methods else list(METHODS)
    words = [name for word in words for name in (BASELINES if word == "baselines" else [word])]
    methods = [_known(name, {name: name for name in METHODS}) for name in words]
    seeds = parse_seeds(given.seeds)
    benchmark = Benchmark(given.work.resolve(), shared_folder(), given.set)
    if not (given.markdown or given.report):
        for one in chosen:
            for seed in seeds:
                found = benchmark.points(one, seed, methods)
                accuracies = "  ".join(f"{name} {values['accuracy']:.4f}" for name, values in found.items())
                print(f"{one.name} {seed}: {accuracies}", flush=True)
    everything = report(benchmark, chosen, seeds, METHODS)
    if given.markdown:
        print("\n".join([*table(everything, METHODS), "", footnote(everything)]))
        return
    write_json(given.out or benchmark.work / "results.json", everything)
    print("\n".join(details(everything)))


def parse_seeds(text: str) -> list[int]:
    """`0..4`, `0,2,5` or `3` as numbers."""
    from flowgmm_cli.experiments.points import parse_integers

    return parse_integers(text, "--seeds")


def _known(name: str, allowed: dict[str, Any]) -> Any:
    if name not in allowed:
        raise SystemExit(f"there is no `{name}`; one of {', '.join(allowed)}")
    return allowed[name]


if __name__ == "__main__":
    main()
