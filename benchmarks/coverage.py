"""Sets of classes with a coverage: flowgmm beside split conformal prediction from the same labels.

    python benchmarks/coverage.py                            all missing draws, then a table
    python benchmarks/coverage.py --only digits,susy --seeds 0..4
    python benchmarks/coverage.py --report                   the table from existing draws

flowgmm takes its sets from the labels that its folds held out. Split conformal prediction trains with half of
the labels and takes its threshold from the other half (the LAC score, as in MAPIE and crepes): with logistic
regression, and with flowgmm. Trainings are shortened and search nothing. The probabilities of each draw are a
file in the work folder, so an interrupted benchmark goes on, and another rule for sets needs no training.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accuracy import Benchmark, environment, parse_names, parse_seeds
from data_sets import DATA_SETS, DataSet, data_folder
from sklearn.linear_model import LogisticRegression

from flowgmm_cli.conformal import HeldOutLabels
from flowgmm_cli.devices import create_engine
from flowgmm_cli.evaluation.folds import split_labelled
from flowgmm_cli.files import write_json
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained_model import encode
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.fit_model import FittedModel, fit_model
from flowgmm_cli.training.prepare import PreparedData, prepare

SCHEMA = "flowgmm/benchmark/coverage/1"
NAMES = ("digits", "pendigits", "susy", "higgs")
SETS = {item.name: item for item in DATA_SETS if item.name in NAMES}
SHORT = ("search=null", "train.epochs=50", "train.max_steps=400")
RIVALS = {"split_logistic": "split, logistic regression", "split_flowgmm": "split, flowgmm"}
COVERAGE = 0.9

Array = npt.NDArray[Any]


def train_flowgmm(recipe: Recipe, data: PreparedData) -> FittedModel:
    """Train on prepared rows without a run."""
    engine = create_engine(device="cpu", precision=recipe.train.precision, features=data.preprocessor.dim)
    return fit_model(TrainContext(recipe, data, engine, Callbacks(), Interrupt()))


def run_draw(benchmark: Benchmark, item: DataSet, seed: int, *, split_flowgmm: bool) -> dict[str, Array]:
    """Train on one draw; return log-probabilities of test rows and held-out labels, by method."""
    recipe, start = benchmark.recipe(item, seed, *SHORT), time.perf_counter()
    data = prepare(recipe, benchmark.context)
    if data.test is None:
        raise SystemExit(f"{item.name} has no test rows")
    labels = data.train.labels.numpy()
    fitted = train_flowgmm(recipe, data)
    arrays = _arrays("flowgmm", fitted.held_out, predict(fitted, data.test.x))
    seconds = time.perf_counter() - start

    half = split_labelled(labels, 2, seed=seed)[0]
    own, held_out = data.train.x[torch.from_numpy(half.visible >= 0)], torch.from_numpy(half.held_out)
    rivals = {"split_logistic": fit_logistic(own, half.visible[half.visible >= 0], data.classes)}
    if split_flowgmm:
        hidden = dataclasses.replace(data.train, labels=torch.from_numpy(half.visible))
        plain = benchmark.recipe(item, seed, *SHORT, "calibration.method=none")
        model = train_flowgmm(plain, dataclasses.replace(data, train=hidden))
        model.model.temperature.fill_(model.first.temperature)  # that of the objective
        rivals["split_flowgmm"] = lambda rows: predict(model, rows)
    for name, function in rivals.items():
        log_p = function(data.train.x[held_out])
        rows = HeldOutLabels.collect(log_p, labels[half.held_out], np.zeros(len(log_p)), exact=True)
        arrays |= _arrays(name, rows, function(data.test.x))
    return {**arrays, "labels": data.test.labels.numpy(), "seconds": np.array(seconds)}


def predict(fitted: FittedModel, x: torch.Tensor) -> Array:
    """Return log-probabilities `(N, K)` of flowgmm."""
    return fitted.model.log_posterior(encode(fitted.model, x)).double().numpy()


def fit_logistic(x: torch.Tensor, labels: Array, classes: int) -> Callable[[torch.Tensor], Array]:
    """Fit logistic regression; return the function from rows to log-probabilities `(N, K)`."""
    regression = LogisticRegression(max_iter=1000).fit(x.numpy(), labels)

    def predict_log_proba(rows: torch.Tensor) -> Array:
        log_p = np.full((len(rows), classes), -np.inf)
        log_p[:, regression.classes_] = regression.predict_log_proba(rows.numpy())
        return log_p

    return predict_log_proba


def _arrays(name: str, rows: HeldOutLabels, log_p: Array) -> dict[str, Array]:
    return {f"{name}.test": log_p, **{f"{name}.{key}": values for key, values in vars(rows).items()}}


def measure(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return coverage, size, share of empty sets and accuracy, by method."""
    labels, result = arrays["labels"], {}
    names = [field.name for field in dataclasses.fields(HeldOutLabels)]
    for method in ("flowgmm", *RIVALS):
        if f"{method}.test" not in arrays:
            continue
        log_p = arrays[f"{method}.test"]
        rows = HeldOutLabels(**{name: arrays[f"{method}.{name}"] for name in names})
        if method == "flowgmm":
            sets = rows.class_thresholds(COVERAGE, ["?"] * log_p.shape[1], by_class=False).sets(log_p)
        else:
            sets = np.exp(log_p) >= split_threshold(rows.p_true)
        result[method] = {
            "coverage": float(sets[np.arange(len(labels)), labels].mean()),
            "size": float(sets.sum(1).mean()),
            "empty": float((sets.sum(1) == 0).mean()),
            "accuracy": float((log_p.argmax(1) == labels).mean()),
            "labels": len(rows),
        }
    return result


