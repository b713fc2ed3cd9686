import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import Component, DataContext
from flowgmm_cli.data.specs import SPECS, TRANSFORMS
from flowgmm_cli.encoders.specs import SPECS as ENCODERS

_TABLES = {"data": SPECS, "transform": TRANSFORMS, "encoder": ENCODERS}


@pytest.fixture
def component() -> Callable[..., Component]:
    """Make a component as the recipe schema would: nested components are resolved, too."""

    def make(kind: str, use: str, **parameters: Any) -> Component:
        config = _TABLES[kind][use].config
        if kind == "data":
            parameters.setdefault("transforms", [make("transform", "standardise")])
            if "encoder" in config.model_fields:
                parameters.setdefault("encoder", make("encoder", "wordllama", dim=64))
        return Component(kind=kind, use=use, config=config(**parameters))

    return make


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def context(tmp_path: Path, notes: list[str]) -> DataContext:
    return DataContext(offline=True, cache_dir=str(tmp_path / "cache"), note=notes.append)


@pytest.fixture
def shared_data() -> Path:
    folder = Path(os.environ.get("FLOWGMM_SHARED_DATA", "../shared/data"))
    if not folder.is_dir():
        pytest.skip("FLOWGMM_SHARED_DATA names no folder of real data sets")
    return folder
