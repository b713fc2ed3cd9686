"""`flowgmm ood`: its JSON contract, tables and files, and refused options."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, read_json, read_rows, save

METRICS = {"auroc", "aupr_in", "aupr_out", "fpr95"}


@pytest.fixture
def far(run: Path) -> str:
    """Forty rows far from the training rows, without labels."""
    draw = random.Random(0)
    rows = [["x1", "x2"], *([f"{draw.gauss(60, 1):.3f}", f"{draw.gauss(-60, 1):.3f}"] for _ in range(40))]
    return save("far.csv", rows)


def test_the_json_keeps_its_contract(flowgmm: Any, run: Path, far: str) -> None:
    value = flowgmm("ood", str(run), "--out", far, "--json").json
    assert (value["schema"], value["run"]) == ("flowgmm/ood/1", str(run))
    assert (value["n_in"], value["n_out"]) == (8, 40)
    assert value["default_score"] in value["scores"]
    for metrics in value["scores"].values():
        assert set(metrics) >= METRICS
        assert all(0 <= metrics[name] <= 1 for name in METRICS)
    assert {"entropy", "latent_knn", "input_knn", "nll", "combined"} <= set(value["scores"])
    assert value["scores"]["input_knn"]["auroc"] == 1
    assert 0 <= value["flagged_fraction"] <= 1
    kept = read_json(run / "ood" / "far.json")
    assert {name: item for name, item in kept.items() if name != "sample"} == value


def test_the_tables_name_the_default_and_the_convention(flowgmm: Any, run: Path, far: str) -> None:
    outcome = flowgmm("ood", "--out", far, "--score", "nll")
    lines = outcome.out.splitlines()
    assert lines[0] == f"{run}: 40 rows of far.csv against 8 of the run's test split"
    assert lines[2].split()[:2] == ["nll", "flags"]
    assert sum("default" in line for line in lines) == 1
    assert "higher = further out; the rows of --out are the positives" in outcome.err
    assert "rows a second" in outcome.err


def test_rows_are_written_in_order_with_flags(flowgmm: Any, run: Path, far: str) -> None:
    flowgmm("ood", "--out", far, "--score", "input_knn", "--save", "s.csv", "--all-scores")
    rows = read_rows("s.csv")
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 41)]
    assert list(rows[0])[:4] == ["id", "ood_score", "percentile", "is_ood"]
    assert {"nll", "entropy", "latent_knn"} <= set(rows[0])
    assert {row["is_ood"] for row in rows} == {"true"}
    assert {float(row["percentile"]) for row in rows} == {1.0}


def test_rows_that_cannot_be_scored_keep_their_place_with_empty_cells(flowgmm: Any, run: Path) -> None:
    save("y.csv", [["x1", "x2"], ["1", "2"], ["oops", "3"], ["2", "1"]])
    outcome = flowgmm("ood", "--out", "y.csv", "--save", "s.csv")
    lines = Path("s.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    assert set(lines[2].split(",")[1:]) == {""}
    assert "1 of the 3 rows of y.csv could not be scored" in outcome.err
    flowgmm("ood", "--out", "y.csv", "--on-error", "fail", code=5)
    save("none.csv", [["x1", "x2"], ["oops", "3"]])
    flowgmm("ood", "--out", "none.csv", code=5)


def test_both_sides_can_be_named_and_a_figure_is_drawn(flowgmm: Any, run: Path, far: str) -> None:
    save("near.csv", numbers(50, seed=3))
    outcome = flowgmm("ood", "--in", "near.csv", "--out", far, "--plot", "h.png", "--json")
    assert outcome.json["n_in"] == 50
    assert Path("h.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "ood" / "far-against-near.json").is_file()
    assert "written h.png" in outcome.err
    outcome = flowgmm("ood", "--out", f"{{use: csv, path: {far}, label: label}}", "--json")
    assert outcome.json["n_out"] == 40
    assert (run / "ood" / "csv_path_far.csv_label_label.json").is_file()


def test_fpr_moves_the_threshold(flowgmm: Any, run: Path) -> None:
    save("near.csv", numbers(200, seed=4))
    words = ["ood", "--out", "near.csv", "--score", "input_knn", "--json", "--fpr"]
    strict, lenient = (flowgmm(*words, fpr).json for fpr in ("0.01", "0.6"))
    assert strict["threshold"] > lenient["threshold"]
    assert strict["flagged_fraction"] < lenient["flagged_fraction"]
    assert (strict["fpr"], lenient["fpr"]) == (0.01, 0.6)
    assert list(flowgmm(*words, "0.01", "--alone").json["scores"]) == ["input_knn"]


def test_a_gate_that_is_not_met_ends_with_7(flowgmm: Any, run: Path, far: str) -> None:
    words = ["ood", "--out", far, "--score", "input_knn", "--quiet"]
    flowgmm(*words, "--fail-under", "auroc=0.99")
    outcome = flowgmm(*words, "--in", far, "--fail-under", "auroc=0.9", code=7)
    assert "auroc of input_knn 0.5000 is below 0.9" in outcome.err


def test_rows_come_and_go_through_pipes(
    flowgmm: Any, run: Path, far: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(far).open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        outcome = flowgmm("ood", "--out", "-", "--save", "-", "--quiet")
    assert outcome.err == ""
    assert list(outcome.rows[0]) == ["id", "ood_score", "percentile", "is_ood"]
    assert len(outcome.rows) == 40
    assert (run / "ood" / "stdin.json").is_file()


@pytest.mark.usefixtures("digits_run")
def test_images_are_shown_by_score(flowgmm: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 17, (30, 8, 8)).astype(float)
    pixels[3] = np.nan
    np.savez("noise.npz", pixels=pixels)
    flowgmm("ood", "--out", "noise.npz", "--gallery", "g.png", "--save", "s.csv")
    assert Path("g.png").read_bytes().startswith(b"\x89PNG")
    assert [row["ood_score"] == "" for row in read_rows("s.csv")] == [row == 3 for row in range(30)]
