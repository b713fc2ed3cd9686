"""Piles with unnamed classes: does a run detect rows of classes that have no label?

    python benchmarks/open_piles.py                              all missing points, then a table
    python benchmarks/open_piles.py --only digits,trec --seeds 0..4 --shares 0,0.2
    python benchmarks/open_piles.py --set prior.unknown=off      other settings; other points
    python benchmarks/open_piles.py --markdown                   the table from existing points

A seed draws classes that lose their labels. A share of the unlabelled training rows is theirs; 0 is a clean
pile. `--alone` leaves these rows out again: the same rows of the named classes without the others. The runs
are trained with the bundled recipes, on fewer rows where this saves time. Test rows of the unnamed classes
are compared with test rows of the others by every score of the run, and by two scores that need the labels
alone: the largest posterior of logistic regression, and the distance to the means of the labelled rows of the
classes, on the same vectors. Each point is a small file in the work folder, so an interrupted benchmark goes
on.
The scores and their choice were developed on draws 0 to 4.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import environment, parse_names, parse_seeds
from data_sets import data_folder
from open_pile_sets import PILES, Array, OpenPile

from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.files import read_json, write_json

SCHEMA = "flowgmm/benchmark/open_piles/1"


class Benchmark:
    """The points of one work folder.

    Args:
        work: folder of points, runs and files of rows.
        shared: the folder of real data.
        extra: overrides for every run, after those of the data set.
        alone: leave the rows of unnamed classes out.
    """

    def __init__(self, work: Path, shared: Path, extra: Sequence[str] = (), *, alone: bool = False) -> None:
        self.work, self.shared, self.extra, self.alone = work, shared, tuple(extra), alone

    def point(self, pile: OpenPile, seed: int, share: float, *, existing: bool = False) -> dict[str, Any]:
        """Return the result of a draw, computed unless it exists; {} if it has to exist and does not."""
        name = f"{seed}-{share:g}{'-alone' if self.alone else ''}"
        folder = self.work / "rows" / f"{pile.name}-{name}"
        own = [word.format(folder=folder) for word in pile.words]
        words = [*own, "data.split.test=0", "prior.unknown=auto", f"run.seed={seed}", *self.extra]
        settings = json.dumps([pile.recipe, pile.labels, pile.unnamed, pile.most, words])
        key = hashlib.sha256(settings.encode()).hexdigest()[:10]
        file = self.work / "points" / pile.name / f"{name}-{key}.json"
        if file.is_file():
            return read_json(file, "point")
        if existing:
            return {}
        facts = pile.draw(self.shared, seed, share, folder, alone=self.alone)
        run = self.work / "runs" / pile.name / f"{name}-{key}"
        seconds = train_run(pile.recipe, words, run)
        point = {"seed": seed, "share": share, **facts, "seconds": seconds, **measure(run, folder)}
        write_json(file, {**point, "environment": environment()})
        return point


def train_run(recipe: str, words: Sequence[str], folder: Path) -> float:
    """Train a run, or finish it; return the seconds that this took."""
    from flowgmm_cli.api import DataContext
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.runs import create_run, open_run
    from flowgmm_cli.training.callbacks import Interrupt
    from flowgmm_cli.training.pipeline import train

    start, parsed = time.monotonic(), load_recipe(recipe, list(words))
    run = open_run(folder) if folder.exists() else create_run(parsed, argv=[], directory=folder)
    if run.info().get("status") != "done":
        with Interrupt() as interrupt:
            context = DataContext(offline=True, cache_dir=str(user_cache_dir()))
            train(parsed, run, context=context, interrupt=interrupt)
    return time.monotonic() - start


def measure(run: Path, folder: Path) -> dict[str, Any]:
    """Compare test rows of named and unnamed classes."""
    from flowgmm_cli import load

    model = load(run)
    named, unnamed = (next(folder.glob(f"{name}.*")) for name in ("named", "unnamed"))
    compared = model.ood(unnamed, named).to_dict()
    vectors = [np.asarray(model.embed(rows, space="input"), np.float64) for rows in (named, unnamed)]
    train = next(folder.glob("train.*"))
    labels = model.predict(train).labels
    mask = labels >= 0
    detectors = label_detectors(np.asarray(model.embed(train, space="input"), np.float64)[mask], labels[mask])
    found = model.trained.facts["unknown"] or {}
    return {
        "default": compared["default_score"],
        "scores": {name: values["auroc"] for name, values in compared["scores"].items()},
        "label_only": {name: auroc(*map(detect, vectors)) for name, detect in detectors.items()},
        "accuracy": model.evaluate(named).metrics()["accuracy"],
        "estimated": {name: found[name] for name in ("share", "low", "high")} if found else None,
        "flagged": {"named": compared["flagged_fraction_in"], "unnamed": compared["flagged_fraction"]},
        "reason": model.trained.facts["ood"]["reason"],
        "choice": model.trained.facts["ood"]["choice"],
    }


def label_detectors(x: Array, labels: Array) -> Mapping[str, Callable[[Array], Array]]:
    """Scores that need only labelled rows `(N, D)`: rows to `(M,)`, higher = further out."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(max_iter=1000).fit(x, labels)
    means = np.stack([x[labels == k].mean(0) for k in np.unique(labels)])
    return {
        "logistic_regression": lambda rows: -regression.predict_proba(rows).max(1),
        "class_means": lambda rows: np.linalg.norm(rows[:, None] - means, axis=2).min(1),
    }


