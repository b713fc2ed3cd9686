"""Detection of out-of-distribution rows: every score of a run beside simple detectors.

    python benchmarks/out_of_distribution.py                    all missing points, then a table
    python benchmarks/out_of_distribution.py --only shuttle,pendigits --seed 3
    python benchmarks/out_of_distribution.py --markdown      the table of docs/results.md from the points

Runs are trained with the bundled recipes, without out-of-distribution rows. The simple detectors (kNN
distance, Mahalanobis distance, isolation forest) are fitted to the same training vectors, or to their first
128 principal components if the vectors have more than 512 numbers. At most 5,000 rows of each side are
compared. The settings and the pseudo-OOD rows of the default score were chosen while looking at several of
these pairs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import environment, parse_names
from data_sets import data_folder
from ood_pairs import WORLDS, World

from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.files import read_json, write_json

SCHEMA = "flowgmm/benchmark/ood/1"
MAX_ROWS = 5000  # of each side
MAX_TRAIN_ROWS = 20_000  # for the simple detectors
MAX_FEATURES, DIMS = 512, 128  # with more features, the simple detectors get DIMS principal components

Matrix = npt.NDArray[np.float64]
Detector = Callable[[Matrix], Matrix]
"""Rows `(N, D)` to `(N,)`, higher = further out."""


def simple_detectors(train: Matrix, seed: int) -> Mapping[str, Detector]:
    """kNN distance (5 neighbours), Mahalanobis distance and isolation forest, fitted to `(N, D)`."""
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    if len(train) > MAX_TRAIN_ROWS:
        train = train[np.random.default_rng(seed).choice(len(train), MAX_TRAIN_ROWS, replace=False)]
    pca = PCA(DIMS, random_state=seed).fit(train) if train.shape[1] > MAX_FEATURES else None
    vectors = train if pca is None else pca.transform(train)
    neighbours = NearestNeighbors(n_neighbors=5).fit(vectors)
    gaussian = LedoitWolf().fit(vectors)
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(vectors)
    detectors: dict[str, Detector] = {
        "knn": lambda x: neighbours.kneighbors(x)[0].mean(1),
        "mahalanobis": gaussian.mahalanobis,
        "isolation_forest": lambda x: -forest.score_samples(x),
    }
    if pca is None:
        return detectors
    return {name: lambda x, detect=detect: detect(pca.transform(x)) for name, detect in detectors.items()}


def measure(world: World, *, shared: Path, work: Path, seed: int) -> list[dict[str, Any]]:
    """Train a run unless it exists, and compare its test rows with each set of other rows."""
    from sklearn.metrics import roc_auc_score

    from flowgmm_cli import load
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.runs import create_run, open_run
    from flowgmm_cli.training.callbacks import Interrupt
    from flowgmm_cli.training.pipeline import train
    from flowgmm_cli.training.prepare import prepare

    context = DataContext(offline=True, cache_dir=str(user_cache_dir()))
    outside = world.prepare(shared, work / "data")
    words = [word.format(shared=shared, work=work / "data") for word in world.words]
    recipe = load_recipe(
        world.recipe,
        [*words, f"run.seed={seed}", f"data.labels.seed={seed}"],
        overlays=world.overlays,
    )
    folder = work / "runs" / world.name / str(seed)
    if not (folder / "model.json").is_file():
        run = open_run(folder) if folder.exists() else create_run(recipe, argv=[], directory=folder)
        with Interrupt() as interrupt:
            train(recipe, run, context=context, interrupt=interrupt)
    data = prepare(recipe, context)
    if data.test is None:
        raise SystemExit(f"{world.name} has no test rows")
    vectors = data.train.x[:].double().numpy()
    detectors = simple_detectors(vectors, seed)
    rng = np.random.default_rng(seed)
    own = _at_most(data.test.x.double().numpy(), rng)
    own_scores = {name: detect(own) for name, detect in detectors.items()}
    model = load(folder)
    points = []
    for place, rows in outside.items():
        compared = model.ood(rows).to_dict()
        far = _at_most(np.asarray(model.embed(rows, space="input"), dtype=np.float64), rng)
        truth = np.repeat([0, 1], [len(own), len(far)])
        simple = {
            name: float(roc_auc_score(truth, np.concatenate([own_scores[name], detect(far)])))
            for name, detect in detectors.items()
        }
        points.append(
            {
                "world": world.name,
                "inside": world.what,
                "outside": place,
                "seed": seed,
                "n_in": compared["n_in"],
                "n_out": compared["n_out"],
                "default": compared["default_score"],
                "scores": {name: values["auroc"] for name, values in compared["scores"].items()},
                "simple": simple,
                "environment": environment(),
            }
        )
    return points


def table(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format the table of docs/results.md: the default score beside the simple detectors."""
    lines = [
        "| in | out | flowgmm | kNN, Mahalanobis, isolation forest |",
        "| --- | --- | --- | --- |",
    ]
    for point in points:
        simple = ", ".join(f"{value:.3f}" for value in point["simple"].values())
        own = point["scores"][point["default"]]
        lines.append(f"| {point['inside']} | {point['outside']} | {own:.3f} | {simple} |")
    return lines


def details(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Format all scores of all pairs, the best of each pair first."""
    lines = []
    for point in points:
        best = max(point["simple"].values())
        own = point["scores"][point["default"]]
        verdict = "holds" if own >= best - 0.01 else "BELOW"
        lines.append(
            f"{point['world']} -> {point['outside']} (draw {point['seed']}): {point['default']} {own:.3f}, "
            f"best simple {best:.3f}: {verdict}"
        )
        everything = {**point["scores"], **{f"[{name}]": value for name, value in point["simple"].items()}}
        ranked = sorted(everything.items(), key=lambda item: -item[1])
        lines.append("    " + "  ".join(f"{name} {value:.3f}" for name, value in ranked))
    return lines


def _at_most(rows: Matrix, rng: np.random.Generator) -> Matrix:
    return rows if len(rows) <= MAX_ROWS else rows[rng.choice(len(rows), MAX_ROWS, replace=False)]


def main() -> None:
    """Compute missing points, write the JSON, print the table."""
    names = {world.name: world for world in WORLDS}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--seed", type=int, default=10, help="draw of labels and seed (default 10)")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/ood"), help="work folder")
    parser.add_argument("--out", type=Path, help="the JSON (default: results.json in the work folder)")
    parser.add_argument(
        "--markdown", action="store_true", help="the table of docs/results.md from existing points"
    )
    options = parser.parse_args()
    work, shared = options.work.resolve(), data_folder()
    points: list[dict[str, Any]] = []
    for name in parse_names(options.only, names):
        file = work / "points" / f"{name}-{options.seed}.json"
        if not file.is_file() and not options.markdown:
            new = measure(names[name], shared=shared, work=work, seed=options.seed)
            write_json(file, {"schema": SCHEMA, "points": new})
        if file.is_file():
            existing = read_json(file, "points")["points"]
            print("\n".join(details(existing)), file=sys.stderr, flush=True)
            points += existing
    if not options.markdown:
        write_json(options.out or work / "results.json", {"schema": SCHEMA, "points": points})
    print("\n".join(table(points)))


if __name__ == "__main__":
    main()
