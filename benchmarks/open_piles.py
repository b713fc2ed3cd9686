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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import environment, parse_seeds
from data_sets import data_folder

from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.files import read_json, write_json

SCHEMA = "flowgmm/benchmark/open_piles/1"
TEST_SHARE = 0.2  # of the rows where the source has no test rows of its own
MAX_TEST_ROWS = 2000  # of named classes, and of unnamed ones

Array = npt.NDArray[Any]
Part = tuple[Array, Array]
"""Rows and their classes, integers."""


@dataclass(frozen=True)
class OpenPile:
    """A data set some of whose classes lose their labels.

    Attributes:
        name: for `--only` and in tables.
        recipe: a bundled recipe.
        labels: number of labelled rows.
        unnamed: number of classes without labels.
        most: largest number of unlabelled rows.
        read: reads training and test rows from the folder of real data; without test rows a seed draws them.
        words: overrides; `{folder}` has the files of the draw.
    """

    name: str
    recipe: str
    labels: int
    unnamed: int
    most: int
    read: Callable[[Path], tuple[Part, Part | None]]
    words: tuple[str, ...]

    def draw(
        self, shared: Path, seed: int, share: float, folder: Path, *, alone: bool = False
    ) -> dict[str, Any]:
        """Write the rows `train`, `named` and `unnamed` of a draw into a folder; return facts about them."""
        rng = np.random.default_rng(seed)
        train, test = self.read(shared)
        if test is None:
            order, count = rng.permutation(len(train[1])), round(TEST_SHARE * len(train[1]))
            train, test = (tuple(part[index] for part in train) for index in (order[count:], order[:count]))
        classes = np.unique(train[1])
        hidden = rng.choice(classes, self.unnamed, replace=False)
        order = rng.permutation(len(train[1]))
        x, y = train[0][order], train[1][order]
        is_hidden = np.isin(y, hidden)
        per_class = self.labels // (len(classes) - self.unnamed)
        labelled = np.concatenate([np.flatnonzero(y == k)[:per_class] for k in np.setdiff1d(classes, hidden)])
        named = np.setdiff1d(np.flatnonzero(~is_hidden), labelled)
        others = np.flatnonzero(is_hidden)
        size = min(self.most, int(len(named) / (1 - share)), int(len(others) / share) if share else self.most)
        count = 0 if alone else round(share * size)
        size = size - round(share * size) + count
        chosen = np.sort(np.concatenate([labelled, named[: size - count], others[:count]]))
        visible = np.where(np.isin(chosen, labelled), y[chosen], -1)
        write_rows(folder / "train", x[chosen], visible)
        is_hidden = np.isin(test[1], hidden)
        for name, mask in (("named", ~is_hidden), ("unnamed", is_hidden)):
            index = rng.permutation(np.flatnonzero(mask))[:MAX_TEST_ROWS]
            write_rows(folder / name, test[0][index], test[1][index] if name == "named" else None)
        return {"unnamed": hidden.tolist(), "rows": len(chosen), "true_share": count / size}


def write_rows(stem: Path, x: Array, y: Array | None) -> None:
    """Write images as npz, other rows as csv; a class of -1 means no label."""
    import pandas as pd

    stem.parent.mkdir(parents=True, exist_ok=True)
    if x.ndim == 3:
        np.savez(stem.with_suffix(".npz"), x=x, **({} if y is None else {"y": y}))
        return
    table = pd.DataFrame(x).rename(columns="f{}".format) if x.ndim == 2 else pd.DataFrame({"text": x})
    if y is not None:
        table["y"] = ["" if k < 0 else f"class {k}" for k in y]
    table.to_csv(stem.with_suffix(".csv"), index=False)


