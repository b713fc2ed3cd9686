"""`flowgmm init`: from a table to a recipe that trains."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from own_files import add_column, numbers, save, texts
from PIL import Image

from flowgmm_cli.data import table_profile

WORDS = ("train.epochs=1", "flow.hidden=8", "calibration.folds=2", "--no-auto")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table with a counter in front."""
    rows = add_column(numbers(80, labelled=50), "row", str)
    return save("my table.csv", rows)


def test_the_recipe_is_written_and_trains(flowgmm: Any, table: str) -> None:
    outcome = flowgmm("init", table, "--label", "label")
    assert "my table.yaml: 80 rows, 50 labelled, 2 classes" in outcome.out
    assert "next: flowgmm train 'my table.yaml'" in outcome.err
    flowgmm("recipes", "check", "my table.yaml")
    trained = flowgmm("train", "my table.yaml", *WORDS, "--json")
    assert (Path(trained.json["run"]) / "MODEL_CARD.md").is_file()


@pytest.mark.parametrize("size", [None, 12])
def test_a_folder_of_images_gets_a_recipe_that_trains(flowgmm: Any, size: int | None) -> None:
    for kind in ("cat", "dog", "unlabelled"):
        Path("my pics", kind).mkdir(parents=True)
        for number in range(8):
            side = size if size and number == 0 else 8
            Image.new("L", (side, 8), number + 100 * (kind == "dog")).save(f"my pics/{kind}/{number}.png")
    counts = {"rows": 24, "labelled": 16, "unlabelled": 8, "classes": {"cat": 8, "dog": 8}}
    value = flowgmm("init", "my pics", "--json").json
    assert value == {"schema": "flowgmm/init/1", "recipe": "my pics.yaml", **counts}
    text = Path("my pics.yaml").read_text("utf-8")
    assert ("size: 8  # the images have from 8 x 8 to 8 x 12 pixels\n  resize: crop" in text) == bool(size)
    flowgmm("train", "my pics.yaml", "--dry-run", "flow.hidden=8", "data.transforms=[{use: pca, dim: 4}]")
    outcome = flowgmm("init", "my pics", "--force")
    assert outcome.out.splitlines()[0] == "my pics.yaml: 24 images, 16 labelled"
    assert "16 labels are few" in outcome.err
    assert "next: flowgmm train 'my pics.yaml'" in outcome.err
    assert "--label is for tables" in flowgmm("init", "my pics", "--label", "y", "--force", code=2).err


def test_texts_are_recognised_and_train(flowgmm: Any) -> None:
    save("posts.csv", texts(90, labelled=60))
    value = flowgmm("init", "posts.csv", "--json").json
    assert (value["label"], value["text"]) == ("label", ["text"])
    flowgmm("train", "posts.yaml", "flow.couplings=2", *WORDS)


def test_the_json_keeps_its_contract(flowgmm: Any, table: str) -> None:
    outcome = flowgmm("init", table, "--label", "label", "--json", "--quiet")
    assert outcome.err == ""
    value = outcome.json
    assert (value["schema"], value["recipe"]) == ("flowgmm/init/1", "my table.yaml")
    assert (value["rows"], value["labelled"], value["unlabelled"]) == (80, 50, 30)
    assert value["classes"] == {"no": 25, "yes": 25}
    roles = {row["name"]: row["role"] for row in value["columns"]}
    assert roles == {"row": "id", "x1": "input", "x2": "input", "label": "label"}
    assert {"kind", "missing", "distinct", "reason"} <= set(value["columns"][0])


def test_of_a_large_table_the_first_rows_are_held_in_memory(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_profile, "MAX_BYTES", 1000)
    sizes: list[int] = []
    profile = table_profile.profile_table

    def watch(table: Any, **options: Any) -> Any:
        sizes.append(table.data.num_rows)
        return profile(table, **options)

    monkeypatch.setattr(table_profile, "profile_table", watch)
    labels = ["yes"] * 20_000 + ["no"] * 20_000 + [""] * 2_000  # the first rows have a single class
    lines = [f"{row % 7}.5,{row % 5 or ''},{label}" for row, label in enumerate(labels)]
    with gzip.open("t.csv.gz", "wt") as stream:
        stream.write("\n".join(["x,z,kind", *["1,2"] * 10, *lines]))  # of 42,010 rows, 42 may be malformed
    outcome = flowgmm("init", "t.csv.gz", "--label", "kind")
    (head,) = sizes
    assert head < 20_000
    said = f"columns are judged by the first {head:,} of 42,000 rows, labels by all rows"
    assert said in outcome.err
    assert "10 of 42,010 rows cannot be read and are left out" in outcome.err
    assert said in Path("t.csv.yaml").read_text("utf-8")
    assert "42,000 rows, 40,000 labelled, 2 classes" in outcome.out
    assert "z 20 %" in Path("t.csv.yaml").read_text("utf-8")
    value = flowgmm("init", "t.csv.gz", "--label", "kind", "--json", "--force").json
    assert (value["rows"], value["judged_rows"]) == (42_000, head)
    assert value["classes"] == {"no": 20_000, "yes": 20_000}


def test_it_can_go_to_stdout(flowgmm: Any, table: str) -> None:
    outcome = flowgmm("init", table, "--label", "label", "--save", "-", "--quiet")
    assert outcome.out.startswith("# my table.csv: 80 rows")
    assert not Path("my table.yaml").exists()
    flowgmm("init", table, "--save", "-", "--json", code=2)


def test_a_recipe_that_exists_is_not_replaced_unasked(flowgmm: Any, table: str) -> None:
    Path("my.yaml").write_text("mine", encoding="utf-8")
    words = ("init", table, "--label", "label", "--save", "my.yaml")
    outcome = flowgmm(*words, code=2)
    assert "my.yaml exists already" in outcome.err
    assert Path("my.yaml").read_text(encoding="utf-8") == "mine"
    flowgmm(*words, "--force")
    assert "version: 1" in Path("my.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("gone.csv",), 5, "no such file"),
        (("my table.csv", "--label", "labels"), 5, "did you mean `label`"),
        (("my table.csv", "--label", "x1"), 5, "these look like measurements"),
        (("my table.csv", "--label", "label", "--text", "label"), 2, "that is the label"),
        (("my table.csv", "--label", "label", "--text", "nope"), 5, "has no column `nope`"),
        (("my table.csv", "--lable", "label"), 2, "--lable"),
    ],
)
def test_mistakes_are_reported(
    flowgmm: Any, table: str, words: tuple[str, ...], code: int, text: str
) -> None:
    outcome = flowgmm("init", *words, code=code)
    assert text in outcome.err
    assert not Path("my table.yaml").exists()


def test_a_table_without_inputs_is_refused(flowgmm: Any) -> None:
    save("t.csv", [["id", "y"], *([str(row), "ab"[row % 2]] for row in range(40))])
    outcome = flowgmm("init", "t.csv", "--label", "y", code=5)
    assert "id: it counts the rows" in outcome.err
