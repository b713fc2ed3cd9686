"""With stand-ins for torchvision, in interpreters of their own."""

import os
import subprocess
import sys
from pathlib import Path

_PROBE = """
from flowgmm_cli.api import PluginError
from flowgmm_vision.libraries import import_library
try:
    print(import_library("torchvision", print).models)
except PluginError as error:
    print("refused", error, error.hint)
"""


def probe(folder: Path, **modules: str) -> str:
    (folder / "torchvision").mkdir()
    for name, text in modules.items():
        (folder / "torchvision" / f"{name}.py").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_torchvision_without_its_operators_is_imported_with_a_note(tmp_path: Path) -> None:
    shown = probe(
        tmp_path,
        __init__="from torchvision import _meta_registrations\nmodels = 'models of torchvision'",
        _meta_registrations="raise RuntimeError('operator torchvision::nms does not exist')",
    )
    assert "built for another torch" in shown
    assert shown.splitlines()[-1] == "models of torchvision"


def test_a_broken_torchvision_is_refused_with_what_to_do(tmp_path: Path) -> None:
    shown = probe(tmp_path, __init__="raise RuntimeError('something else')")
    assert shown.startswith("refused torchvision cannot be imported: something else")
    assert "pip install torch torchvision" in shown
