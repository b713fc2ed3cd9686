"""Suggested against random labels: the accuracy of simple classifiers on the vectors of the bundled recipes.

    python benchmarks/suggest.py                                all draws and sets, then a table
    python benchmarks/suggest.py --only digits,trec --seeds 0..4
    python benchmarks/suggest.py --flowgmm                      the accuracy of flowgmm instead
    python benchmarks/suggest.py --forecast                     the intervals of forecasts, from random labels

A draw takes rows for the pile and the test, at most 5,000 and 2,000. Labels are suggested in rounds, up to 1,
2, 5 and 10 for each class; from the second round on, logistic regression on the labels so far tells doubtful
rows, where a run would. Random labels are drawn from all rows of the pile without regard to classes, three
times for each draw, as are three balanced draws, which need the labels of the whole pile. The
classifiers are those of scikit-learn, with their defaults, on the vectors of the bundled recipes: logistic
regression, and label spreading, which learns from the unlabelled rows as well. flowgmm trains the recipes,
shortened and without a search, once with suggested and once with random labels, and predicts all test rows.
Settings were chosen on draws 0 to 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accuracy import Benchmark, environment, parse_names, parse_seeds
from coverage import SHORT, predict, train_flowgmm
from data_sets import DATA_SETS, DataSet, data_folder
from scipy.spatial.distance import pdist
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.experiments.forecast import fit_forecast
from flowgmm_cli.files import write_json
from flowgmm_cli.inference.row_choice import choose_rows
from flowgmm_cli.inference.suggestions import measure_doubt
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.prepare import PreparedData, prepare

SCHEMA = "flowgmm/benchmark/suggest/1"
PER_CLASS = (1, 2, 5, 10)
MAX_PILE, MAX_TEST = 5000, 2000
RANDOM_DRAWS = 3
MNIST = DataSet("mnist", "images", 100, ("data.path={shared}/mnist",))
SETS = {
    item.name: item
    for item in (*DATA_SETS, MNIST)
    if item.name in ("digits", "pendigits", "ag_news", "trec", "mnist")
}

Array = npt.NDArray[Any]
Vectors = tuple[Array, Array, Array, Array]
"""Rows and classes of the pile, rows and classes of the test."""


def read_vectors(item: DataSet, work: Path) -> Vectors:
    """Read all rows of a data set as the vectors of its recipe, with all labels; once, then from a file."""
    file = work / f"{item.name}.npz"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        if item.prepare:
            item.prepare(data_folder(), work)
        words = [word.format(shared=data_folder(), work=work) for word in item.words]
        recipe = load_recipe(item.recipe, [*words, "data.labels={}", "data.split.val=0"])
        context = DataContext(offline=True, cache_dir=str(user_cache_dir()))
        rows = load_rows(recipe.data, context)
        preprocessor = fit_preprocessor(rows, recipe.data, context)
        splits = {name: preprocessor.apply(part, context) for name, part in rows.splits.items()}
        arrays = {f"x_{name}": part.x.numpy() for name, part in splits.items()}
        np.savez(file, **arrays, **{f"y_{name}": part.labels.numpy() for name, part in splits.items()})
    with np.load(file) as arrays:
        return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]


def draw_rows(vectors: Vectors, seed: int, *, own_test: bool) -> Vectors:
    """Draw the pile and the test rows, a fifth of all where the source has none of its own."""
    x, y, x_test, y_test = vectors
    rng = np.random.default_rng(seed)
    if not own_test:
        x, y = np.concatenate([x, x_test]), np.concatenate([y, y_test])
        order, count = rng.permutation(len(x)), len(x) // 5
        x, y, x_test, y_test = x[order[count:]], y[order[count:]], x[order[:count]], y[order[:count]]
    pile, test = rng.permutation(len(x))[:MAX_PILE], rng.permutation(len(x_test))[:MAX_TEST]
    return x[pile], y[pile], x_test[test], y_test[test]


def suggest_labels(x: Array, y: Array, counts: Iterable[int], seed: int) -> list[Array]:
    """Return positions of labelled rows for each number of labels; each holds the one before."""
    rows: list[int] = []
    results = []
    for count in counts:
        labels = np.full(len(y), -1)
        labels[rows] = y[rows]
        model: dict[str, Any] = {}
        if len(np.unique(y[rows])) > 1:
            regression = LogisticRegression(max_iter=300).fit(x[rows], y[rows])
            log_p = regression.predict_log_proba(x)
            model = {"doubt": measure_doubt(log_p), "classes": log_p.argmax(1)}
        rows += [pick.place for pick in choose_rows(x, labels, count - len(rows), seed=seed, **model)]
        results.append(np.array(rows))
    return results


def draw_labels(y: Array, counts: Iterable[int], rng: np.random.Generator, *, balanced: bool) -> list[Array]:
    """Return positions of random rows for each number of labels, if `balanced` as many of each class."""
    order = rng.permutation(len(y))
    if balanced:
        rank = np.empty(len(y), np.int64)  # within the class
        for label in np.unique(y):
            own = order[y[order] == label]
            rank[own] = np.arange(len(own))
        order = order[np.argsort(rank[order], kind="stable")]
    return [order[:count] for count in counts]


def measure(rows: Vectors, labelled: Array) -> dict[str, float]:
    """Return the accuracy of both classifiers."""
    x, y, x_test, y_test = rows
    if len(np.unique(y[labelled])) < 2:
        return dict.fromkeys(
            ("logistic_regression", "label_spreading"), float((y_test == y[labelled[0]]).mean())
        )
    labels = np.full(len(y), -1)
    labels[labelled] = y[labelled]
    regression = LogisticRegression(max_iter=300).fit(x[labelled], y[labelled])
    spreading = LabelSpreading(kernel="knn", n_neighbors=10).fit(x, labels)
    models = {"logistic_regression": regression, "label_spreading": spreading}
    return {name: float((model.predict(x_test) == y_test).mean()) for name, model in models.items()}


def run_draw(item: DataSet, work: Path, seed: int) -> dict[str, Any]:
    """Measure one draw."""
    rows = draw_rows(read_vectors(item, work), seed, own_test=item.own_test)
    x, y = rows[:2]
    counts = [each * len(np.unique(y)) for each in PER_CLASS]
    start = time.perf_counter()
    suggested = suggest_labels(x, y, counts, seed)
    seconds = time.perf_counter() - start
    results: dict[str, list[Any]] = {"suggest": [measure(rows, labelled) for labelled in suggested]}
    for name in ("random", "balanced"):
        draws = [
            draw_labels(y, counts, np.random.default_rng([seed, place]), balanced=name == "balanced")
            for place in range(RANDOM_DRAWS)
        ]
        measured = [[measure(rows, labelled) for labelled in draw] for draw in draws]
        results[name] = [
            {key: float(np.mean([values[key] for values in same])) for key in same[0]}
            for same in zip(*measured, strict=True)
        ]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    sample = pdist(unit[np.random.default_rng(0).permutation(len(x))[:2000]])
    nearest = [
        float(pdist(unit[later[len(earlier) :]]).min() / np.quantile(sample, 0.01))
        for earlier, later in zip([suggested[0][:0], *suggested], suggested, strict=False)
    ]
    return {
        "set": item.name, "seed": seed, "counts": counts, "seconds": seconds, "results": results,
        "nearest": min(nearest),
    }  # fmt: skip


def run_flowgmm(benchmark: Benchmark, item: DataSet, seed: int) -> dict[str, Any]:
    """Measure flowgmm on one draw."""
    words = ("data.labels.count=null", "data.split.val=0", "calibration.method=none")
    recipe = benchmark.recipe(item, seed, *SHORT, *words)
    data = prepare(recipe, benchmark.context)
    rng = np.random.default_rng(seed)
    pile = torch.from_numpy(rng.permutation(len(data.train))[:MAX_PILE])
    data = dataclasses.replace(data, train=data.train[pile])
    x, y = data.train.x.numpy(), data.train.labels.numpy()
    counts = [each * len(np.unique(y)) for each in PER_CLASS]
    labelled = {
        "suggest": suggest_labels(x, y, counts, seed),
        "random": draw_labels(y, counts, rng, balanced=False),
    }
    results = {
        name: [{"flowgmm": measure_flowgmm(recipe, data, rows)} for rows in draws]
        for name, draws in labelled.items()
    }
    return {"set": item.name, "seed": seed, "counts": counts, "results": results}


def measure_flowgmm(recipe: Recipe, data: PreparedData, labelled: Array) -> float:
    """Train flowgmm with the labels of these rows, and the classes that they have; return its accuracy."""
    if data.test is None:
        raise SystemExit(f"{recipe.name} has no test rows")
    labels, test = data.train.labels.numpy(), data.test.labels.numpy()
    known, own = np.unique(labels[labelled], return_inverse=True)
    if len(known) == 1:
        return float((test == known[0]).mean())
    hidden = np.full(len(labels), -1)
    hidden[labelled] = own
    names = tuple(data.rows.class_names[label] for label in known)
    fitted = train_flowgmm(
        recipe,
        dataclasses.replace(
            data,
            rows=dataclasses.replace(data.rows, class_names=names),
            train=dataclasses.replace(data.train, labels=torch.from_numpy(hidden)),
            test=None,
        ),
    )
    return float((known[predict(fitted, data.test.x).argmax(1)] == test).mean())


def check_forecast(item: DataSet, work: Path, seed: int) -> dict[str, Any] | None:
    """Forecast logistic regression with 250 random labels from 20 to 200, five times each, and measure it."""
    x, y, x_test, y_test = draw_rows(read_vectors(item, work), seed, own_test=item.own_test)

    def measure_counts(draw: int, counts: Iterable[int]) -> list[float]:
        rows = draw_labels(y, counts, np.random.default_rng([seed, draw]), balanced=False)
        models = [LogisticRegression(max_iter=300).fit(x[labelled], y[labelled]) for labelled in rows]
        return [float((model.predict(x_test) == y_test).mean()) for model in models]

    counts = (20, 50, 100, 200)
    accuracies = [measure_counts(draw, counts) for draw in range(5)]
    forecast = fit_forecast(
        {
            n: dict(enumerate(column))
            for n, column in zip(counts, np.transpose(accuracies).tolist(), strict=True)
        }
    )
    if forecast is None:
        return None
    (measured,) = measure_counts(5, [forecast.labels + forecast.more])
    inside = forecast.low <= measured <= forecast.high
    return {"set": item.name, "seed": seed, **vars(forecast), "measured": measured, "inside": inside}


def table(points: list[Mapping[str, Any]]) -> list[str]:
    """Format a Markdown table: mean accuracies with suggested and random labels, and the mean difference."""
    choices = list(points[0]["results"])
    columns = ["data", "classifier", "labels of a class", *choices, "difference"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for name in dict.fromkeys(point["set"] for point in points):
        own = [point["results"] for point in points if point["set"] == name]
        for method in own[0]["suggest"][0]:
            mean = {
                key: np.mean([[values[method] for values in result[key]] for result in own], axis=0)
                for key in own[0]
            }
            for place, each in enumerate(PER_CLASS):
                cells = [f"{mean[key][place]:.3f}" for key in choices]
                difference = 100 * (mean["suggest"][place] - mean["random"][place])
                lines.append(f"| {name} | {method} | {each} | {' | '.join(cells)} | {difference:+.1f} |")
    return lines


def main() -> None:
    """Measure, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(SETS), help="sets, separated by commas")
    parser.add_argument("--seeds", default="10..14", help="draws, such as 0..4 or 0,2,5")
    parser.add_argument("--flowgmm", action="store_true", help="train flowgmm instead of simple classifiers")
    parser.add_argument("--forecast", action="store_true", help="check the forecasts of curves instead")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/suggest"), help="work folder")
    options = parser.parse_args()
    names = parse_names(options.only, SETS)
    if options.forecast:
        pairs = [(SETS[name], seed) for name in names for seed in parse_seeds(options.seeds)]
        checks = [check for pair in pairs if (check := check_forecast(pair[0], options.work, pair[1]))]
        write_json(options.work / "forecast.json", {"schema": SCHEMA, "forecasts": checks})
        for check in checks:
            print(
                "{set} draw {seed}: {forecast:.3f} ({low:.3f} to {high:.3f}), {measured:.3f}".format(**check)
            )
        print(f"{sum(check['inside'] for check in checks)} of {len(checks)} intervals hold the accuracy")
        return
    benchmark, points = Benchmark(options.work.resolve(), data_folder()), []
    with warnings.catch_warnings(action="ignore"):  # rows without a neighbour that has a label
        for name in names:
            for seed in parse_seeds(options.seeds):
                if options.flowgmm:
                    points.append(run_flowgmm(benchmark, SETS[name], seed))
                else:
                    points.append(run_draw(SETS[name], options.work, seed))
                suggested, random = (
                    [next(iter(values.values())) for values in points[-1]["results"][key]]
                    for key in ("suggest", "random")
                )
                print(
                    f"{name} draw {seed}: {np.round(suggested, 3)} random {np.round(random, 3)}", flush=True
                )
    results = {"schema": SCHEMA, "environment": environment(), "points": points}
    write_json(options.work / ("flowgmm.json" if options.flowgmm else "results.json"), results)
    print("\n".join(table(points)))


if __name__ == "__main__":
    main()
