"""`benchmarks/out_of_distribution.py`: runs and simple detectors on the same vectors, computed once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SHORT = ("train.max_steps=20", "search!", "flow.hidden=16", "calibration.method=none")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    import out_of_distribution

    yield out_of_distribution
    for name in ("out_of_distribution", "ood_pairs", "accuracy", "data_sets"):
        sys.modules.pop(name)


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Strokes of three digits around means of their own; the 4 is far from the others."""
    rng = np.random.default_rng(0)
    means = {0: np.zeros(6), 1: np.full(6, 4.0), 4: np.full(6, -12.0)}
    parts = [
        pd.DataFrame(mean + rng.normal(size=(150, 6))).assign(clase=digit) for digit, mean in means.items()
    ]
    folder = tmp_path / "shared" / "pendigits"
    folder.mkdir(parents=True)
    pd.concat(parts).rename(columns=str).to_csv(folder / "pendigits_train.csv", index=False)
    return tmp_path / "shared"


def test_an_omitted_digit_is_detected(
    bench: Any,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = next(world for world in bench.WORLDS if world.name == "pendigits")
    short = replace(world, words=(*world.words, "data.labels.count=10", *SHORT))
    monkeypatch.setattr(bench, "WORLDS", (short,))
    monkeypatch.setenv("FLOWGMM_SHARED_DATA", str(data_folder))
    work = tmp_path / "work"
    argv = ["out_of_distribution.py", "--only", "pendigits", "--seed", "3", "--work", str(work)]
    monkeypatch.setattr(sys, "argv", argv)
    bench.main()
    printed = capsys.readouterr()
    assert "| pen strokes without the digit 4, 100 labels | the digit 4 | " in printed.out
    (point,) = json.loads((work / "results.json").read_text())["points"]
    assert point["n_out"] == 150
    assert set(point["simple"]) == {"knn", "mahalanobis", "isolation_forest"}
    assert min(point["simple"].values()) > 0.95
    assert point["scores"]["nll"] > 0.95
    assert point["default"] in point["scores"]
    inside = pd.read_csv(work / "data" / "pendigits_in.csv")
    assert set(inside["clase"]) == {0, 1}

    stamp = (work / "points" / "pendigits-3.json").stat().st_mtime_ns
    bench.main()
    assert capsys.readouterr().out == printed.out
    assert (work / "points" / "pendigits-3.json").stat().st_mtime_ns == stamp


def test_simple_detectors_of_wide_rows_look_at_principal_components(bench: Any) -> None:
    rng = np.random.default_rng(1)
    basis = rng.normal(size=(20, 600))
    train = rng.normal(size=(300, 20)) @ basis
    near, far = rng.normal(size=(50, 20)) @ basis, 6 * rng.normal(size=(50, 20)) @ basis
    for name, detect in bench.simple_detectors(train, 0).items():
        assert detect(far).mean() > detect(near).mean(), name


def test_every_world_is_a_valid_recipe(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.recipe.load import load_recipe

    for world in bench.WORLDS:
        words = [word.format(shared=tmp_path, work=tmp_path) for word in world.words]
        assert load_recipe(world.recipe, words, overlays=world.overlays).data.use in (
            "csv",
            "hf_text",
            "images",
        )


def test_an_unknown_name_is_an_error(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["out_of_distribution.py", "--only", "shuttles"])
    with pytest.raises(SystemExit, match="there is no `shuttles`; choose one of ag_news"):
        bench.main()
