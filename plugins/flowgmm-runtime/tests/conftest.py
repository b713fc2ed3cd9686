"""Models that are trained and exported once for all tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from runtime_runs import SHORT, Exported, draw_rows, read, run_flowgmm, save

Export = Callable[..., Exported]


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Train a recipe with some words, export it and predict a file: `export(new, "csv", "data.path=...")`."""

    def make(data: Path, *words: str, short: list[str] = SHORT) -> Exported:
        folder = tmp_path_factory.mktemp("run")
        run_flowgmm(
            folder,
            ["train", *words, *short, "--run-dir", "run", "--quiet"],
            ["export", "run", "--to", "onnx", "--save", "model", "--quiet"],
            ["predict", "run", "--data", str(data), "--save", "expected.csv", "--quiet"],
            ["embed", "run", "--data", str(data), "--save", "latents.csv", "--quiet"],
        )
        return Exported(folder / "model", data, read(folder / "expected.csv"), read(folder / "latents.csv"))

    return make


@pytest.fixture(scope="session")
def table(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A model of every kind of column of a table."""
    folder = tmp_path_factory.mktemp("table")
    save(folder / "train.csv", draw_rows(240, 120, 0))
    new = draw_rows(300, 0, 1)
    new[7]["n"] = "many"
    columns = "features=[x,n,colour,code,day,hour,title,body]"
    words = [f"data.path={folder / 'train.csv'}", "data.label=kind", "data.id=number", f"data.{columns}"]
    return export(save(folder / "new.csv", new), "text", *words, "data.text=[title,body]")
