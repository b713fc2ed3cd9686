"""Data sets some of whose classes lose their labels, for `open_piles.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
