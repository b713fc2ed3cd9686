"""`flowgmm discover`: groups of unknown kinds, and new classes of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.inference.discovery import column_marks, group_words
from flowgmm_cli.inference.groups import Groups, find_groups
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.pipeline import train

CENTRES = np.array([[-8.0, 0], [8, 0], [0, 12], [0, -12]])  # two classes, then two kinds without labels
COLOURS = ["red", "red", "blue", "green"]
QUICK = ["train.epochs=8", "train.batch_size=128", "flow.hidden=16", "search=null", "run.deterministic=true"]


def write_table(path: Path, counts: list[int]) -> Path:
    """Write rows of the two classes, of which 20 each have labels, and of other kinds."""
    rng = np.random.default_rng(0)
    kinds = rng.permutation(np.repeat(np.arange(4), counts))
    x = CENTRES[kinds] + rng.standard_normal((len(kinds), 2))
    left = {0: 25, 1: 25}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "width", "height", "colour", "kind"])
        for place, (kind, row) in enumerate(zip(kinds.tolist(), x.tolist(), strict=True)):
            label = ""
            if left.get(kind, 0):
                left[kind] -= 1
                label = "ab"[kind]
            colour = "grey" if place % 10 == 0 else COLOURS[kind]
            writer.writerow([f"{'abcd'[kind]}{place}", *row, colour, label])
    return path


def train_run(folder: Path, counts: list[int], *words: str) -> Path:
    path = write_table(folder / "rows.csv", counts)
    own = [f"data.path={path}", "data.label=kind", "data.id=key"]
    loaded = load_recipe("csv", [*own, *QUICK, *words])
    train(loaded, create_run(loaded, argv=[], directory=folder / "run"))
    return folder / "run"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(train_run(tmp_path_factory.mktemp("discover"), [200, 200, 80, 50], "prior.unknown=2"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        train_run(tmp_path_factory.mktemp("clean"), [120, 120, 0, 0], "prior.unknown=auto", "train.epochs=1")
    )


def test_groups_of_unknown_kinds_are_found_with_what_marks_them(flowgmm: Any, run: str) -> None:
    outcome = flowgmm("discover", run, "--json", "--save", "g.csv")
    result = outcome.json
    assert result["schema"] == "flowgmm/discover/1"
    assert len(result["groups"]) == 2
    for group, kind, colour, sign in zip(result["groups"], "cd", ["blue", "green"], [1, -1], strict=True):
        assert group["typical"][0].startswith(kind)
        marks = {mark["column"]: mark for mark in group["columns"]}
        assert marks["colour"]["value"] == colour
        assert marks["colour"]["group"] == pytest.approx(0.9, abs=0.1)
        assert marks["height"]["difference"] * sign > 1
        assert abs(marks["width"]["difference"]) < 0.5
    rows = list(csv.DictReader(Path("g.csv").read_text().splitlines()))
    assert list(rows[0]) == ["id", "group", "p_unknown", "width", "height", "colour"]
    assert len(rows) == sum(group["rows"] for group in result["groups"])
    assert np.mean([row["id"][0] == {"1": "c", "2": "d"}[row["group"]] for row in rows]) > 0.9
    assert "2 groups" in flowgmm("discover", run).out


def test_rows_of_unknown_kinds_are_suggested_for_labels(flowgmm: Any, run: str) -> None:
    rows = flowgmm("suggest", run, "-n", "12", "--json").json["rows"]
    unknown = {row["id"][0] for row in rows if row["reason"] == "unlike the named classes"}
    assert unknown
    assert unknown <= {"c", "d"}
    assert any(row["reason"] == "between a and b" for row in rows)


def test_groups_of_other_rows(flowgmm: Any, run: str) -> None:
    lines = (Path(run).parent / "rows.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join([lines[0], *[line for line in lines if line[0] in "bd"]]) + "\n")
    (group,) = flowgmm("discover", run, "--data", "new.csv", "--json").json["groups"]
    assert group["typical"][0].startswith("d")
    error = flowgmm("discover", run, "new.csv", "--accept", "1=d", code=2).err
    assert "--accept adds labels to the run's own rows" in error


def test_accepted_groups_are_classes_of_a_recipe_that_trains(flowgmm: Any, run: str) -> None:
    outcome = flowgmm("discover", run, "--accept", "1=round things, mostly,2=a")
    assert outcome.err.rstrip().endswith(f"next: flowgmm train csv_more.yaml --from {run}")
    more = flowgmm("train", "csv_more.yaml", "--from", run, "--run-dir", "more", "--json")
    assert more.json["status"] == "done"
    assert "new: round things, mostly" in more.err
    assert f"{Path(run).absolute()} (data " in flowgmm("runs", "show", "more").out.replace("\n", "")
    rows = load_rows(load_recipe("csv_more.yaml", []).data, DataContext())
    assert rows.class_names == ("a", "b", "round things, mostly")
    labels, ids = rows.train.labels, rows.train.ids
    new = labels == 2
    assert 30 <= new.sum() <= 45
    assert {name[0] for name in ids[new]} == {"c"}
    assert {name[0] for name in ids[labels == 0]} == {"a", "d"}
    assert rows.test is not None
    assert {name[0] for name in rows.test.ids} == {"a", "b"}  # no test with guessed labels
    assert "exists already" in flowgmm("discover", run, "--accept", "1=c", code=2).err
    flowgmm("discover", run, "--accept", "1=c", "--force")
    assert "there is no group 7" in flowgmm("discover", run, "--accept", "7=c", "--force", code=2).err


def test_a_run_without_unknown_kinds(flowgmm: Any, clean: str) -> None:
    outcome = flowgmm("discover", clean)
    assert outcome.out == "no unlabelled rows look like none of your classes\n"
    assert "--score" in outcome.err
    assert flowgmm("discover", clean, "--json").json["groups"] == []
    assert flowgmm("discover", clean, "--score", "combined", "--json").json["score"] == "combined"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept", "sport=1"], "it takes GROUP=CLASS"),
        (["--recipe", "a.yaml"], "--recipe names what --accept writes"),
        (["--plot", "a.pdf"], "figures are PNG files"),
        (["--fpr", "0.1"], "--fpr belongs to a score"),
    ],
)
def test_mistakes(flowgmm: Any, run: str, words: list[str], message: str) -> None:
    assert message in flowgmm("discover", run, *words, code=2).err


def test_the_number_of_groups_follows_the_widths_of_the_classes() -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(9), 60)
    x = (12 * rng.standard_normal((9, 8)))[kinds] + rng.standard_normal((540, 8))
    groups = find_groups(x.astype(np.float32), kinds >= 4, np.where(kinds < 4, kinds, -1))
    assert len(groups) == 5
    assert all(len(set(kinds[groups.members(group)])) == 1 for group in range(5))
    wide = find_groups(x.astype(np.float32), kinds >= 4, np.where(kinds < 4, 0, -1))  # a class of four kinds
    assert len(wide) < 3


def test_words_and_columns_mark_groups() -> None:
    groups = Groups(np.array([0, 0, -1, -1, 1, 1]), np.zeros(6), np.zeros((2, 1), np.float32))
    texts = ["the card was late", "a late card", "the the news", "news of the day", "the goal", "a goal"]
    assert group_words(texts, groups) == [["card", "late"], ["goal"]]
    assert group_words(["", "1"] * 3, groups) == [[], []]
    first, second = column_marks(Column("x", "numeric"), np.array([1.0, 1, 0, np.nan, -1, -1]), groups)
    assert first[0].difference > 1 > -1 > second[0].difference
    (mark,) = column_marks(Column("c", "category"), np.array(list("aabbbc"), object), groups)[0]
    assert mark.value == "a"
    assert mark.describe() == "c a (100%, all rows 33%)"
