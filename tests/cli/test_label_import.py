"""`flowgmm labels import`: labels join the rows of a run or of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, read_rows, save

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.inference.inputs import training_rows
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import Run


def export(labels: dict[str, str], **data: str) -> str:
    """Write an export of Label Studio with the labels of rows by id, and return its path."""
    tasks = [
        {
            "id": number,
            "data": {"id": row, **data},
            "annotations": [
                {
                    "was_cancelled": False,
                    "result": [{"type": "choices", "from_name": "label", "value": {"choices": [label]}}],
                }
            ],
        }
        for number, (row, label) in enumerate(labels.items())
    ]
    return save("export.json", json.dumps(tasks))


def test_labels_join_the_rows_of_a_run(flowgmm: Any, run: Path) -> None:
    before = load_rows(Run(run).recipe().data, DataContext())
    pile = training_rows(before)
    (first, second), labelled = np.flatnonzero(pile.labels < 0)[:2], np.flatnonzero(pile.labels >= 0)[0]
    given = before.class_names[pile.labels[labelled]]
    other = {"no": "yes", "yes": "no"}[given]
    labels = {pile.ids[first]: "no", pile.ids[second]: "maybe", pile.ids[labelled]: other}
    outcome = flowgmm("labels", "import", export(labels), "--run", str(run))
    assert outcome.out.splitlines() == ["csv_more.yaml", "csv_more.csv", "csv_more_test.csv"]
    assert "2 with a new label, 1 with another one" in outcome.err
    assert "maybe: no class of the run" in outcome.err
    assert f"next: flowgmm train csv_more.yaml --from {run}" in outcome.err
    after = load_rows(load_recipe("csv_more.yaml", []).data, DataContext())
    cells = {row["id"]: row["label"] for row in read_rows("csv_more.csv")}
    assert {name: cells[name] for name in labels} == labels
    assert sum(label != "" for label in cells.values()) == (pile.labels >= 0).sum() + 2
    assert before.test is not None
    assert after.test is not None
    assert (after.test.ids == before.test.ids).all()
    assert "exists already" in flowgmm("labels", "import", "export.json", code=2).err
    value = flowgmm("labels", "import", "export.json", "--force", "--json").json
    assert (value["schema"], value["new"], value["changed"]) == ("flowgmm/labels-import/1", 2, 1)


def test_labels_join_a_table_whose_other_cells_stay(flowgmm: Any) -> None:
    rows = [["key", "x", "kind"], ["a", "1.50", ""], ["b", "0.10", "old"], ["c", "2", "old"]]
    path = save("t.csv", rows)
    file = export({"a": "new", "b": "new", "z": "new"})
    words = ["labels", "import", file, "--data", path, "--id", "key", "--label", "kind"]
    outcome = flowgmm(*words)
    assert outcome.out == "t_labelled.csv\n"
    assert Path("t_labelled.csv").read_text() == "key,x,kind\na,1.50,new\nb,0.10,new\nc,2,old\n"
    assert "1 with a new label, 1 with another one" in outcome.err
    assert "no row fits 1 task" in outcome.err
    assert "next: flowgmm init t_labelled.csv --label kind" in outcome.err
    flowgmm(*words, code=2)
    flowgmm(*words, "--save", "t.csv", code=2)
    assert Path("t.csv").read_text().startswith("key,x,kind\na,1.50,\n")
    flowgmm(*words, "--save", "u.jsonl")
    assert json.loads(Path("u.jsonl").read_text().splitlines()[0])["kind"] == "new"


def test_a_table_of_its_own_has_the_labelled_rows(flowgmm: Any) -> None:
    outcome = flowgmm("labels", "import", export({"a": "new"}, text="hello"), "--save", "-")
    assert outcome.rows == [{"id": "a", "text": "hello", "label": "new"}]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--data", "t.csv"], 5, "no task fits a row"),
        (["--data", "t.csv", "--id", "row"], 5, "no column `row`"),
        (["--data", "t.csv", "--recipe", "r.yaml"], 2, "--recipe is for the rows of a run"),
        (["--data", "t.csv", "--run", "r"], 2, "not both"),
        (["--recipe", "r.txt"], 2, "a recipe is a YAML file"),
        (["--save", "-", "--json"], 2, "stdout"),
        (["--save", "x.csv", "--choices", "other"], 5, "no label in `other`"),
        ([], 6, "no finished run"),
    ],
)
def test_mistakes_write_nothing(flowgmm: Any, words: list[str], code: int, message: str) -> None:
    save("t.csv", numbers(4))
    export({"zz": "new"})
    error = flowgmm("labels", "import", "export.json", *words, code=code).err
    assert message in error
    assert "hint:" in error
    assert sorted(path.name for path in Path().iterdir()) == ["export.json", "t.csv"]
