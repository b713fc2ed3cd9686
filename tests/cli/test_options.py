from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowgmm_cli.cli.options import _set_offline, complete_recipe


def test_offline_reaches_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    assert _set_offline(False) is False
    assert "HF_HUB_OFFLINE" not in os.environ
    assert _set_offline(True) is True
    assert os.environ["HF_HUB_OFFLINE"] == os.environ["HF_DATASETS_OFFLINE"] == "1"


def test_completion_knows_bundled_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("dig.yaml", "dig.csv", "[x].yaml", "sub/a.yml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert complete_recipe("dig") == ["digits", "dig.yaml"]
    assert complete_recipe("[") == ["[x].yaml"]
    assert complete_recipe("su") == ["sub/"]
    assert complete_recipe("sub/") == ["sub/a.yml"]
    assert complete_recipe("nowhere/") == []