def table(points: Iterable[Mapping[str, Any]]) -> list[str]:
    """Format a Markdown table: means over the draws of each data set and share."""
    lines = [
        "| pile | true share | estimated | AUROC of the default | best score | label-only scores | accuracy "
        "| flagged, named and unnamed | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["pile"], point["share"]), []).append(point)
    for (name, share), group in groups.items():

        def mean(get: Callable[[Mapping[str, Any]], float], group: Any = group) -> float:
            return float(np.mean([get(point) for point in group]))

        shares = [point["estimated"]["share"] for point in group if point["estimated"]]
        estimated = f"{np.mean(shares):.0%} in {len(shares)} of {len(group)}" if shares else "none"
        common = set.intersection(*(set(point["scores"]) for point in group))
        best = max((mean(lambda point, key=key: point["scores"][key]), key) for key in sorted(common))
        simple = [mean(lambda point, key=key: point["label_only"][key]) for key in group[0]["label_only"]]
        cells = [
            name,
            f"{share:.0%}",
            estimated,
            f"{mean(lambda point: point['scores'][point['default']]):.3f}",
            f"{best[1]} {best[0]:.3f}",
            ", ".join(f"{value:.3f}" for value in simple),
            f"{mean(lambda point: point['accuracy']):.3f}",
            ", ".join(f"{mean(lambda point, k=k: point['flagged'][k]):.0%}" for k in ("named", "unnamed")),
            f"{mean(lambda point: point['seconds']):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Compute missing points, write the JSON, print the table."""
    names = {pile.name: pile for pile in PILES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--seeds", default="10..14", help="draws, such as 0..4 or 0,2,5 (default 10..14)")
    parser.add_argument("--shares", default="0,0.1,0.2,0.5", help="shares of unnamed classes in the pile")
    parser.add_argument("--alone", action="store_true", help="leave the rows of unnamed classes out again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of recipes")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/open_piles"), help="work folder")
    parser.add_argument("--markdown", action="store_true", help="compute nothing, report the existing points")
    options = parser.parse_args()
    benchmark = Benchmark(options.work.resolve(), data_folder(), options.set, alone=options.alone)
    points = []
    for name in parse_names(options.only, names):
        for share in map(float, options.shares.split(",")):
            for seed in parse_seeds(options.seeds):
                point = benchmark.point(names[name], seed, share, existing=options.markdown)
                if not point:
                    continue
                points.append({"pile": name, **point})
                if not options.markdown:
                    default, simple = point["scores"][point["default"]], max(point["label_only"].values())
                    print(
                        f"{name} {share:g} draw {seed}: {point['default']} {default:.3f}, label-only "
                        f"{simple:.3f}, accuracy {point['accuracy']:.3f}, {point['seconds']:.0f} s",
                        flush=True,
                    )
    if not options.markdown:
        write_json(benchmark.work / "results.json", {"schema": SCHEMA, "points": points})
    print("\n".join(table(points)))


if __name__ == "__main__":
    main()
