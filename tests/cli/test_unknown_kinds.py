"""Training on unlabelled rows that hold a kind without labels: from the recipe to predictions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
import torch
from sklearn.metrics import roc_auc_score

from flowgmm_cli import FlowGMMClassifier, load
from flowgmm_cli.api import DataContext
from flowgmm_cli.inference.flowgmm import FlowGMM
from flowgmm_cli.mixture.unknown_head import UnknownHead
from flowgmm_cli.model import Ensemble
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.report.card import model_card
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.page import Plot, Table
from flowgmm_cli.report.report import build_section
from flowgmm_cli.report.unknown import unknown_section
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import train

CENTRES = np.array([[-6.0, 0], [6, 0], [0, 10]])
QUICK = ["train.epochs=8", "train.batch_size=128", "flow.hidden=16", "run.deterministic=true"]


def draw(counts: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes and of a third kind, in random order."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat(np.arange(3), counts))
    return (CENTRES[kinds] + rng.standard_normal((len(kinds), 2))).astype(np.float32), kinds


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 labelled rows of two classes, others of these and of a third kind, and test rows of the classes."""
    path = tmp_path_factory.mktemp("unknown") / "rows.npz"
    x, kinds = draw([300, 300, 150], 0)
    labels = np.full(len(x), -1)
    for k in (0, 1):
        index = np.flatnonzero(kinds == k)[:20]
        labels[index] = k
    test, test_kinds = draw([100, 100, 0], 1)
    np.savez(path, train=x, train_label=labels, test=test, test_label=test_kinds)
    return path


def train_run(arrays: Path, folder: Path, *words: str) -> list[str]:
    """Train on the arrays; returns what training says."""
    loaded = load_recipe("csv", ["data.use=arrays", f"data.path={arrays}", "search=null", *QUICK, *words])
    lines: list[str] = []
    train(loaded, create_run(loaded, argv=[], directory=folder), callbacks=Callbacks(note=lines.append))
    return lines


@pytest.fixture(scope="module")
def trained(arrays: Path) -> tuple[FlowGMM, list[str]]:
    """The model of a run with `prior.unknown=auto`, and what training said."""
    lines = train_run(arrays, arrays.parent / "run", "prior.unknown=auto", "ensemble=2")
    return load(arrays.parent / "run"), lines


def test_training_says_how_many_rows_look_like_none_of_the_classes(
    trained: tuple[FlowGMM, list[str]],
) -> None:
    (line,) = [line for line in trained[1] if line.startswith("unknown ")]
    assert "% of the unlabelled rows look like none of your classes (" in line
    assert "flowgmm discover" in line
    facts = trained[0].trained.facts["unknown"]
    assert facts["share"] == pytest.approx(150 / 710, abs=0.1)
    assert facts["components"] == 1


def test_predictions_have_the_probability_of_an_unknown_kind(trained: tuple[FlowGMM, list[str]]) -> None:
    x, kinds = draw([100, 100, 100], 2)
    scores = trained[0].predict(x)
    columns = scores.table()
    assert list(columns)[-3:] == ["p_0", "p_1", "p_unknown"]
    total = columns["p_0"] + columns["p_1"] + columns["p_unknown"]
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert roc_auc_score(kinds == 2, columns["p_unknown"]) > 0.98
    assert (scores.classes == kinds)[kinds < 2].mean() > 0.97
    assert trained[0].predict_proba(x).shape == (300, 2)


def test_rows_of_unknown_kinds_are_out_of_distribution(trained: tuple[FlowGMM, list[str]]) -> None:
    x, kinds = draw([200, 200, 200], 3)
    result = trained[0].ood(x[kinds == 2], x[kinds < 2])
    assert result.default == "blend"
    assert result.metrics["blend"].auroc > 0.98
    assert result.metrics["unknown"].auroc > 0.98
    assert result.outside.flagged_share > 0.9
    far = trained[0].ood(x[kinds < 2] + [0, -12], x[kinds < 2])  # on the other side of the classes
    assert far.metrics["blend"].auroc > 0.98
    farther = trained[0].ood(x[kinds == 2] + [0, 25], x[kinds == 2])  # than rows of the unknown kind
    assert farther.metrics["blend"].auroc > 0.98
    blend = trained[0].trained.detector.blend
    assert blend is not None
    (whole,) = [family for family in blend.families if family.scores[0].endswith("_whole")]
    assert whole.weight == 0


def test_scores_are_fitted_to_rows_of_the_classes(trained: tuple[FlowGMM, list[str]], arrays: Path) -> None:
    rows = np.load(arrays)
    p = trained[0].predict(rows["train"]).p_unknown
    assert p is not None
    p[rows["train_label"] >= 0] = 0
    weights = np.where(p < 0.5, 1 - p, 0)
    facts = trained[0].trained.facts["ood"]
    assert facts["rows"] + facts["held_out_rows"] == pytest.approx(weights.sum(), abs=15)
    assert weights.sum() < 650 < len(p)


