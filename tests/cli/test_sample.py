"""`flowgmm sample`: results by kind of data, files, and refused options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import read_rows, save
from own_files import texts as own_texts


@pytest.fixture
def texts(flowgmm: Any, moons_file: Path) -> Path:
    save("texts.csv", own_texts(80, classes=("sport", "state")))
    data = "data={use: csv, path: texts.csv, text: text, label: label, labels: {count: 10}, "
    data += "views: {strong: []}, encoder: {use: tfidf_svd, dim: 6, min_df: 1}, "
    data += "transforms: [{use: pca, dim: 4}]}"
    flowgmm("train", str(moons_file), data, "train.epochs=1", "calibration.method=none", "run.dir=runs")
    return Path("texts.csv")


def test_a_table_comes_as_csv_in_the_columns_of_the_input(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("sample", str(run), "--class", "yes", "-n", "5")
    rows = outcome.rows
    assert list(rows[0]) == ["id", "class", "log_density", "confidence", "x1", "x2"]
    assert [row["class"] for row in rows] == ["yes"] * 5
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)


def test_the_json_keeps_its_contract_and_the_seed_its_rows(flowgmm: Any, run: Path) -> None:
    first, second = (flowgmm("sample", "-n", "3", "--json", "--seed", "4").out for _ in range(2))
    assert first == second
    value = json.loads(first)
    assert (value["schema"], value["run"], value["mode"]) == ("flowgmm/sample/1", str(run), "draw")
    assert (value["n"], value["temperature"], value["seed"], value["saved"]) == (3, 0.7, 4, None)
    assert len(value["rows"]) == 3
    assert {"id", "class", "log_density", "confidence"} <= set(value["rows"][0])
    other = flowgmm("sample", "-n", "3", "--json", "--seed", "5").json
    assert other["rows"] != value["rows"]


def test_the_saved_rows_are_the_printed_rows(flowgmm: Any, run: Path) -> None:
    shown = flowgmm("sample", "-n", "4")
    outcome = flowgmm("sample", "-n", "4", "--save", "s.csv")
    assert outcome.out == ""
    assert "written s.csv: 4 rows" in outcome.err
    assert Path("s.csv").read_text(encoding="utf-8") == shown.out
    assert flowgmm("sample", "-n", "4", "--save", "-").out == shown.out
    for name in ("s.jsonl", "s.parquet", "s.tsv", "s.npz"):
        flowgmm("sample", "-n", "4", "--save", name)
    lines = [json.loads(line) for line in Path("s.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["class"] for row in lines] == [row["class"] for row in shown.rows]
    with np.load("s.npz") as arrays:
        assert arrays["flow_input"].shape[0] == 4


def test_samples_can_be_read_back_as_data(flowgmm: Any, run: Path) -> None:
    flowgmm("sample", "-n", "6", "--save", "s.csv")
    outcome = flowgmm("sample", "--transfer", "yes", "--data", "s.csv")
    moved = outcome.rows
    assert [row["class"] for row in moved] == ["yes"] * 6
    for source, row in zip(read_rows("s.csv"), moved, strict=True):
        if row["from"] == "yes":
            for name in ("x1", "x2"):
                assert float(row[name]) == pytest.approx(float(source[name]), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_a_path_goes_from_row_to_row(flowgmm: Any, run: Path, path: str) -> None:
    outcome = flowgmm(*f"sample --interpolate 3 7 --data t.csv --steps 5 --path {path}".split())
    rows, source = outcome.rows, read_rows("t.csv")
    assert [float(row["t"]) for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    for row, end in ((rows[0], source[2]), (rows[-1], source[6])):
        for name in ("x1", "x2"):
            assert float(row[name]) == pytest.approx(float(end[name]), rel=1e-4, abs=1e-4)
    assert "the rows come back from the latent space with an error of at most" in outcome.err


def test_the_runs_own_rows_are_taken_without_data(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("sample", "--interpolate", "1", "2", "--steps", "2", "--json")
    assert "the run's test split, 8 rows" in outcome.err
    assert outcome.json["mode"] == "interpolate"
    flowgmm("sample", "--transfer", "no", "-n", "3")
    assert [row["id"] for row in flowgmm("sample", "--means").rows] == ["no", "yes"]
    Path("t.csv").unlink()
    flowgmm("sample", "-n", "2")  # needs no data
    outcome = flowgmm("sample", "--transfer", "yes", code=5)
    assert "--transfer needs the data of the run" in outcome.err
    assert "t.csv" in outcome.err


@pytest.mark.usefixtures("digits_run")
def test_images_become_a_grid_or_arrays(flowgmm: Any) -> None:
    refused = flowgmm("sample", code=2)
    assert "--save samples.png" in refused.err
    for line in ("--class 3 --class 8 -n 4", "--means", "--interpolate 1,2,3 4,5,6", "--transfer 5 -n 3"):
        flowgmm("sample", *line.split(), "--save", "s.png")
        assert Path("s.png").read_bytes().startswith(b"\x89PNG")
        Path("s.png").unlink()
    for line, count in (("", 60), ("-n 9", 10), ("-n 12 --temperature 0.3,1", 40), ("--transfer all", 100)):
        assert f"written s.png: {count} rows" in flowgmm("sample", *line.split(), "--save", "s.png").err
    transfer = flowgmm("sample", "--transfer", "all", "-n", "3", "--save", "s.png")
    assert "pca keeps 8 of 64 components, so pictures come back less sharp: a value" in transfer.err
    flowgmm("sample", "--class", "3", "-n", "2", "--save", "s.npz")
    with np.load("s.npz") as arrays:
        assert arrays["pixels"].shape == (2, 8, 8)
        assert arrays["flow_input"].shape == (2, 8)
        assert arrays["class"].tolist() == ["3", "3"]
    assert len(flowgmm("sample", "-n", "1", "--json").json["rows"][0]["pixels"]) == 8


def test_texts_are_shown_by_the_nearest_training_texts(flowgmm: Any, texts: Path) -> None:
    outcome = flowgmm("sample", "--class", "sport", "-n", "3", "--nearest", "2")
    lines = outcome.out.splitlines()
    assert "nearest training text" in lines[0]
    assert len(lines) == 1 + 3 * 2
    known = {row["text"] for row in read_rows(texts)}
    value = flowgmm("sample", "-n", "2", "--nearest", "2", "--json").json
    for row in value["rows"]:
        assert {row["text"], row["text_2"]} <= known
        assert 0 <= row["distance"] <= row["distance_2"] <= 2
    flowgmm("sample", "-n", "2", "--save", "s.csv")
    assert {row["text"] for row in read_rows("s.csv")} <= known
    texts.unlink()
    gone = flowgmm("sample", "-n", "2", code=5)
    assert "texts near to a sample needs the data of the run" in gone.err


def test_samples_are_drawn_around_the_training_rows_by_default(flowgmm: Any, run: Path) -> None:
    Path("t.csv").unlink()  # where rows lie is kept with the model
    words = [("--around", "means"), ("--around", "rows"), ()]
    means, rows, default = (flowgmm("sample", *more, "--json").json["rows"] for more in words)
    assert [row["class"] for row in means] == [row["class"] for row in rows]
    assert means != rows == default


def test_several_temperatures_share_their_random_numbers(flowgmm: Any, run: Path) -> None:
    words = ["--class", "yes", "-n", "3", "--seed", "2"]
    both = flowgmm("sample", *words, "--temperature", "0,1").rows
    assert [float(row["temperature"]) for row in both] == [0, 0, 0, 1, 1, 1]
    assert [row["id"] for row in both] == ["1", "2", "3", "4", "5", "6"]
    alone = flowgmm("sample", *words, "--temperature", "1").rows
    assert "temperature" not in alone[0]
    assert [row["x1"] for row in both[3:]] == [row["x1"] for row in alone]
    assert len({row["x1"] for row in both[:3]}) == 1  # the mean
    value = flowgmm("sample", "-n", "1", "--temperature", "0.5,1", "--json").json
    assert value["temperature"] == [0.5, 1.0]
    assert [row["temperature"] for row in value["rows"]] == [0.5, 1.0]
