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


def test_the_order_of_contenders_rotates_and_ratios_are_within_rounds(bench: Any) -> None:
    now, order = [0.0], []

    def contender(name: str, seconds: float) -> Any:
        def work() -> None:
            order.append(name)
            now[0] += seconds

        return bench.timing.repeat(name, work)

    pair = [contender("slow", 0.3), contender("fast", 0.05)]
    results = bench.timing.time_in_rounds(pair, rounds=3, clock=lambda: now[0])
    assert results == {"slow": pytest.approx([0.3] * 3), "fast": pytest.approx([0.05] * 3)}
    # first once to warm up and once timed; then turns of a tenth of a second, and one more to warm up
    slow, fast = ["slow"] * 2, ["fast"] * 3
    assert order == ["slow", "slow", "fast", "fast", *slow, *fast, *fast, *slow, *slow, *fast]
    assert bench.timing.ratio([2.0, 9.0, 6.0], [1.0, 3.0, 3.0]) == 2.0


@pytest.mark.parametrize("loss", ["likelihood", "default"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_library_is_timed_in_its_own_loop(bench: Any, loss: str, precision: str) -> None:
    shape = bench.shapes.TINY[0]
    library = bench.library.Library(shape, bench.shapes.Rows.draw(shape), loss, precision)
    clock = iter(range(1000)).__next__
    assert count(library.steps(), clock) == (1, 3)
    assert count(library.scores(torch.zeros(5, shape.features)), clock) == (1, 3)
    assert count(library.samples(5), clock) == (1, 3)


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


@pytest.mark.parametrize("name", ["zuko", "nflows", "normflows"])
def test_other_libraries_are_the_same_kind_of_flow(bench: Any, name: str) -> None:
    pytest.importorskip(name)
    shape = bench.shapes.TINY[0]
    rows = bench.shapes.Rows.draw(shape)
    peer = bench.peers.PEERS[name](shape, rows)
    z, log_det = peer.encode(rows.unlabelled)
    torch.testing.assert_close(peer.decode(z), rows.unlabelled, rtol=1e-4, atol=1e-4)
    jacobian = torch.autograd.functional.jacobian(
        lambda row: peer.encode(row[None])[0][0], rows.unlabelled[0]
    )
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-4, atol=1e-4)
    before = float(peer.loss(rows).detach())
    step = bench.peers.create_step(peer, lambda: peer.loss(rows))
    for _ in range(5):
        step()
    assert float(peer.loss(rows).detach()) < before


def test_ratios_refer_to_the_fastest_other_library(bench: Any) -> None:
    seconds = {"zuko": [2.0, 2.0], "nflows": [1.0, 3.0], "flowgmm, fp32": [1.0, 1.0]}
    assert bench.speed_tables.fastest_peer(seconds) in ("zuko", "nflows")
    assert bench.speed_tables.fastest_peer({**seconds, "normflows": [0.5, 0.5]}) == "normflows"
    assert bench.speed_tables.fastest_peer({"flowgmm, fp32": [1.0]}) is None


def test_growth_is_an_exponent(bench: Any) -> None:
    assert bench.scaling.growth([1, 10, 100], [2.0, 20.0, 2000.0]) == [
        None,
        pytest.approx(1),
        pytest.approx(2),
    ]


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


@pytest.mark.slow
def test_whole_processes_are_measured(bench: Any) -> None:
    results = bench.whole.end_to_end("tiny", rounds=1, steps=5, names=["flowgmm, fp32"])
    assert set(results[0]["seconds"]) == {"all", "imports", "set-up", "training", "scoring"}
    assert results[0]["seconds"]["all"] > results[0]["seconds"]["imports"] > 0
    assert any("flowgmm, fp32" in line for line in bench.whole.end_to_end_table(results))
