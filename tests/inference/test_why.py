"""Reasons of predictions against replaced cells and left-out words, and changes to another class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli import load
from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference import why
from flowgmm_cli.inference.change import Changer
from flowgmm_cli.inference.why import Explainer
from flowgmm_cli.trained_model import TrainedModel

CONTEXT = DataContext()


def measure(trained: TrainedModel, rows: Rows) -> tuple[Any, Any]:
    """Calibrated log-densities of the classes, and of the flow's inputs, of whole rows."""
    latents = trained.model(trained.preprocessor.apply(rows, CONTEXT).x)
    log_joint = latents.class_log_prob.double() / trained.model.temperature
    return log_joint.detach().numpy(), latents.log_prob().double().detach().numpy()


def with_cells(rows: Rows, name: str, cells: Any) -> Rows:
    return replace(rows, columns={**rows.columns, name: cells})


def explain_all(trained: TrainedModel, train: Rows, rows: Rows) -> Any:
    return Explainer(trained, train, CONTEXT).explain(rows, np.ones(len(rows), dtype=bool))


@pytest.fixture
def mixed(make_trained: Any, tmp_path: Path) -> tuple[TrainedModel, Rows]:
    """A model of a number, a category and a text, and its rows."""
    rng, lines = np.random.default_rng(0), ["size,colour,body,kind"]
    words = np.array(["red", "green", "blue", "alpha", "beta", "gamma", "delta"])
    for row in range(80):
        text = " ".join(rng.choice(words[3:], 5))
        lines.append(f"{rng.normal():.3f},{words[row % 4 % 3]},{text},{'ab'[row % 2]}")
    path = tmp_path / "mixed.csv"
    path.write_text("\n".join(lines) + "\n")
    settings = [f"data.path={path}", "data.label=kind", "data.text=body", "data.split.test=0"]
    encoder = "data.encoder={use: tfidf_svd, dim: 4}"
    trained = make_trained("data={use: csv}", *settings, encoder, "data.features=[size, colour]")
    return trained, load_rows(trained.recipe.data, CONTEXT).train


def test_effects_are_those_of_replaced_cells_and_left_out_words(mixed: Any) -> None:
    trained, train = mixed
    rows = train.take(np.arange(16))
    log_joint, density = measure(trained, rows)
    result = explain_all(trained, train, rows)
    typical = {"size": np.quantile(train.columns["size"], 0.5, method="nearest"), "colour": "red"}
    for place in range(16):
        first, second = np.argsort(-log_joint[place])[:2]
        odds = log_joint[place, first] - log_joint[place, second]
        for reasons, sign in ((result.why[place], 1), (result.why_ood[place], 0)):
            assert [reason.effect for reason in reasons] == sorted(
                (reason.effect for reason in reasons), reverse=True
            )
            for reason in reasons:
                if reason.name.startswith("'"):
                    word = reason.name.strip("'")
                    text = " ".join(part for part in rows.columns["body"][place].split() if part != word)
                    name, cell = "body", text
                else:
                    name, cell = reason.name, typical[reason.name] if sign else reason.usual
                    cell = float(cell) if name == "size" and not sign else cell
                cells = rows.columns[name].copy()
                cells[place] = cell
                new, new_density = measure(trained, with_cells(rows, name, cells))
                effect = odds - (new[place, first] - new[place, second])
                if not sign:
                    effect = new_density[place] - density[place]
                if sign or name == "body":
                    assert reason.effect == pytest.approx(effect, abs=1e-3)
                else:  # the density is the mean of six, of which `usual` is the largest; it has four digits
                    assert -2e-2 <= effect - reason.effect <= np.log(6) + 2e-2
    names = {reason.name for row in (*result.why, *result.why_ood) for reason in row}
    assert {"size", "colour"} <= names
    assert any(name.startswith("'") for name in names)
    assert set(result.nearest) <= set(train.ids)
    assert result.changes is None


def test_a_cell_far_from_all_others_is_the_first_reason(shared_run: Any) -> None:
    run, result = shared_run()
    trained = result.trained
    train = load_rows(trained.recipe.data, CONTEXT).train
    rows = train.take(np.arange(10))
    cells = rows.columns["x1"].copy()
    cells[:] = 9.0
    explanation = explain_all(trained, train, with_cells(rows, "x1", cells))
    for reasons in explanation.why_ood:
        assert (reasons[0].name, reasons[0].value) == ("x1", "9")
        assert reasons[0].effect > 10
        assert float(reasons[0].usual) < 3
    assert "x1 9 (+" in explanation.table()["why_ood"][0]
    typed = load(run.path).explain({name: rows.columns[name] for name in ("x1", "x2")})
    assert typed.table()["why"].tolist() == explain_all(trained, train, rows).table()["why"].tolist()


def test_gradients_select_the_cells_of_wide_rows(shared_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = shared_run()[1].trained
    train = load_rows(trained.recipe.data, CONTEXT).train
    rows = with_cells(train.take(np.arange(4)), "x2", np.full(4, 9.0))
    whole = explain_all(trained, train, rows)
    monkeypatch.setattr(why, "_MOST_CELLS", 1)
    monkeypatch.setattr(Explainer, "_choose_cells", lambda self, features, base: choose(self, features, base))
    chosen = []
    original = Explainer._gradients

    def choose(explainer: Explainer, features: Any, base: Any) -> Any:
        gradients = original(explainer, features, base[2])
        leaf = torch.from_numpy(features[:1]).requires_grad_()
        x, _ = trained.preprocessor.transforms(leaf)
        trained.model(x.float()).log_prob().sum().backward()
        np.testing.assert_allclose(gradients[1][0], leaf.grad.numpy()[0], rtol=1e-4, atol=1e-5)
        chosen.append(len(features))
        mask = np.zeros((len(features), 2), dtype=bool)
        mask[:, 1] = True
        return mask

    some = explain_all(trained, train, rows)
    assert chosen == [4]
    assert [row[0].name for row in some.why_ood] == ["x2"] * 4
    assert some.why_ood[0][0] == whole.why_ood[0][0]


def test_changes_are_of_the_other_class_as_they_are_written(shared_run: Any) -> None:
    run, result = shared_run()
    train = load_rows(result.trained.recipe.data, CONTEXT).train
    rows = train.take(np.arange(40))
    changes = Changer(result.trained, CONTEXT).find(rows)
    table = {name: rows.columns[name].copy() for name in ("x1", "x2")}
    before = load(run.path).predict(table).prediction
    for place, change in enumerate(changes):
        assert change is not None
        assert change.class_name != before[place]
        text, _, name = change.describe().rpartition(": ")
        assert name == change.class_name
        for part in text.split(", "):
            column, _, after = part.partition(" ")
            table[column][place] = float(after.partition(" -> ")[2])
    after = load(run.path).predict(table).prediction
    assert after.tolist() == [change.class_name for change in changes]
    assert min(len(change.columns) for change in changes) == 1  # as few columns as possible


def test_images_have_no_reasons(make_trained: Any) -> None:
    trained = make_trained("data.name=digits", "data.n!", "data.test_n!")
    column = replace(trained.preprocessor.columns[0], kind="image")
    trained.preprocessor.columns = (column,)
    with pytest.raises(UsageError, match="this model reads images"):
        Explainer(trained, load_rows(trained.recipe.data, CONTEXT).train, CONTEXT)
