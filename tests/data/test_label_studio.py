"""Exports of Label Studio: its three forms, several annotators, and the rows that tasks belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.data.label_studio import Labels, match_rows, read_labels
from flowgmm_cli.errors import DataError


def annotation(*labels: str, control: str = "topic", skipped: bool = False) -> dict[str, Any]:
    """An annotation as Label Studio writes it."""
    value = {"choices": list(labels)}
    result = {"value": value, "id": "x", "from_name": control, "to_name": "text", "type": "choices"}
    return {"id": 1, "completed_by": 1, "result": [result] if labels else [], "was_cancelled": skipped}


def export(*annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tasks of the rows r0, r1, ... with the numbers 1, 2, ... of Label Studio."""
    return [
        {"id": place + 1, "data": {"id": f"r{place}", "text": f"text {place}"}, "annotations": several}
        for place, several in enumerate(annotations)
    ]


def read(path: Path, content: Any, **options: Any) -> Labels:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    options = {"name": None, "inputs": ["text", "id"], "note": pytest.fail, **options}
    return read_labels(str(path), **options)


def test_json_has_the_data_and_the_choices_of_each_task(tmp_path: Path) -> None:
    tasks = export([annotation("a")], [annotation("b")], [annotation()], [annotation(skipped=True)], [])
    labels = read(tmp_path / "e.json", tasks)
    assert labels.labels == ("a", "b")
    assert labels.tasks == ({"id": "r0", "text": "text 0"}, {"id": "r1", "text": "text 1"})
    assert labels.left_out == {"without a label": 2, "skipped": 1}


def test_most_annotators_decide(tmp_path: Path) -> None:
    a, b, several = annotation("a"), annotation("b"), annotation("a", "b")
    labels = read(
        tmp_path / "e.json", export([a, b, b], [a, b], [several], [annotation(skipped=True), a], [several, b])
    )
    assert labels.labels == ("b", "a", "b")
    assert [task["id"] for task in labels.tasks] == ["r0", "r3", "r4"]
    assert labels.left_out == {"with labels that contradict each other": 1, "with several labels": 1}
    assert labels.describe().startswith("3 tasks with a label, 1 ")


def test_json_min_and_csv_are_rows_with_a_number_in_the_place_of_the_id(tmp_path: Path) -> None:
    own = {"annotator": 1, "annotation_id": 5, "created_at": "2026", "updated_at": "2026", "lead_time": 2.5}
    rows = [{"text": "text 0", "id": 1, "topic": "a", **own}]
    rows.append({"text": "text 1", "id": 2, "topic": {"choices": ["a", "b"]}, **own})
    labels = read(tmp_path / "min.json", rows)
    assert (labels.tasks, labels.labels) == (({"text": "text 0"},), ("a",))
    table = (
        '"annotation_id","annotator","created_at","id","lead_time","text","topic","updated_at"\n'
        '5,1,"2026",1,2.5,"text, 0\nmore","a","2026"\n'
        '6,1,"2026",2,2.5,"text 1","{""choices"": [""a"", ""b""]}","2026"\n'
    )
    labels = read(tmp_path / "e.csv", table)
    assert (labels.tasks, labels.labels) == (({"text": "text, 0\nmore"},), ("a",))
    assert labels.left_out == {"with several labels": 1}


def test_a_plain_table_keeps_its_ids(tmp_path: Path) -> None:
    labels = read(tmp_path / "e.csv", "id,text,label\nr5,some text,[a]\nr6,,\n")
    assert labels.tasks == ({"id": "r5", "text": "some text"},)
    assert labels.labels == ("[a]",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "no list of tasks"),
        ("[1", "not readable JSON"),
        ([{"data": {"text": "t"}, "annotations": [3]}], "malformed annotations"),
        (export([]), "has no labels"),
        (export([annotation(skipped=True)], [annotation()]), "has no labels"),
        (export([annotation("a")], [annotation("b", control="other")]), "several names"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "e.json", content)


def test_a_control_can_be_named(tmp_path: Path) -> None:
    content = export([annotation("a")], [annotation("b", control="other")])
    assert read(tmp_path / "e.json", content, name="other").labels == ("b",)
    with pytest.raises(DataError, match="no label in `third`"):
        read(tmp_path / "e.json", content, name="third")


def test_rows_are_recognised_by_id_and_contents() -> None:
    ids = ["r0", "r1", "cats/1.png", "r3", "dogs/1.png"]
    columns = {"text": ["one", "two", None, "two", "two"], "x": np.array([1.0, 0.1, np.nan, 0.1, 0.1])}
    tasks: list[tuple[dict[str, Any], int | None]] = [
        ({"id": "r1"}, 1),
        ({"id": "r1", "text": " two\n", "x": "0.10"}, 1),
        ({"id": "r0", "text": "two"}, 1),  # an id of another table
        ({"id": "r3", "text": "two", "x": "another form"}, 3),
        ({"id": "cats/1.png", "text": "", "x": None}, 2),
        ({"text": "two", "x": 0.1}, 1),  # the first of equal rows
        ({"id": "dogs/1.png", "text": "two"}, 4),
        ({"image": "/data/local-files/?d=photos/cats/1.png"}, 2),
        ({"image": "http://host/photos/dogs/1.png"}, 4),
        ({"image": "birds/1.png"}, None),
        ({"text": "three"}, None),
        ({}, None),
    ]
    assert match_rows([task for task, _ in tasks], ids, columns) == [row for _, row in tasks]