def digits(shared: Path) -> tuple[Part, None]:
    """Scikit-learn's digits as grey images."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return ((data.images * 255 / 16).round().astype(np.uint8), data.target.astype(np.int64)), None


def pendigits(shared: Path) -> tuple[Part, None]:
    """Pen strokes."""
    import pandas as pd

    table = pd.read_csv(shared / "pendigits" / "pendigits_train.csv")
    return (table.drop(columns="clase").to_numpy(), table["clase"].to_numpy()), None


def ag_news(shared: Path) -> tuple[Part, Part]:
    """News of four topics."""
    import pandas as pd

    folder = shared / "ag_news_hub" / "data"
    train, test = (pd.read_parquet(folder / f"{part}-00000-of-00001.parquet") for part in ("train", "test"))
    return (
        (train["text"].to_numpy(object), train["label"].to_numpy()),
        (test["text"].to_numpy(object), test["label"].to_numpy()),
    )


def clinc_domains(shared: Path) -> tuple[Part, Part]:
    """Requests of CLINC150 with their domain."""
    folder = shared / "clinc150"
    domains = json.loads((folder / "domains.json").read_text())
    code = {intent: k for k, intents in enumerate(domains.values()) for intent in intents}
    parts = json.loads((folder / "data_full.json").read_text())

    def part(name: str) -> Part:
        texts, intents = zip(*parts[name], strict=True)
        return np.array(texts, object), np.array([code[intent] for intent in intents])

    return part("train"), part("test")


def trec(shared: Path) -> tuple[Part, Part]:
    """Questions with their coarse type."""

    def part(name: str) -> Part:
        lines = (shared / "trec" / name).read_text("latin-1").split("\n")
        kinds, texts = zip(*(line.split(" ", 1) for line in lines if line), strict=True)
        names = sorted({kind.partition(":")[0] for kind in kinds})
        return np.array(texts, object), np.array([names.index(kind.partition(":")[0]) for kind in kinds])

    return part("train_5500.label"), part("TREC_10.label")


def mnist(shared: Path) -> tuple[Part, Part]:
    """Images of digits."""
    import gzip

    def read(name: str) -> Array:
        content = gzip.decompress((shared / "mnist" / f"{name}-ubyte.gz").read_bytes())
        dims = np.frombuffer(content, ">u4", content[3], 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * len(dims)).reshape(dims.tolist())

    def part(name: str) -> Part:
        return read(f"{name}-images-idx3"), read(f"{name}-labels-idx1").astype(np.int64)

    return part("train"), part("t10k")


_TABLE = ("data.path={folder}/train.csv", "data.label=y")
_TEXTS = ("data.use=csv", "data.text=text", *_TABLE)
_IMAGES = ("data.use=images", "data.path={folder}/train.npz")

PILES = (
    OpenPile("digits", "digits", 80, 2, 10_000, digits, (*_IMAGES, "data.labels!")),
    OpenPile("pendigits", "csv", 100, 2, 10_000, pendigits, _TABLE),
    OpenPile("ag_news", "ag_news", 150, 1, 10_000, ag_news, (*_TEXTS, "data.labels!")),
    OpenPile("clinc_domains", "text", 160, 2, 10_000, clinc_domains, _TEXTS),
    OpenPile("trec", "text", 120, 1, 10_000, trec, _TEXTS),
    OpenPile("mnist", "mnist_pca", 160, 2, 6_000, mnist, (*_IMAGES, "data.labels!")),
)


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
    parser.add_argument("--only", help=f"separated by commas: {', '.join(names)}")
    parser.add_argument("--seeds", default="10..14", help="draws, such as 0..4 or 0,2,5 (default 10..14)")
    parser.add_argument("--shares", default="0,0.1,0.2,0.5", help="shares of unnamed classes in the pile")
    parser.add_argument("--alone", action="store_true", help="leave the rows of unnamed classes out again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of recipes")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/open_piles"), help="work folder")
    parser.add_argument("--markdown", action="store_true", help="compute nothing, report the existing points")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(names)
    if unknown := [name for name in chosen if name not in names]:
        raise SystemExit(f"there is no `{unknown[0]}`; choose one of {', '.join(names)}")
    benchmark = Benchmark(options.work.resolve(), data_folder(), options.set, alone=options.alone)
    points = []
    for name in chosen:
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
