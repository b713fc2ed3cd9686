"""`flowgmm export`: the folder, its check, and the cases in which it writes none."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from own_files import Outcome
from torch import Tensor

from flowgmm_cli import load
from flowgmm_cli.cli.export import select_score
from flowgmm_cli.data.specs import DequantiseConfig
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.data.transforms.elementwise import Dequantise
from flowgmm_cli.errors import PluginError
from flowgmm_cli.export import folder as folders
from flowgmm_cli.export import graph

Flowgmm = Callable[..., Outcome]


def test_a_model_becomes_a_folder(flowgmm: Flowgmm, digits_run: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the export needs the package onnxruntime")
    pytest.importorskip("onnxscript", reason="the export needs the package onnxscript")
    done = flowgmm("export", "--save", "new/model", "--score", "latent_knn", "--json")
    answer = json.loads(done.out)
    assert answer["schema"] == "flowgmm/export/1"
    assert sorted(answer["files"]) == sorted(path.name for path in Path("new/model").iterdir())
    assert list(Path("new").iterdir()) == [Path("new/model")]
    assert "Warning" not in done.err
    values = json.loads(Path("new/model/model.json").read_text(encoding="utf-8"))
    assert values["class_names"] == list("0123456789")
    model = load(digits_run)
    pixels = np.random.default_rng(0).uniform(0, 1, (1500, 8, 8))
    expected = model.predict(pixels, score="latent_knn")
    actual = graph.run_graph(Path("new/model/model.onnx"), pixels.reshape(-1, 64))
    np.testing.assert_allclose(actual["probabilities"], expected.probabilities, rtol=0, atol=1e-5)
    np.testing.assert_allclose(actual["log_density"], expected.log_density, rtol=1e-5)
    np.testing.assert_allclose(actual["latents"], model.embed(pixels), atol=1e-4)
    assert ((actual["ood_score"] > values["threshold"]) == expected.is_ood).all()
    assert "exists already" in flowgmm("export", "--save", "new/model", code=2).err


def test_a_few_large_roundings_do_not_raise_the_threshold() -> None:
    scores = np.linspace(0, 10, 401)
    others = scores + 1e-5
    others[200] += 0.5
    assert folders.rounding_near(5.01, scores, others) == pytest.approx(4e-5)
    assert folders.rounding_near(float(scores[200]), scores, others) == pytest.approx(2 * 0.50001)


@pytest.fixture
def _without_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("digits_run", "_without_onnx")
def test_a_missing_extra_is_named(flowgmm: Flowgmm) -> None:
    error = flowgmm("export", "--save", "model", code=4).err
    assert "needs the package onnxruntime" in error
    assert "pip install 'flowgmm-cli[onnx]'" in error


@pytest.fixture
def _with_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for packages that are imported, but not used before an error."""
    for name in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.mark.usefixtures("digits_run", "_with_onnx")
def test_results_that_differ_leave_no_folder(flowgmm: Flowgmm, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = folders.Comparison(rows=10, probability=0.2, differing=3, threshold=1.0)
    monkeypatch.setattr(folders, "write_graph", lambda *_: None)
    monkeypatch.setattr(folders, "compare", lambda *_: compared)
    error = flowgmm("export", "--save", "new/model", code=1).err
    assert "in 3 of 10 rows, in probabilities by up to 0.2" in error
    assert not Path("new").exists()


class Solver(torch.nn.Module):
    """A flow whose steps depend on the rows."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        while x.abs().max() > 4:
            x = x / 2
        return x, torch.zeros(len(x))


def test_a_flow_with_a_solver_is_refused(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load(digits_run).trained
    trained.model.parts[0].flow = Solver()
    monkeypatch.setattr(graph, "provenance", lambda component: {"package": "flowgmm-solver"})
    with pytest.raises(PluginError, match="of flowgmm-solver cannot be exported: it computes") as error:
        graph.write_graph(trained, lambda rows: rows.log_density, tmp_path / "model.onnx")
    assert "flow.use=realnvp" in str(error.value.hint)
    assert not (tmp_path / "model.onnx").exists()
    assert capsys.readouterr().err == ""


def test_log_density_replaces_a_default_score_that_cannot_be_exported(
    digits_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = load(digits_run).trained
    detector = trained.require_detector()
    trained = replace(trained, detector=detector.with_default("density_of_states"))
    rule, operation = select_score(trained, None, None)
    assert (rule.score, rule.threshold) == ("nll", detector.threshold("nll"))
    assert "`density_of_states` cannot be exported; ood_score is -log p(x)" in capsys.readouterr().err
    rows = trained.encode_rows(Tensors(torch.zeros(2, trained.preprocessor.dim), log_det=torch.zeros(2)))
    assert torch.equal(operation(rows), -rows.log_density)


@pytest.mark.usefixtures("digits_run", "_with_onnx")
def test_mistakes_are_named(flowgmm: Flowgmm) -> None:
    assert "--save FOLDER" in flowgmm("export", code=2).err
    assert "no score `entropi`" in flowgmm("export", "--save", "m", "--score", "entropi", code=2).err
    named = flowgmm("export", "--save", "m", "--score", "density_of_states", code=2).err
    assert "the score `density_of_states` cannot be exported" in named
    assert not Path("m").exists()
    trained = load().trained
    trained.preprocessor.transforms.layers.append(Dequantise(DequantiseConfig(), features=8))
    with pytest.raises(PluginError, match="whole numbers cannot be exported"):
        folders.Inputs.from_model(trained)
    with pytest.raises(PluginError, match="column `title` cannot be exported: its encoder, object"):
        folders.Inputs().describe_texts(object(), "title")


def test_an_unknown_format_is_answered_in_plain_words(flowgmm: Flowgmm) -> None:
    message = flowgmm("export", "--to", "onxx", code=2).err
    assert "'onxx' is not one of 'onnx'" in message
    assert "Value error" not in message
