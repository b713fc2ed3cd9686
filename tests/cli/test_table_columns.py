"""Columns of all sorts, from a table to a model, its answers and its samples."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_files import read_json, read_rows, train_run

ROWS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of many sorts of columns, the same rows as Parquet, and a model of them."""
    folder = tmp_path_factory.mktemp("columns")
    rng = np.random.default_rng(0)
    classes = np.arange(ROWS) % 2
    minutes = pd.to_timedelta(rng.integers(0, 1440, ROWS), unit="m")
    table = pd.DataFrame(
        {
            "id": np.arange(ROWS) + 1,
            "x": rng.normal(3 * classes, 1),
            "holes": np.where(rng.random(ROWS) < 0.3, np.nan, rng.integers(0, 9, ROWS)),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, ROWS), unit="D"),
            "at": (pd.Timestamp("2000-01-01") + minutes).time,
            "flag": rng.random(ROWS) < 0.5,
            "town": [f"town {place}" for place in rng.integers(0, 100, ROWS)],
            "y": [float(label) if row < 80 else None for row, label in enumerate(classes)],
        }
    )
    table.to_csv(folder / "t.csv", index=False)
    table.to_parquet(folder / "t.parquet")
    train_run(folder, "csv", [f"data.path={folder / 't.csv'}", "data.label=y"])
    return folder


@pytest.fixture
def run(folder: Path) -> str:
    return str(folder / "runs" / "csv" / "first")


def test_the_model_has_the_features_of_every_sort(folder: Path, run: str) -> None:
    saved = read_json(folder / "runs" / "csv" / "first" / "model.json")
    assert saved["class_names"] == ["0", "1"]
    columns = [block["column"] for block in saved["preprocessor"]["featuriser"]["blocks"]]
    kinds = {"x": "numeric", "holes": "numeric", "day": "date", "at": "date"}
    kinds |= {"flag": "category", "town": "category"}
    assert {column["name"]: column["kind"] for column in columns} == kinds


def test_formats_of_the_same_rows_get_the_same_answers(
    flowgmm: Any, folder: Path, run: str, tmp_path: Path
) -> None:
    answers = []
    for name in ("t.csv", "t.parquet"):
        outcome = flowgmm("predict", run, "--data", str(folder / name), "--save", str(tmp_path / "p.csv"))
        assert "on 16 labelled rows; 64 more are rows that the model was trained on" in outcome.err
        assert "training never saw" not in outcome.err
        answers.append((tmp_path / "p.csv").read_bytes())
        (tmp_path / "p.csv").unlink()
    assert answers[0] == answers[1]


def test_cells_that_training_never_saw_are_counted(
    flowgmm: Any, folder: Path, run: str, tmp_path: Path
) -> None:
    table = pd.read_csv(folder / "t.csv", dtype=str).head(60)
    table["flag"] = [*table["flag"][:40].str.lower(), *[""] * 20]
    table.loc[3, "day"] = "some day"
    table.to_csv(tmp_path / "new.csv", index=False)
    outcome = flowgmm("predict", run, "--data", str(tmp_path / "new.csv"), "--save", str(tmp_path / "p.csv"))
    assert "`flag`: 39 of 59 cells hold a category that training never saw, such as `true`" in outcome.err
    assert "(did you mean `True`?)" in outcome.err
    assert "`flag`: 20 of 59 cells are empty; in training none was" in outcome.err
    assert "line 5: column `day` wants a date like ISO 8601, got `some day`" in outcome.err


def test_samples_have_the_form_of_the_table(flowgmm: Any, run: str, tmp_path: Path) -> None:
    flowgmm("sample", run, "-n", "20", "--save", str(tmp_path / "s.csv"))
    rows = read_rows(tmp_path / "s.csv")
    assert {"x", "holes", "day", "at", "flag"} < rows[0].keys()
    assert "town" not in rows[0]
    for row in rows:
        assert pd.Timestamp(row["day"]).strftime("%Y-%m-%d") == row["day"]
        assert pd.Timestamp(f"2000-01-01 {row['at']}")
        assert row["flag"] in ("True", "False")
        assert row["holes"] == "" or float(row["holes"]).is_integer()


@pytest.mark.parametrize("command", ["eval", "check"])
def test_other_commands_read_the_columns(flowgmm: Any, run: str, command: str) -> None:
    flowgmm(command, run)


def test_a_counter_harms_no_more(flowgmm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a table sorted by class, the number of a row tells its class, but not that of a new row."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    pd.DataFrame({"id": np.arange(120), "x": rng.normal(labels, 1), "y": labels}).to_csv("t.csv", index=False)
    words = ["data.path=t.csv", "data.label=y", "--no-auto", "train.epochs=1", "flow.hidden=8"]
    outcome = flowgmm("train", "csv", *words)
    assert "t.csv: left out `id` (it counts the rows); data.id=id names rows by it" in outcome.err
    assert "1 features" in outcome.err


@pytest.mark.parametrize(("name", "kind"), [("t.csv", "csv"), ("t.csv", "parquet"), ("t.parquet", "jsonl")])
def test_columns_of_the_input_are_kept_as_they_are(
    flowgmm: Any, folder: Path, run: str, tmp_path: Path, name: str, kind: str
) -> None:
    out = tmp_path / f"out.{kind}"
    words = ("--data", str(folder / name), "--save", str(out), "-q")
    flowgmm("predict", run, *words, "--only", "id,prediction", "--with", "all")
    read = {"csv": pd.read_csv, "jsonl": partial(pd.read_json, lines=True), "parquet": pd.read_parquet}
    written, source = read[kind](out), read["parquet" if name == "t.parquet" else "csv"](folder / name)
    kept = ["input_id", *source.columns[1:]]
    assert list(written) == ["id", "prediction", *kept]
    assert written["input_id"].astype(int).tolist() == list(range(1, ROWS + 1))
    for column in ("x", "holes", "y"):
        assert np.allclose(pd.to_numeric(written[column]), source[column], equal_nan=True)
    for column in ("day", "at", "town"):
        assert written[column].astype(str).str.slice(0, 8).tolist() == [str(v)[:8] for v in source[column]]
    if name == "t.csv" and kind == "csv":
        assert written[kept[1:]].equals(source[kept[1:]])  # to the last digit


def test_some_columns_are_kept_by_predict_embed_and_ood(
    flowgmm: Any, folder: Path, run: str, tmp_path: Path
) -> None:
    data, out = str(folder / "t.csv"), str(tmp_path / "o.csv")
    towns = [row["town"] for row in read_rows(data)]
    for words in (
        ["predict", run, "--data", data, "--processes", "2"],
        ["embed", run, "--data", data],
        ["ood", run, "--out", data, "--in", data, "--alone"],
    ):
        flowgmm(*words, "--save", out, "--with", "town", "-q")
        rows = read_rows(out)
        assert [row["town"] for row in rows] == towns
        assert "x" not in rows[0]
