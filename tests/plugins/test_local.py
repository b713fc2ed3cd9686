from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import Component
from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.local import load_file, local_files
from flowgmm_cli.plugins.registry import Registry

SOURCE = """
from flowgmm_cli.api import Config, EncoderSpec, Field, FlowSpec


class Settings(Config):
    layers: int = Field(2, description="layers")


MY_FLOW = FlowSpec(config=Settings, build="mine:build", summary="A flow")
words = EncoderSpec(config=Settings, build=f"{__name__}:build", summary="An encoder")
_hidden = MY_FLOW


def build(config, **kwargs):
    return config.layers, kwargs
"""


@pytest.fixture
def local_file(site: Path) -> Path:
    """Write a plugin module; its imports are removed afterwards."""
    file = site / "mine.py"
    file.write_text(SOURCE, encoding="utf-8")
    return file


def test_specs_are_named_by_their_variables(local_file: Path) -> None:
    entries = load_file(local_file)
    assert [(entry.kind, entry.name, entry.summary) for entry in entries] == [
        ("flow", "my_flow", "A flow"),
        ("encoder", "words", "An encoder"),
    ]
    assert {entry.digest for entry in entries} == {hashlib.sha256(local_file.read_bytes()).hexdigest()}
    assert {entry.package for entry in entries} == {"mine-py"}
    assert "mine" not in sys.modules


def test_components_of_a_module_are_built_by_either_name(local_file: Path) -> None:
    registry = Registry({}, load_file(local_file))
    for kind, name in (("flow", "my_flow"), ("encoder", "words"), ("flow", "mine.py/my_flow")):
        spec = registry.find(kind, name).spec()
        component = Component.model_construct(kind=kind, use=name, config=spec.config())
        assert registry.build(component, shape=(2,)) == (2, {"shape": (2,)})


def test_provenance_has_path_and_hash(local_file: Path) -> None:
    registry = Registry({}, load_file(local_file))
    spec = registry.find("flow", "my_flow").spec()
    actual = registry.provenance(Component(kind="flow", use="my_flow", config=spec.config()))
    assert (actual["package"], actual["version"], actual["path"]) == ("mine-py", None, str(local_file))
    assert actual["sha256"] == hashlib.sha256(local_file.read_bytes()).hexdigest()


def test_a_module_that_has_changed_is_loaded_anew(local_file: Path) -> None:
    first = load_file(local_file)
    assert load_file(local_file) == first
    local_file.write_text(SOURCE.replace("A flow", "Another flow"), encoding="utf-8")
    assert load_file(local_file)[0].spec().summary == "Another flow"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere_at_all", "cannot be imported"),
        ("raise SystemExit(3)", "cannot be imported"),
        ("raise BaseException", "cannot be imported"),
        ("raise GeneratorExit", "cannot be imported"),
        ("import os; os._exit(0)", "cannot be imported"),
        ("def", "cannot be imported"),
        ("x = 1", "defines no component"),
    ],
)
def test_a_module_without_use_is_a_plugin_error(local_file: Path, source: str, reason: str) -> None:
    local_file.write_text(source, encoding="utf-8")
    with pytest.raises(PluginError, match=reason):
        load_file(local_file)


def test_a_file_that_is_not_there_is_a_plugin_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="cannot be read"):
        load_file(tmp_path / "nowhere.py")
    (tmp_path / "notes.txt").write_text("x = 1", encoding="utf-8")
    with pytest.raises(PluginError, match="no Python file"):
        load_file(tmp_path / "notes.txt")


def test_the_environment_variable_names_files(
    local_file: Path, fresh_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = os.pathsep.join([str(local_file), "", str(local_file), "other.py"])
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", files)
    assert local_files() == [local_file, Path("other.py").absolute()]
    assert fresh_registry().find("flow", "my_flow").package == "mine-py"
    assert ["other.py" in problem for problem in fresh_registry().problems] == [True]


def test_switching_all_plugins_off_keeps_modules_out(
    local_file: Path, fresh_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    local_file.write_text("raise KeyboardInterrupt", encoding="utf-8")
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", str(local_file))
    monkeypatch.setenv("FLOWGMM_DISABLE_PLUGINS", "all")
    (problem,) = (item for item in fresh_registry().problems if "mine.py" in item)
    assert "FLOWGMM_DISABLE_PLUGINS" in problem


@pytest.mark.parametrize("act", ["import sys; sys.stdout.close()", "import os; os._exit(0)"])
def test_a_module_that_closes_stdout_or_ends_the_process_fails(local_file: Path, act: str) -> None:
    local_file.write_text(act, encoding="utf-8")
    code = f"from flowgmm_cli.plugins.local import load_file; load_file({str(local_file)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PluginError" in done.stderr


def test_output_of_a_module_is_no_answer(local_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local_file.write_text(f"print('hello')\n{SOURCE}", encoding="utf-8")
    load_file(local_file)
    assert capsys.readouterr() == ("", "hello\n")
