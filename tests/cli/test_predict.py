"""`flowgmm predict`: columns and JSON, files and pipes, and rows that cannot be scored."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import MAIN
from own_files import read_json, read_rows, shell

from flowgmm_cli import load

COLUMNS = ["id", "prediction", "confidence", "ood_score", "is_ood", "p_no", "p_yes"]


def write(path: str, *lines: str, header: str = "x1,x2") -> str:
    Path(path).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


# --- the answer -------------------------------------------------------------------------------------------


def test_every_row_gets_a_line_in_order(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("predict", "--data", "t.csv", "--save", "out.csv")
    rows = read_rows("out.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["id"] for row in rows] == [str(number + 1) for number in range(60)]
    for row in rows:
        p = {name: float(row[f"p_{name}"]) for name in ("no", "yes")}
        assert sum(p.values()) == pytest.approx(1, abs=1e-6)
        assert row["prediction"] == max(p, key=lambda name: p[name])
        assert float(row["confidence"]) == max(p.values())
        assert row["is_ood"] in ("true", "false")
    assert "written out.csv: 60 rows" in outcome.err
    assert ") have an ood_score (" in outcome.err
    assert "rows a second" in outcome.err
    assert "on 8 labelled rows; 32 more are rows that the model was trained on" in outcome.err
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["class", "no", "yes"]


def test_without_save_the_answer_is_csv_on_stdout(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("predict", "--data", "t.csv", "--only", "id,prediction")
    lines = outcome.out.splitlines()
    assert lines[0] == "id,prediction"
    assert len(lines) == 61
    assert flowgmm("predict", "--data", "t.csv", "--save", "-", "--only", "id,prediction").out == outcome.out


def test_sets_and_abstention_add_columns_and_say_what_held_out_labels_show(flowgmm: Any, run: Path) -> None:
    words = ["predict", "--data", "t.csv", "--save", "out.csv", "--min-confidence", "0.6", "--json"]
    outcome = flowgmm(*words, "--coverage", "0.8", "--coverage-by", "class")
    rows = read_rows("out.csv")
    assert list(rows[0]) == [*COLUMNS, "classes", "n_classes", "abstained"]
    values = outcome.json
    for row in rows:
        assert len(row["classes"].split("|")) * bool(row["classes"]) == int(row["n_classes"])
        assert set(row["classes"].split("|")) <= {"no", "yes", ""}
        assert (row["abstained"] == "true") == (row["prediction"] == "") == (float(row["confidence"]) < 0.6)
    sizes = [int(row["n_classes"]) for row in rows]
    assert values["coverage"]["mean_size"] == pytest.approx(np.mean(sizes))
    assert values["coverage"]["labels"] == values["abstention"]["held_out"]["rows"] == 32
    assert values["abstention"]["abstained"] == [row["abstained"] for row in rows].count("true")
    assert "hold the right class for about 80% of rows of each class" in outcome.err
    assert "of 32 rows held out in training have that confidence" in outcome.err
    model = load(str(run))
    assert model.predict_set("t.csv", coverage=0.8, by_class=True).sum(1).tolist() == sizes


def test_a_coverage_that_needs_more_labels_ends_with_their_number(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("predict", "--data", "t.csv", "--save", "out.csv", "--coverage", "0.99", code=5)
    assert "a coverage of 0.99 needs 99 labels" in " ".join(outcome.err.split())
    assert "ask for 0.96 at most" in " ".join(outcome.err.split())
    assert not Path("out.csv").exists()
    flowgmm("predict", "--data", "t.csv", "--coverage-by", "class", code=2)


def test_the_summary_keeps_its_contract(flowgmm: Any, run: Path) -> None:
    value = flowgmm("predict", str(run), "--data", "t.csv", "--save", "out.csv", "--json").json
    assert value["schema"] == "flowgmm/predict/1"
    assert (value["run"], value["n"], value["unscorable"]) == (str(run), 60, 0)
    assert value["saved"] == "out.csv"
    rows = read_rows("out.csv")
    names = [row["prediction"] for row in rows]
    assert value["classes"] == {name: names.count(name) for name in ("no", "yes")}
    assert value["flagged"] == sum(row["is_ood"] == "true" for row in rows)
    assert (value["labelled"], value["trained_on"]) == (40, 32)
    assert value["rows_per_second"] > 0
    assert flowgmm("predict", "--data", "t.csv", "--json").json["saved"] is None


def test_the_accuracy_is_that_of_rows_that_were_not_trained_on(flowgmm: Any, run: Path) -> None:
    tested = read_json(run / "run.json")["test"]["accuracy"]
    own = flowgmm("predict", "--json")
    assert "the run's test split, 8 rows" in own.err
    for value in (own.json, flowgmm("predict", "--data", "t.csv", "--json").json):
        assert value["accuracy"] == pytest.approx(tested)
    seen = load(run).predict("t.csv").seen
    assert seen is not None
    rows = [",".join(row.values()) for row in read_rows("t.csv")]
    write("seen.csv", *(rows[place] for place in np.flatnonzero(seen)), header="x1,x2,label")
    outcome = flowgmm("predict", "--data", "seen.csv", "--save", "o.csv", "--json")
    assert outcome.json["accuracy"] is None
    assert "labels  no accuracy: the model was trained on all 32 labelled rows" in outcome.err
    assert "trained on all 32 labelled rows" in flowgmm("eval", "--data", "seen.csv", code=5).err


def test_images_that_were_trained_on_are_recognised(flowgmm: Any, digits_run: Path) -> None:
    rows = read_json(digits_run / "run.json")["rows"]
    value = flowgmm("predict", "--data", "{use: sklearn, name: digits}", "--json").json
    assert (value["labelled"], value["trained_on"]) == (1797, rows["labelled"])


def test_a_score_and_its_threshold_can_be_chosen(flowgmm: Any, run: Path) -> None:
    few = flowgmm("predict", "--data", "t.csv", "--score", "nll", "--fpr", "0.01", "--json").json
    many = flowgmm("predict", "--data", "t.csv", "--score", "nll", "--fpr", "0.9", "--json").json
    assert (few["score"], few["fpr"]) == ("nll", 0.01)
    assert few["threshold"] > many["threshold"]
    assert few["flagged"] < many["flagged"]
    write("far.csv", *(f"{x},{-x}" for x in range(500, 520)))
    assert flowgmm("predict", "--data", "far.csv", "--score", "input_knn", "--json").json["flagged"] == 20


# --- rows that cannot be scored ---------------------------------------------------------------------------


def test_a_bad_row_keeps_its_place_and_is_counted(flowgmm: Any, run: Path) -> None:
    write("bad.csv", "1,2", "3", "wide,2", "4,5,6", "2,1")
    outcome = flowgmm("predict", "--data", "bad.csv", "--save", "out.csv", "--quiet")
    rows = read_rows("out.csv")
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5"]
    for row in rows[1:4]:
        assert set(row.values()) == {row["id"], ""}
    for row in (rows[0], rows[4]):
        assert "" not in row.values()
    assert "warning: 3 of the 5 rows of bad.csv could not be scored" in outcome.err
    for line in ("line 3: 1 cell, but the header has 2", "line 4: ", "line 5: 3 cells"):
        assert line in outcome.err
    value = flowgmm("predict", "--data", "bad.csv", "--json").json
    assert (value["n"], value["unscorable"], len(value["reasons"])) == (5, 3, 3)
    assert sum(value["classes"].values()) == 2


def test_a_bad_row_can_end_it(flowgmm: Any, run: Path) -> None:
    write("bad.csv", "1,2", "3", "2,1")
    Path("out.csv").write_text("old", encoding="utf-8")
    outcome = flowgmm("predict", "--data", "bad.csv", "--save", "out.csv", "--on-error", "fail", code=5)
    assert "bad.csv:3: 1 cell" in outcome.err
    assert Path("out.csv").read_text(encoding="utf-8") == "old"
    assert not list(Path().glob(".out*"))
    write("bad.csv", "a,b", "c,d")
    outcome = flowgmm("predict", "--data", "bad.csv", "--save", "out.csv", code=5)
    assert "none of the 2 rows of bad.csv could be scored" in outcome.err
    assert len(read_rows("out.csv")) == 2


# --- rows unlike those of training ------------------------------------------------------------------------


def test_rows_in_other_units_are_warned_of(flowgmm: Any, run: Path) -> None:
    head, *rows = Path("t.csv").read_text(encoding="utf-8").splitlines()
    new = [",".join([*map(str, 1000 * np.array(row.split(",")[:2], float)), ""]) for row in rows]
    write("new.csv", *new, header=head)
    known = ("predict", "--data", "t.csv", "--save", "o.csv")
    assert "warning" not in flowgmm(*known).err
    outcome = flowgmm("predict", "--data", "new.csv", "--json", "-q")
    flagged, units = json.loads(outcome.out)["warnings"]
    assert flagged.items() >= {"kind": "flagged", "flagged": 60, "rows": 60, "usual_share": 0.05}.items()
    assert {column["column"] for column in units["columns"]} == {"x1", "x2"}
    assert f"warning: {flagged['text']}\nwarning: {units['text']}" in outcome.err
    embedded = flowgmm("embed", "--data", "new.csv", "--json", "-q")
    assert json.loads(embedded.out)["warnings"] == [units]
    compared = flowgmm("ood", "--in", "new.csv", "--out", "new.csv", "--json", "-q")
    kinds = [(found["side"], found["kind"]) for found in json.loads(compared.out)["warnings"]]
    assert kinds == [("in", "flagged"), ("in", "range"), ("out", "range")]  # rows of --out are to be flagged


# --- usage ------------------------------------------------------------------------------------------------


def test_the_data_of_the_run_may_be_gone(flowgmm: Any, run: Path) -> None:
    Path("new.csv").write_text(Path("t.csv").read_text(encoding="utf-8"), encoding="utf-8")
    Path("t.csv").unlink()
    flowgmm("predict", "--data", "new.csv")
    outcome = flowgmm("predict", code=5)
    assert "predict without --data needs the data of the run" in outcome.err
    write("t2.csv", "1,2", header="x1,X_2")
    assert "`x2`" in flowgmm("predict", "--data", "t2.csv", code=5).err


# --- pipes and signals ------------------------------------------------------------------------------------


def test_a_pipe_that_is_closed_early_is_no_failure(run: Path) -> None:
    write("many.csv", *("1.5,2.5" for _ in range(60_000)))
    line = "cat many.csv | flowgmm predict --data - --save - --quiet | head -3; echo ${PIPESTATUS[@]} >&2"
    done = shell(line)
    assert done.out.splitlines()[0] == ",".join(COLUMNS)
    assert len(done.out.splitlines()) == 3
    cat, predict, head = done.err.split()  # and nothing else
    assert (predict, head) == ("0", "0")
    assert cat in ("0", "141")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_middle_leaves_no_file(run: Path, start_python: Any, number: int) -> None:
    os.mkfifo("rows.csv")
    process = start_python(MAIN, "predict", "--data", "rows.csv", "--save", "out.csv", "--quiet")
    with Path("rows.csv").open("w", encoding="utf-8") as pipe:
        pipe.write("x1,x2\n" + "1,2\n" * 1_200_000)
        pipe.flush()
        for _ in range(600):
            if list(Path().glob(".out.csv.*")):
                break
            time.sleep(0.1)
        assert list(Path().glob(".out.csv.*"))
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert not list(Path().glob(".out.csv.*"))
    assert not Path("out.csv").exists()
    assert "Traceback" not in err


def test_why_adds_reasons_of_each_row(flowgmm: Any, run: Path) -> None:
    write("odd.csv", "0.5,0.2", "40,3", "x,1")
    outcome = flowgmm("predict", str(run), "odd.csv", "--why", "--only", "id,why,why_ood,nearest,change")
    first, far, empty = outcome.rows
    assert far["why_ood"].startswith("x1 40 (+")
    assert re.fullmatch(r"(x[12] -?[\d.e-]+ \(\+[\d.]+\)(, )?)*", first["why"])
    assert re.fullmatch(r"(x[12] \S+ -> \S+(, |: ))+(no|yes)", first["change"])
    assert first["nearest"]
    assert empty == {"id": "3"} | dict.fromkeys(["why", "why_ood", "nearest", "change"], "")
    value = flowgmm("predict", str(run), "odd.csv", "--why", "--json").json["why"]
    assert [row["id"] for row in value] == ["1", "2", "3"]
    assert value[1]["why_ood"][0]["name"] == "x1"
    assert value[1]["why_ood"][0]["effect"] > 1
    assert {entry["name"] for entry in value[0]["change"]["columns"]} <= {"x1", "x2"}
    assert (value[2]["why"], value[2]["change"]) == ([], None)
    assert "why" not in flowgmm("predict", str(run), "odd.csv", "--json").json
    lines = flowgmm("predict", str(run), "odd.csv", "--why", "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["why_ood"] for line in lines] == [row["why_ood"] for row in value]