def test_the_command_line_writes_and_selects_the_column(
    trained: tuple[FlowGMM, list[str]], flowgmm: Any, tmp_path: Path
) -> None:
    run, out = str(trained[0].run.path), tmp_path / "out.csv"
    flowgmm("predict", run, "--save", str(out), "--only", "id,p_unknown")
    table = pyarrow.csv.read_csv(out)
    assert table.column_names == ["id", "p_unknown"]
    assert max(table["p_unknown"].to_pylist()) <= 1


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "--plots"],
        ["check"],
        ["sample", "--transfer", "all", "--save", "t.csv"],
        ["sample", "--means", "--save", "m.csv"],
        ["embed", "--map", "pca", "--save", "z.csv"],
        ["report"],
    ],
    ids=" ".join,
)
def test_other_commands_show_the_classes(
    trained: tuple[FlowGMM, list[str]], flowgmm: Any, tmp_path: Path, words: list[str]
) -> None:
    run = tmp_path / "copy"
    shutil.copytree(trained[0].run.path, run)
    outcome = flowgmm(words[0], str(run), *words[1:])
    assert "cannot be made" not in outcome.err


def test_results_have_the_share_and_the_probabilities_of_labelled_rows(
    trained: tuple[FlowGMM, list[str]], flowgmm: Any
) -> None:
    run = str(trained[0].run.path)
    values = flowgmm("eval", run, "--json").json
    assert values["unknown"]["low"] < 0.21 < values["unknown"]["high"] + 0.05
    assert values["unknown"]["mean_p_unknown"] < 0.1
    assert 0 <= values["unknown"]["share_above_half"] < 0.1
    outcome = flowgmm("eval", run)
    assert "% of the unlabelled rows look like none of your classes" in " ".join(outcome.out.split())
    info = flowgmm("runs", "show", run, "--json").json
    assert info["unknown"]["share"] == pytest.approx(values["unknown"]["share"])
    assert "unknown share" in flowgmm("runs", "show", run).out
    card = model_card(ReportContext(trained[0].run, DataContext()))
    assert "of the unlabelled rows look like none of your classes" in card


def test_the_report_has_a_section_on_unknown_kinds(trained: tuple[FlowGMM, list[str]]) -> None:
    context = ReportContext(trained[0].run, DataContext())
    section = build_section("unknown", "Unknown", unknown_section, context)
    assert not section.reason
    figure, table = section.parts[1:]
    assert isinstance(figure, Plot)
    assert isinstance(table, Table)
    assert [float(row[1]) > 0.5 for row in table.rows] == [True] * 10


def test_the_members_have_the_same_head(trained: tuple[FlowGMM, list[str]]) -> None:
    model = trained[0].trained.model
    heads = [part.head for part in model.parts]
    assert isinstance(model, Ensemble)
    assert isinstance(heads[0], UnknownHead)
    assert all(torch.equal(head.weight, heads[0].weight) for head in heads)
    x = torch.randn(5, 2)
    latents = model(x)
    assert torch.equal(latents.unknown_log_odds, heads[0](x))
    assert torch.equal(latents.rows(slice(1, 3)).unknown_log_odds, latents.unknown_log_odds[1:3])


def test_the_classes_are_trained_as_without_unknown_kinds(arrays: Path, tmp_path: Path) -> None:
    states = []
    for unknown in ("off", "2", "2"):
        folder = tmp_path / str(len(states))
        train_run(arrays, folder, f"prior.unknown={unknown}", "calibration.method=none")
        states.append(load(folder).trained.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert {name.split(".")[0] for name in set(states[1]) - set(states[0])} == {"head"}
    assert states[1]["head.bias"].shape == (4,)
    assert all(torch.equal(value, states[2][name]) for name, value in states[1].items())


@pytest.mark.parametrize("unknown", ["off", "auto"])
def test_the_classifier_tells_the_probability_of_an_unknown_kind(unknown: str) -> None:
    x, kinds = draw([150, 150, 100], 4)
    y = np.where(np.arange(len(x)) < 80, kinds, -1)
    y[y == 2] = -1
    model = FlowGMMClassifier(
        max_steps=60, hidden=16, calibrate=False, random_state=0, overrides={"prior.unknown": unknown}
    ).fit(x, y)
    assert model.unknown_share_ == pytest.approx(0.0 if unknown == "off" else 100 / 320, abs=0.1)
    p = model.predict_unknown(x)
    np.testing.assert_allclose(model.predict_proba(x).sum(1), 1, atol=1e-6)
    if unknown == "off":
        assert not p.any()
    else:
        assert roc_auc_score(kinds == 2, p) > 0.95
