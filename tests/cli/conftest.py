"""Run the command line in this process, on small runs that are trained once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from own_files import Outcome, copy_table, numbers, save, train_run

from flowgmm_cli.__main__ import main
from flowgmm_cli.cli import output
from flowgmm_cli.plugins.registry import registry

Flowgmm = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def flowgmm(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flowgmm]:
    """Run a command and check its exit code: `flowgmm("eval", "x", code=6).err`; code=None takes any."""
    for name in ("FLOWGMM_TRACEBACK", "FLOWGMM_DISABLE_PLUGINS", "FLOWGMM_OFFLINE", "FLOWGMM_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", "")  # --plugin-module sets it

    def run(*words: str, code: int | None = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["flowgmm", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        assert code in (None, stop.value.code), captured.err
        return Outcome(stop.value.code, captured.out, captured.err)

    registry.cache_clear()
    yield run
    registry.cache_clear()
    output.settings.quiet = output.settings.verbose = output.settings.offline = False


@pytest.fixture(scope="session")
def trained_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model was trained on `t.csv`."""
    folder = tmp_path_factory.mktemp("table")
    path = save(folder / "t.csv", numbers(60, labelled=40))
    train_run(folder, "csv", [f"data.path={path}", "data.label=label", "train.epochs=2"])
    return folder


@pytest.fixture(scope="session")
def trained_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a model of images was trained."""
    folder = tmp_path_factory.mktemp("digits")
    words = ["data.transforms=[{use: pca, dim: 8}]", "data.views={strong: []}", "data.labels.count=40"]
    train_run(folder, "digits", [*words, "train.epochs=1"])
    return folder


@pytest.fixture
def run(trained_table: Path, folder: Path) -> Path:
    """A finished run for one test, relative to its folder; its data is `t.csv` there."""
    copy_table(trained_table, folder)
    return Path("runs", "csv", "first")


@pytest.fixture
def digits_run(trained_digits: Path, folder: Path) -> Path:
    """A finished run of images for one test, the newest in its folder."""
    shutil.copytree(trained_digits / "runs", "runs")
    return Path("runs", "digits", "first")
