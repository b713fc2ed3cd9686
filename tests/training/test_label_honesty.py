"""No label is read that must not be seen; a run goes on with the same rows only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.errors import RunError
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.pipeline import TrainResult, train
from flowgmm_cli.training.trainer import Trainer


class Table:
    """Rows as CSV files, with a column that marks 12 labelled rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(260, 2))
        self.labels = np.where(self.x[:, 0] + 0.3 * rng.normal(size=260) > 0, "right", "left").astype(object)
        self.known = np.zeros(260, dtype=bool)
        for name in ("left", "right"):
            self.known[np.flatnonzero(self.labels[:200] == name)[:6]] = True

    def write(self) -> None:
        cells = zip(self.x.tolist(), self.labels, self.known, strict=True)
        lines = [f"{a!r},{b!r},{label},{int(known)}" for (a, b), label, known in cells]
        for name, rows in (("train", lines[:200]), ("test", lines[200:])):
            (self.folder / f"{name}.csv").write_text("\n".join(["a,b,label,known", *rows]) + "\n")

    def train(self, name: str) -> tuple[Run, TrainResult]:
        self.write()
        file = self.folder / "table.yaml"
        file.write_text(
            "version: 1\n"
            f"data: {{use: csv, path: {self.folder}/train.csv, test_path: {self.folder}/test.csv, "
            "label: label, labels: {column: known}, split: {val: 0.1}}\n"
            "flow: {use: realnvp, couplings: 2, hidden: 8, depth: 1}\n"
            "train: {epochs: 3, batch_size: 60, precision: fp32, early_stopping: {patience: 5}}\n"
            "prior: {use: gmm, means: logistic_regression, class_prior: estimated}\n"
            "calibration: {folds: 2}\nrun: {device: cpu}\n"
        )
        recipe = load_recipe(str(file))
        run = create_run(recipe, argv=[], directory=self.folder / name)
        return run, train(recipe, run)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, TrainResult]:
    return Table(tmp_path_factory.mktemp("data")).train("honest")


def weights(run: Run) -> bytes:
    return (run.path / "model.safetensors").read_bytes()


def test_hidden_labels_of_training_rows_change_nothing_at_all(honest: Any, tmp_path: Path) -> None:
    table = Table(tmp_path)
    hidden = ~table.known
    hidden[200:] = False
    table.labels[hidden] = np.random.default_rng(1).choice(["left", "right", ""], hidden.sum())
    run, result = table.train("other")
    assert weights(honest[0]) == weights(run)
    assert result.calibration.method == "cross_fit"
    assert honest[1].test.metrics() == result.test.metrics()
    assert honest[0].info()["fingerprint"] == run.info()["fingerprint"]


def test_test_labels_change_nothing_but_the_test_metrics(honest: Any, tmp_path: Path) -> None:
    table = Table(tmp_path)
    swap = {"left": "right", "right": "left"}
    table.labels[200:] = [swap[label] for label in table.labels[200:]]
    run, result = table.train("other")
    assert weights(honest[0]) == weights(run)
    first = honest[1].test
    assert first.classification.accuracy == pytest.approx(1 - result.test.classification.accuracy)
    assert first.density_nll == result.test.density_nll
    for key in ("best", "calibration"):
        assert honest[0].info()[key] == run.info()[key]


def test_visible_labels_do_change_the_model(honest: Any, tmp_path: Path) -> None:
    table = Table(tmp_path)
    first = np.flatnonzero(table.known)[0]
    table.labels[first] = {"left": "right", "right": "left"}[str(table.labels[first])]
    assert weights(honest[0]) != weights(table.train("other")[0])


def test_a_fold_is_trained_without_the_labels_it_is_asked_for(
    train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[Any, Any]] = []
    fit = Trainer.fit

    def spy(self: Trainer) -> Any:
        shown.append((self.rows, self.recipe.train.epochs))
        assert (self.last_path is None) == (len(shown) > 1)
        assert (self.validator is None) == (len(shown) > 1)
        return fit(self)

    def labelled(rows: Tensors) -> set[int]:
        return set((rows.labels >= 0).nonzero().flatten().tolist())

    monkeypatch.setattr(Trainer, "fit", spy)
    train_run("run", "calibration.folds=3", "calibration.epochs=0.5")
    assert [epochs for _, epochs in shown] == [4, 2, 2, 2]
    whole, *folds = [rows for rows, _ in shown]
    all_labelled = labelled(whole)
    assert len(all_labelled) == 12
    hidden: list[int] = []
    for rows in folds:
        seen = labelled(rows)
        out = all_labelled - seen
        hidden += sorted(out)
        assert (rows.labels[sorted(out)] == -1).all()
        assert set(rows.labels[sorted(seen)].tolist()) == {0, 1}
        assert torch.equal(rows.x, whole.x)
    assert sorted(hidden) == sorted(all_labelled)


def test_data_that_has_changed_cannot_be_resumed(tmp_path: Path) -> None:
    table = Table(tmp_path)
    run, _ = table.train("run")
    table.x[3] += 1
    table.write()
    with pytest.raises(RunError, match="data has changed"):
        train(run.recipe(), run)