def split_threshold(p_true: Array) -> float:
    """Return the smallest probability in a set, by the probabilities of n held-out labels; 0 if too few."""
    rank = int(np.ceil((len(p_true) + 1) * COVERAGE - 1e-9))
    return float(np.sort(p_true)[len(p_true) - rank]) if rank <= len(p_true) else 0.0


def table(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format a Markdown table: coverage with its standard deviation over draws, and size, of each method."""
    lines = [f"| data | labels | draws | accuracy | flowgmm | {' | '.join(RIVALS.values())} | smaller |"]
    lines.append("| --- |" + " --- |" * (len(RIVALS) + 5))
    for name in dict.fromkeys(point["set"] for point in points):
        own = [point for point in points if point["set"] == name]
        cells, smaller = [], []
        for method in ("flowgmm", *RIVALS):
            both = [(point["flowgmm"], point[method]) for point in own if method in point]
            values = np.array([[rival["coverage"], rival["size"]] for _, rival in both])
            spread = f" ± {values[:, 0].std(ddof=1):.3f}" if len(both) > 1 else ""
            cells.append(f"{values[:, 0].mean():.3f}{spread}, {values[:, 1].mean():.2f}" if both else "")
            smaller.append(
                f"{sum(own_sets['size'] < rival['size'] for own_sets, rival in both)} of {len(both)}"
            )
        accuracy = f"{np.mean([point['flowgmm']['accuracy'] for point in own]):.3f}"
        start = [name, str(SETS[name].labels), str(len(own)), accuracy]
        lines.append(f"| {' | '.join([*start, *cells, ', '.join(smaller[1:])])} |")
    return lines


def main() -> None:
    """Compute missing draws, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(NAMES), help="sets, separated by commas")
    parser.add_argument("--seeds", default="15..34", help="draws, such as 0..4 or 0,2,5")
    parser.add_argument(
        "--split", default="15..19", help="draws in which flowgmm also learns half of the labels"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/coverage"), help="work folder")
    parser.add_argument("--report", action="store_true", help="train nothing, report the existing draws")
    options = parser.parse_args()
    names, split, points = parse_names(options.only, SETS), parse_seeds(options.split), []
    benchmark = Benchmark(options.work.resolve(), data_folder())
    for seed in parse_seeds(options.seeds):
        for name in names:
            file = options.work / "draws" / f"{name}-{seed}.npz"
            if not file.is_file():
                if options.report:
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                unfinished = file.with_name(f".{file.name}")
                np.savez(unfinished, **run_draw(benchmark, SETS[name], seed, split_flowgmm=seed in split))
                unfinished.replace(file)
            with np.load(file) as arrays:
                seconds, methods = float(arrays["seconds"]), measure(arrays)
            points.append({"set": name, "seed": seed, "seconds": seconds, **methods})
            if not options.report:
                cells = [
                    f"{key} {figures['coverage']:.3f}, {figures['size']:.2f}"
                    for key, figures in methods.items()
                ]
                print(f"{name} draw {seed}: {'; '.join(cells)}", flush=True)
    points.sort(key=lambda point: names.index(point["set"]))
    write_json(
        options.work / "results.json", {"schema": SCHEMA, "environment": environment(), "points": points}
    )
    print("\n".join(table(points)))


if __name__ == "__main__":
    main()
