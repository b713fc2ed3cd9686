"""`flowgmm embed`: vectors of rows, and maps of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def embedded(flowgmm: Any, *words: str) -> dict[str, np.ndarray]:
    flowgmm("embed", "--data", "t.csv", "--save", "z.npz", *words)
    with np.load("z.npz") as data:
        return dict(data)


def test_vectors_are_those_of_the_model(flowgmm: Any, run: Path) -> None:
    from flowgmm_cli.inference.flowgmm import load

    model = load(run)
    latent, source = embedded(flowgmm), embedded(flowgmm, "--space", "input")
    assert latent["id"].tolist() == [str(row + 1) for row in range(60)]
    assert np.allclose(latent["z"], model.embed("t.csv"), atol=1e-6)
    assert np.allclose(source["z"], model.embed("t.csv", space="input"), atol=1e-6)
    assert latent["z"].shape == source["z"].shape == (60, 2)


@pytest.mark.parametrize(("words", "kind"), [(["--map"], "pca"), (["--map=tsne"], "tsne")])
def test_a_map_adds_two_columns(flowgmm: Any, run: Path, words: list[str], kind: str) -> None:
    columns = embedded(flowgmm, *words)
    assert list(columns) == ["id", "z", "map_0", "map_1"]
    assert columns["map_0"].shape == (60,)
    outcome = flowgmm("embed", "--data", "t.csv", *words, "--json")
    assert outcome.json["map"] == kind
    outcome = flowgmm("embed", *words, "--only", "id,map_1", "--data", "t.csv")
    assert outcome.out.splitlines()[0] == "id,map_1"
    assert flowgmm("embed", str(run), *words, "-q").out.splitlines()[0] == "id,z_0,z_1,map_0,map_1"


def test_the_summary(flowgmm: Any, run: Path) -> None:
    outcome = flowgmm("embed", "--json", "--save", "z.parquet")
    value = outcome.json
    assert value["schema"] == "flowgmm/embed/1"
    assert (value["run"], value["n"], value["dim"], value["space"]) == (str(run), 8, 2, "latent")
    assert (value["saved"], value["map"], value["unscorable"]) == ("z.parquet", None, 0)
    assert "the run's test split, 8 rows" in outcome.err


def test_the_library_of_a_map_may_be_missing(
    flowgmm: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else real(name))
    outcome = flowgmm("embed", "--map", "umap", code=4)
    assert "hint: pip install umap-learn" in outcome.err
