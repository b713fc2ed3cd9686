"""The recipe trains a few steps through the command line, and the model works when it is read again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def flowgmm(*words: str, folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", *words, "--json", "--quiet"],
        cwd=folder,
        env={**os.environ, "FLOWGMM_CACHE_DIR": str(folder / "cache"), "FLOWGMM_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_recipe_trains_a_few_steps(tmp_path: Path) -> None:
    short = ["train.epochs=2", "calibration.method=none"]
    shown = flowgmm("train", "flowgmm-arrow/sql", *short, "--run-dir", "run", folder=tmp_path)
    assert shown["status"] == "done"
    assert flowgmm("eval", "run", folder=tmp_path)["n"] == 200
    assert "flowgmm-arrow" in (tmp_path / "run" / "run.json").read_text(encoding="utf-8")
