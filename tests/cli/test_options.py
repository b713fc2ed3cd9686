from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.cli.options import complete_recipe
from flowgmm_cli.cli.progress import Progress
from flowgmm_cli.cli.session import data_context


@pytest.mark.parametrize(("words", "variable"), [(("--offline",), ""), ((), "1"), ((), "")])
def test_offline_reaches_sources_and_libraries(
    flowgmm: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], variable: str
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    if variable:
        monkeypatch.setenv("FLOWGMM_OFFLINE", variable)
    expected = bool(words or variable)
    flowgmm("recipes", "list", *words)
    assert data_context(Progress()).offline is expected
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        assert os.environ.get(name, "") == ("1" if expected else "")


def test_completion_knows_bundled_names_and_files() -> None:
    for name in ("dig.yaml", "dig.csv", "[x].yaml", "sub/a.yml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert complete_recipe("dig") == ["digits", "dig.yaml"]
    assert complete_recipe("[") == ["[x].yaml"]
    assert complete_recipe("su") == ["sub/"]
    assert complete_recipe("sub/") == ["sub/a.yml"]
    assert complete_recipe("nowhere/") == []
