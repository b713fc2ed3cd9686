"""A loaded run has the verbs of the command line, with the same answers."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from flowgmm_cli import FlowGMM, load
from flowgmm_cli.errors import DataError, RunError, UsageError
from flowgmm_cli.files import read_json
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.pipeline import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on three columns of a table, of which `t.csv` keeps all rows."""
    folder = tmp_path_factory.mktemp("loaded")
    rng = np.random.default_rng(0)
    classes = np.array(["ash", "yew"])[np.arange(160) % 2]
    lines = ["width,height,colour,kind"]
    for row, name in enumerate(classes):
        width, height = rng.normal(3 * (name == "ash"), 1, 2)
        label = name if row < 120 else ""
        lines.append(f"{width:.3f},{height:.3f},{['red', 'blue'][rng.integers(2)]},{label}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    words = [f"data.path={folder / 't.csv'}", "data.label=kind", "train.epochs=30", "search=null"]
    words += ["flow.hidden=8", "flow.couplings=2", "calibration.folds=2"]
    words += ["ood.scores=[{use: nll}, {use: latent_knn}]"]
    recipe = load_recipe("csv", words)
    train(recipe, create_run(recipe, argv=["train"], directory=folder / "runs" / "csv" / "first"))
    return folder


@pytest.fixture
def model(folder: Path) -> FlowGMM:
    return load(folder / "runs" / "csv" / "latest")


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("FLOWGMM_RUN", raising=False)


ROWS = {
    "width": [3.0, 0.0, None, 9.0],
    "height": [3.0, 0.0, 1.0, 9.0],
    "colour": ["red", "blue", "red", None],
}


def test_latest_is_the_newest_run_as_on_the_command_line(here: None) -> None:
    for found in (load(), load("runs/latest"), load(Path("runs/csv/first"))):
        assert found.run.path.name == "first"
        assert found.class_names == ("ash", "yew")
        assert repr(found) == f"FlowGMM({str(found.run.path)!r}, classes=['ash', 'yew'])"
    with pytest.raises(RunError):
        load("nowhere")


def test_predictions_have_names_and_flags(model: FlowGMM) -> None:
    found = model.predict(ROWS)
    assert len(found) == 4
    assert found.prediction.tolist()[:2] == ["ash", "yew"]
    assert found.ids.tolist() == ["1", "2", "3", "4"]
    assert np.allclose(found.probabilities.sum(1), 1)
    assert np.array_equal(found.confidence, found.probabilities.max(1))
    assert np.array_equal(model.predict_proba(ROWS), found.probabilities)
    rule = model.ood_rule()
    assert found.ood_score is not None
    assert np.array_equal(found.is_ood, found.ood_score > rule.threshold)
    assert sorted(model.scores) == ["latent_knn", "nll"]
    assert rule.score == model.scores[0]
    other = model.predict(ROWS, score=model.scores[1], fpr=0.2)
    assert other.ood_score is not None
    assert not np.array_equal(other.ood_score, found.ood_score)
    assert model.ood_rule(fpr=0.5).threshold <= rule.threshold


def test_results_are_tables_of_rows(model: FlowGMM) -> None:
    given = {**ROWS, "width": [3.0, "wide", 0.0, 9.0]}
    found = model.predict(given)
    rows = list(found)
    assert len(rows) == len(found) == 4
    assert list(rows[0]) == ["id", "prediction", "confidence", "ood_score", "is_ood", "p_ash", "p_yew"]
    assert rows[1] == {**dict.fromkeys(rows[1]), "id": "2"}  # cannot be scored
    assert list(found.problems) == [1]
    assert np.isnan(found.probabilities[1]).all()
    with pytest.raises(DataError, match="wide"):
        model.predict(given, on_error="fail")
    assert [row["prediction"] for row in rows] == found.prediction.tolist()
    for frame in (found.to_pandas(), pd.DataFrame(found), pa.table(found).to_pandas()):
        assert list(frame) == list(rows[0])
        assert frame["confidence"][0] == rows[0]["confidence"]
        assert frame["is_ood"].isna().tolist() == [False, True, False, False]
    assert repr(found).startswith("<Scores: 4 rows of id, prediction")
    samples = model.sample(3, class_name="yew")
    assert [row["class"] for row in samples] == ["yew"] * 3
    assert {"width", "height", "colour"} <= set(samples.to_pandas())
    table = model.ood(ROWS).to_pandas()
    assert sorted(table["score"]) == sorted(model.scores)
    assert table["flags"].tolist() == [True, False]
    assert (table["auroc_low"] <= table["auroc"]).all()


def test_notebooks_show_results_and_models_with_escaped_names(model: FlowGMM) -> None:
    rows = model.predict(ROWS)
    assert rows._repr_html_().startswith("<table><caption>4 rows and 7 columns</caption>")
    escaped = replace(rows, class_names=("<script>", "b&c"))._repr_html_()
    assert "&lt;script&gt;" in escaped
    assert "b&amp;c" in escaped
    assert "<script>" not in escaped
    many = model.predict({name: cells * 5 for name, cells in ROWS.items()})
    assert "20 rows and 7 columns, of which 10 and 7 are shown" in many._repr_html_()
    page = model._repr_html_()
    assert str(model.run.path) in page
    assert "ash, yew" in page
    assert "width, height, colour" in page


def test_a_model_is_pickled_as_its_path(model: FlowGMM) -> None:
    stored = pickle.dumps(model)
    assert len(stored) < 1000
    again = pickle.loads(stored)
    assert np.array_equal(again.predict_proba(ROWS), model.predict_proba(ROWS))


def test_the_default_rows_are_the_held_out_rows(model: FlowGMM) -> None:
    evaluation = model.evaluate()
    saved = read_json(model.run.path / "eval" / "test.json", "eval")["metrics"]
    assert evaluation.split == "test"
    assert evaluation.metrics() == pytest.approx(saved, abs=1e-5)
    assert len(model.predict()) == saved_rows(model)


def saved_rows(model: FlowGMM) -> int:
    return int(model.run.info()["rows"]["test"])


def test_rows_of_a_file_can_be_evaluated(model: FlowGMM, folder: Path) -> None:
    # the others were trained on
    assert model.evaluate(folder / "t.csv").classification.n == saved_rows(model)
    with pytest.raises(DataError, match="no row has a label"):
        model.evaluate(ROWS)
    with pytest.raises(DataError, match="no label is a class of the model, such as `elm`"):
        model.evaluate({**ROWS, "kind": ["elm", None, "elm", "oak"]})


def test_labels_of_other_classes_count_as_wrong_in_an_evaluation(model: FlowGMM) -> None:
    labels = ["ash", "elm", "oak", "yew"]
    rows = model.predict(ROWS)
    found = model.evaluate({**ROWS, "kind": labels}).classification
    assert [row.name for row in found.per_class] == ["ash", "yew", "elm", "oak"]
    predicted = rows.prediction.tolist()
    assert found.accuracy == accuracy_score(labels, predicted)
    assert found.balanced_accuracy == recall_score(labels, predicted, average="macro", zero_division=0)
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    assert sum(found.confusion[2]) == sum(found.confusion[3]) == 1
    known = rows.probabilities[[0, 3], [0, 1]]
    assert found.nll == pytest.approx(-np.log(known).mean())
    assert found.n == 4


def test_embeddings(model: FlowGMM) -> None:
    dim = model.trained.preprocessor.dim
    z = model.embed(ROWS)
    assert z.shape == (4, dim)
    assert z.dtype == np.float32
    x = model.embed(ROWS, space="input")
    assert x.shape == (4, dim)
    assert not np.allclose(x, z)
    assert model.embed(map="pca").shape == (saved_rows(model), 2)
    with pytest.raises(UsageError):
        model.embed(ROWS, space="pixel")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        model.embed(ROWS, map="lda")  # type: ignore[arg-type]


def test_samples_are_of_their_class(model: FlowGMM) -> None:
    made = model.sample(20, class_name="yew", temperature=0.2, seed=1)
    assert len(made) == 20
    found = model.predict({name: made.table()[name] for name in ("width", "height", "colour")})
    assert (found.prediction == "yew").mean() >= 0.9
    again = model.sample(20, class_name="yew", temperature=0.2, seed=1)
    assert np.array_equal(made.log_density, again.log_density)


def test_check_returns_a_report(model: FlowGMM) -> None:
    report = model.check(at_most=4)
    assert report.verdict != "failed"
    assert report.rows == saved_rows(model)


@pytest.mark.slow
def test_report_writes_a_page(model: FlowGMM, tmp_path: Path) -> None:
    page = model.report(tmp_path / "r.html")
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")


def test_rows_unlike_those_of_training_are_warned_of(folder: Path, here: None) -> None:
    notes: list[str] = []
    model = load(note=notes.append)
    rows = {"width": np.arange(20) * 1e3, "height": np.arange(20) / 10, "colour": ["red", "blue"] * 10}
    result = model.predict({**rows, "taste": ["sweet"] * 20})
    assert [warning.kind for warning in result.warnings] == ["flagged", "range"]
    assert "taste" in notes[0]
    assert [f"warning: {warning.text}" for warning in result.warnings] == notes[1:]
    notes.clear()
    assert model.predict("t.csv").warnings == ()
    few = {"width": [3.0] * 20, "height": [3.0] * 20, "colour": ["red"] * 19 + ["green"]}
    assert model.predict(few).warnings == ()
    few["colour"] = ["red"] * 9 + ["green"] * 11
    (warning,) = model.predict(few).warnings
    expected = {"kind": "categories", "column": "colour", "cells": 11, "rows": 20}
    assert warning.to_dict().items() >= expected.items()
    assert notes == [  # a few such cells are a note
        "`colour`: 1 of 20 cells hold a category that training never saw, such as `green`",
        "warning: `colour`: 11 of 20 cells hold a category that training never saw, such as `green`",
    ]
    model.predict({"width": [3.0, np.inf, -np.inf], "height": [3.0] * 3, "colour": ["red"] * 3})
    assert notes[2:] == ["`width`: 2 of 3 cells are infinite and count as missing"]
