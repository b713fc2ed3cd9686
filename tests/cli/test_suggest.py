"""`flowgmm suggest`: files, tasks of Label Studio, the way back, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, read_rows, save
from PIL import Image


def test_rows_of_a_table_without_labels(flowgmm: Any, folder: Path) -> None:
    table = [[*row[:2], f"note {place}"] for place, row in enumerate(numbers(80))]
    save("rows.csv", [["x1", "x2", "note"], *table[1:]])
    outcome = flowgmm("suggest", "rows.csv", "-n", "6", "--save", "to_label.csv")
    assert "rows.csv: 6 rows to label next" in outcome.out
    assert outcome.err.rstrip().endswith("flowgmm labels import to_label.csv --data rows.csv")
    rows = read_rows("to_label.csv")
    assert list(rows[0])[:6] == ["id", "label", "suggested", "reason", "x1", "x2"]
    assert all(
        row["reason"].startswith("typical of") and row["reason"].endswith("without labels") for row in rows
    )
    assert "exists already" in flowgmm("suggest", "rows.csv", "--save", "to_label.csv", code=2).err
    text = Path("to_label.csv").read_text().replace(",,,typical", ",yes,,typical")
    Path("to_label.csv").write_text(text)
    flowgmm("labels", "import", "to_label.csv", "--data", "rows.csv")
    assert sum(row["label"] == "yes" for row in read_rows("rows_labelled.csv")) == 6
    value = flowgmm("suggest", "rows_labelled.csv", "--label", "label", "-n", "3", "--json").json
    assert (value["schema"], value["n"], value["run"]) == ("flowgmm/suggest/1", 3, None)
    assert not {row["id"] for row in value["rows"]} & {row["id"] for row in rows}


def test_texts_are_recognised(flowgmm: Any) -> None:
    subjects = [
        "the goal of the team was late",
        "the price of the shares fell again",
        "a new phone was shown",
    ]
    save(
        "texts.csv",
        [["body", "n"], *[[f"{subjects[row % 3]} number {row}", "7"] for row in range(60)], ["", "7"]],
    )
    outcome = flowgmm("suggest", "texts.csv", "-n", "3", "--json")
    assert "text    body" in outcome.err
    assert "1 of 61 rows have no text" in outcome.err
    assert {int(row["id"].split(":")[1]) % 3 for row in outcome.json["rows"]} == {0, 1, 2}


def test_a_column_of_ids_and_files_of_a_folder_name_the_rows(flowgmm: Any) -> None:
    save("rows.csv", [["id", "x", "y"], *[[f"r{row}", str(row * 7 % 31), str(row % 9)] for row in range(40)]])
    assert all(
        row["id"][0] == "r" for row in flowgmm("suggest", "rows.csv", "-n", "3", "--json").json["rows"]
    )
    for row in range(30):
        Path("texts").mkdir(exist_ok=True)
        Path(f"texts/{row}.txt").write_text(
            f"the {['goal', 'price', 'phone'][row % 3]} of row {row} was late"
        )
    flowgmm("suggest", "texts", "-n", "3", "--save", "to_label.csv")
    assert all(row["id"].endswith(".txt") for row in read_rows("to_label.csv"))
    text = Path("to_label.csv").read_text().replace(",,,typical", ",sport,,typical")
    Path("to_label.csv").write_text(text)
    flowgmm("labels", "import", "to_label.csv", "--data", "texts", "--save", "labelled.csv")
    labelled = {row["id"] for row in read_rows("labelled.csv") if row["label"]}
    assert labelled == {row["id"] for row in read_rows("to_label.csv")}


def test_rows_of_a_run_as_tasks(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("suggest", str(run), "-n", "4", "--save", "tasks.json")
    assert outcome.err.rstrip().endswith(f"then: flowgmm labels import EXPORT.json --run {run}")
    tasks = json.loads(Path("tasks.json").read_text())
    unlabelled = {f"train:{place}" for place, row in enumerate(read_rows("t.csv"), 1) if not row["label"]}
    assert {task["data"]["id"] for task in tasks} <= unlabelled
    (prediction,) = tasks[0]["predictions"]
    assert prediction["result"][0]["value"]["choices"][0] in ("no", "yes")
    assert prediction["result"][0]["to_name"] == "text"
    assert tasks[0]["data"]["text"].startswith("x1=")
    assert isinstance(tasks[0]["data"]["x1"], float)
    for task in tasks:
        result = [{"type": "choices", "from_name": "label", "value": {"choices": ["no"]}}]
        task["annotations"] = [{"was_cancelled": False, "result": result}]
    Path("export.json").write_text(json.dumps(tasks))
    assert "4 with a new label" in flowgmm("labels", "import", "export.json", "--run", str(run)).err


def test_rows_of_a_file_for_a_run(flowgmm: Any, run: Path) -> None:
    save("new.csv", numbers(30, labelled=0, seed=1))
    value = flowgmm("suggest", str(run), "new.csv", "-n", "5", "--json").json
    assert value["data"] == "new.csv"
    assert {row["suggested"] for row in value["rows"]} <= {"no", "yes"}
    save("known.csv", numbers(10))
    assert "has no unlabelled rows" in flowgmm("suggest", str(run), "known.csv", code=5).err


def test_images_of_a_folder(flowgmm: Any, digits_run: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    Path("pictures").mkdir()
    for place, image in enumerate(pixels):
        Image.fromarray(image).save(f"pictures/{place}.png")
    outcome = flowgmm("suggest", "pictures", "-n", "2", "--save", "to_label.csv")
    assert outcome.err.rstrip().endswith("labels import to_label.csv --save pictures/labels.csv")
    assert [Path("pictures", row["file"]).is_file() for row in read_rows("to_label.csv")] == [True, True]
    flowgmm("suggest", "pictures", "-n", "2", "--save", "tasks.json")
    assert {task["data"]["image"] for task in json.loads(Path("tasks.json").read_text())} <= {
        f"{n}.png" for n in range(12)
    }
    assert flowgmm("suggest", str(digits_run), "-n", "2", "--json").json["n"] == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["t.csv", "--text", "nothing"], 5, "no column `nothing` (--text)"),
        (["t.csv", "--format", "csv"], 2, "--format is that of a file"),
        (["t.csv", "--save", "a.xyz"], 2, "suffix `.xyz` is not known"),
        (["t.csv", "--save", "t.csv", "--force"], 2, "would replace the rows"),
        (["missing.csv"], 5, "no such file: missing.csv"),
        (["runs/csv/first", "--text", "x1"], 2, "are for a table without a run"),
    ],
)
def test_mistakes(flowgmm: Any, run: Path, words: list[str], code: int, message: str) -> None:
    assert message in flowgmm("suggest", *words, code=code).err
