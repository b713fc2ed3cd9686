"""`benchmarks/speed.py` at tiny sizes: all contenders train the same model, tables and JSON have the results.

Times are not checked, because a busy machine must not make a test fail.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
MODULES = ("library", "peers", "reference", "scaling", "shapes", "speed", "speed_tables", "timing", "whole")


@pytest.fixture
def bench(load_benchmark: Callable[[str], Any]) -> Any:
    return SimpleNamespace(**{name: load_benchmark(name) for name in MODULES})


def count(contender: Any, clock: Any) -> tuple[int, ...]:
    return tuple(len(contender.turn(times, clock)) for times in (1, 3))


def test_the_plain_loss_is_that_of_the_other_libraries(bench: Any) -> None:
    from flowgmm_cli.data.tensors import Tensors
    from flowgmm_cli.training.step import build_step

    shape = bench.shapes.TINY[0]
    rows = bench.shapes.Rows.draw(shape)
    library = bench.library.Library(shape, rows, "likelihood", "fp32")
    model = library.model()
    with torch.no_grad():
        model.mixture.means.copy_(rows.means)
        model.mixture.raw_scales.fill_(torch.tensor(1 - model.mixture.min_scale).log())
        for parameter in model.flow.parameters():
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(2))
    recipe = bench.library.recipe_of(shape, "likelihood", "fp32")
    step = build_step(recipe, model, features=shape.features, labelled=4, unlabelled=16)
    labelled, unlabelled = Tensors(rows.labelled, rows.labels), Tensors(rows.unlabelled)
    terms = step(model, labelled, unlabelled, torch.Generator())

    class Same(bench.peers.Peer):  # type: ignore[misc, name-defined]
        def encode(self, x: torch.Tensor) -> Any:
            return self.flow(x)

        def decode(self, z: torch.Tensor) -> Any:
            return self.flow.inverse(z)

    results = sum(float(term.detach()) for term in terms.values())
    expected = Same(model.flow, rows.means).loss(rows).detach()
    # the library's joint density has the weight of the class, log 1/2 here
    offset = torch.tensor(2.0).log()
    assert results == pytest.approx(float(expected + offset), rel=1e-5)


def test_the_port_is_a_flow_with_dense_gaussians(bench: Any) -> None:
    shape = bench.shapes.TINY[0]
    rows = bench.shapes.Rows.draw(shape)
    port = bench.reference.Reference(shape, rows)
    z, log_det = port.encode(rows.unlabelled)
    for coupling in reversed(port.couplings):
        z = coupling.inverse(z)
    torch.testing.assert_close(z, rows.unlabelled, rtol=1e-4, atol=1e-5)
    jacobian = torch.autograd.functional.jacobian(
        lambda row: port.encode(row[None])[0][0], rows.unlabelled[0]
    )
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-4, atol=1e-5)
    expected = torch.distributions.Normal(rows.means, 1.0).log_prob(z[:, None]).sum(2)
    torch.testing.assert_close(port.densities(z), expected, rtol=1e-4, atol=1e-4)
    assert port.loss(rows).isfinite()
    assert port.sample(7).shape == (7, shape.features)
    assert not bench.reference.fits(bench.shapes.Shape("large", 1024, 8, classes=64))


def test_operations_are_those_of_the_products(bench: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    shape = bench.shapes.TINY[0]
    with FlopCounterMode(display=False) as counter:
        bench.shapes.products(shape, torch.float32)()
    assert counter.get_total_flops() == bench.shapes.operations(shape)


@pytest.mark.parametrize("what", ["step", "score", "sample"])
def test_missing_libraries_are_named(bench: Any, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(bench.speed, "available_peers", lambda: [])
    threads = torch.get_num_threads()
    shape = bench.shapes.TINY[0]
    measured = bench.speed.measure(what, shape, threads=1, rounds=2, clock="cpu").to_dict()
    assert torch.get_num_threads() == threads
    assert set(measured["left_out"]) == set(bench.peers.PEERS)
    assert {"flowgmm, fp32", "flowgmm, bf16", bench.speed.REFERENCE} <= set(measured["seconds"])
    assert all(len(times) == 2 for times in measured["seconds"].values())
    lines = bench.speed_tables.tables([measured], markdown=True)
    assert sum("not installed" in line for line in lines) == 3
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_cost_is_measured_along_an_axis(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.scaling, "BASE", bench.shapes.TINY[0])
    axes = [
        bench.scaling.Axis("training step, classes", (2, 5), bench.scaling.steps("classes")),
        bench.scaling.Axis("scoring, rows", (10, 40), bench.scaling.scoring),
    ]
    results = bench.scaling.scaling(threads=1, rounds=1, clock="cpu", axes=axes)
    assert [len(result["seconds"]) for result in results] == [2, 1]  # both precisions, and scoring in one
    assert all(len(times) == 2 for result in results for times in result["seconds"].values())
    lines = bench.speed_tables.scaling_table(results)
    assert sum(line.startswith("| 40 |") for line in lines) == 1


@pytest.mark.slow
def test_it_prints_a_table_and_saves_its_results(tmp_path: Path) -> None:
    words = ["--shapes", "tiny", "--threads", "1", "--rounds", "2", "--json", str(tmp_path / "f.json")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "speed.py"), *words], capture_output=True, text=True, check=True
    )
    assert "Training step, tiny" in done.stdout
    value = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert [result["what"] for result in value["measured"]] == ["step", "score", "sample"]
    assert value["environment"]["torch"] == torch.__version__
