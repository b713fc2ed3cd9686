"""Training data and out-of-distribution rows for `out_of_distribution.py`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from data_sets import write_table

Prepare = Callable[[Path, Path], Mapping[str, Any]]
"""`prepare(shared, work)` writes training files into `work`; returns files of other rows by name."""

TOPICS = ("World", "Sports", "Business", "Sci/Tech")
_SENTINELS = -5  # MiniBooNE: more than half of a faulty row is below it, see its README


@dataclass(frozen=True)
class World:
    """Training data of a run, and rows outside of their distribution.

    Attributes:
        name: for `--only`.
        what: name for tables.
        recipe: a bundled recipe.
        words: overrides; `{shared}` and `{work}` are filled in.
        prepare: see `Prepare`.
        overlays: overlays of the recipe.
    """

    name: str
    what: str
    recipe: str
    words: tuple[str, ...]
    prepare: Prepare
    overlays: tuple[str, ...] = ()


def questions_and_requests(shared: Path, work: Path) -> dict[str, Path]:
    """TREC's training questions and the test requests of CLINC150."""
    lines = (shared / "trec" / "train_5500.label").read_text("latin-1").split("\n")
    trec = [line.split(" ", 1)[1] for line in lines if line]
    clinc = [text for text, _ in json.loads((shared / "clinc150" / "data_full.json").read_text())["test"]]
    return {
        "TREC questions": _texts(trec, work / "trec.csv"),
        "CLINC150 requests": _texts(clinc, work / "clinc150.csv"),
    }


def without_topic(shared: Path, work: Path, *, topic: int) -> dict[str, Path]:
    """Training and test texts of three topics; the test texts of the fourth are outside."""
    import pandas as pd

    parts = {}
    for part in ("train", "test"):
        parts[part] = pd.read_parquet(
            shared / "ag_news_hub" / "data" / f"{part}-00000-of-00001.parquet", columns=["text", "label"]
        )
        others = parts[part][parts[part]["label"] != topic]
        write_table(others, work / f"ag_news_without_{topic}_{part}.csv")
    outside = parts["test"][parts["test"]["label"] == topic]["text"]
    return {TOPICS[topic]: _texts(list(outside), work / f"ag_news_only_{topic}.csv")}


def clothes_and_letters(shared: Path, work: Path) -> dict[str, Path]:
    """Images of the size of MNIST's."""
    return {
        "Fashion-MNIST": shared / "fashion_mnist" / "t10k-images-idx3-ubyte.gz",
        "notMNIST": shared / "notmnist" / "t10k-images-idx3-ubyte.gz",
    }


def without_digit(shared: Path, work: Path, *, digit: int) -> dict[str, Path]:
    """Pen strokes of nine digits."""
    import pandas as pd

    rows = pd.read_csv(shared / "pendigits" / "pendigits_train.csv")
    return {f"the digit {digit}": _split(rows, rows["clase"] != digit, work / "pendigits")}


def normal_states(shared: Path, work: Path) -> dict[str, Path]:
    """The shuttle's states: class 0 is the normal one."""
    import pandas as pd

    rows = pd.read_csv(shared / "shuttle" / "shuttle_27145.csv")
    return {"the other classes": _split(rows, rows["clase"] == 0, work / "shuttle")}


def sound_detector(shared: Path, work: Path) -> dict[str, Path]:
    """Events without those where the detector failed."""
    import pandas as pd

    rows = pd.read_csv(shared / "miniboone" / "miniboone_5044.csv")
    faulty = (rows.drop(columns="clase") < _SENTINELS).mean(axis=1) > 0.5
    return {"faults of the detector": _split(rows, ~faulty, work / "miniboone")}


def seven_kinds(shared: Path, work: Path, *, out: tuple[int, ...]) -> dict[str, Path]:
    """CIFAR-10 without some classes."""
    with np.load(shared / "cifar10" / "cifar10_train_first4000.npz") as arrays:
        x, y, names = arrays["x"], arrays["y"].astype(np.int64), [str(name) for name in arrays["names"]]
    work.mkdir(parents=True, exist_ok=True)
    inside = ~np.isin(y, out)
    stem = work / f"cifar10_without_{'_'.join(map(str, out))}"
    np.savez(f"{stem}_in.npz", x=x[inside], y=y[inside])
    np.savez(f"{stem}_out.npz", x=x[~inside])
    return {", ".join(names[index] for index in out): Path(f"{stem}_out.npz")}


def _split(rows: Any, inside: Any, stem: Path) -> Path:
    """Write both sides as `stem_in.csv` and `stem_out.csv`; returns the path of the second."""
    write_table(rows[inside], stem.with_name(f"{stem.name}_in.csv"))
    outside = stem.with_name(f"{stem.name}_out.csv")
    write_table(rows[~inside].drop(columns="clase"), outside)
    return outside


def _texts(texts: list[str], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return path


def _csv(name: str, labels: int, *more: str) -> tuple[str, ...]:
    return (f"data.path={{work}}/{name}_in.csv", "data.label=clase", f"data.labels.count={labels}", *more)


WORLDS = (
    World(
        "ag_news",
        "AG-News, 200 labels",
        "ag_news",
        ("data.path={shared}/ag_news_hub",),
        questions_and_requests,
    ),
    *(
        World(
            f"ag_news_without_{topic}",
            f"AG-News without {name}, 150 labels",
            "ag_news",
            (
                "data.use=csv",
                f"data.path={{work}}/ag_news_without_{topic}_train.csv",
                f"data.test_path={{work}}/ag_news_without_{topic}_test.csv",
                "data.text=text",
                "data.label=label",
                "data.labels.count=150",
            ),
            partial(without_topic, topic=topic),
        )
        for topic, name in enumerate(TOPICS)
    ),
    World(
        "mnist",
        "MNIST pixels, 1,000 labels",
        "mnist_pca",
        ("data.path={shared}/mnist",),
        clothes_and_letters,
    ),
    World(
        "pendigits",
        "pen strokes without the digit 4, 100 labels",
        "csv",
        _csv("pendigits", 100),
        partial(without_digit, digit=4),
    ),
    World(
        "shuttle",
        "shuttle, class 0 alone (`single_class`)",
        "csv",
        _csv("shuttle", 100, "data.labels.single_class=true"),
        normal_states,
    ),
    World("miniboone", "MiniBooNE, 20 labels", "miniboone", _csv("miniboone", 20), sound_detector),
    World(
        "cifar10",
        "CIFAR-10 without three classes, 700 labels",
        "cifar10",
        ("data.path={work}/cifar10_without_0_3_8_in.npz", "data.labels.count=700"),
        partial(seven_kinds, out=(0, 3, 8)),
        ("cpu",),
    ),
)
