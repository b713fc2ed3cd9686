"""Runs the command line in this process, and a small run for it to work on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from own_files import SHORT, numbers, save

from flowgmm_cli.__main__ import main
from flowgmm_cli.cli import output
from flowgmm_cli.plugins.registry import registry


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Flowgmm = Callable[..., Outcome]


@pytest.fixture
def flowgmm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flowgmm]:
    """Run a command: `flowgmm("recipes", "list").out`."""
    for name in ("FLOWGMM_TRACEBACK", "FLOWGMM_DISABLE_PLUGINS", "FLOWGMM_OFFLINE", "FLOWGMM_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", "")  # --plugin-module sets it

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["flowgmm", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    registry.cache_clear()
    yield run
    registry.cache_clear()
    output.settings.quiet = output.settings.verbose = False


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model was trained on `t.csv`."""
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.runs import create_run
    from flowgmm_cli.training.pipeline import train

    folder = tmp_path_factory.mktemp("trained")
    path = save(folder / "t.csv", numbers(60, labelled=40))
    words = [f"data.path={path}", "data.label=label", "train.epochs=2", *SHORT[1:]]
    recipe = load_recipe("csv", words)
    train(recipe, create_run(recipe, argv=["train"], directory=folder / "runs" / "csv" / "first"))
    return folder


@pytest.fixture
def run(_trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of this test's own, relative to its folder; its data is `t.csv` there."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(_trained / "runs", "runs")
    shutil.copy(_trained / "t.csv", "t.csv")
    for file in Path("runs").rglob("*.[jy]*"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(str(_trained / "t.csv"), "t.csv"), encoding="utf-8")
    return Path("runs", "csv", "first")
