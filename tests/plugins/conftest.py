"""Fake installed distributions on `sys.path`, healthy and hostile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SPEC = """
from flowgmm_cli.api import Config, Field, FlowSpec


class Settings(Config):
    layers: int = Field(3, ge=1, description="how many")


spec = FlowSpec(config=Settings, build="{module}_model:build", summary="From {module}")
"""

MODEL = """
def build(config, *args, **kwargs):
    return config.layers, args, kwargs
"""

Install = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty site folder at the front of `sys.path`."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith("fake_"):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Write a distribution: `install("fake-nsf", entries={"flowgmm.flows": {"nsf": "fake_nsf:spec"}})`."""

    def run(
        name: str,
        version: str = "1.0",
        *,
        entries: dict[str, dict[str, str]] | None = None,
        raw: str | bytes | None = None,
        modules: dict[str, str] | None = None,
    ) -> None:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8"
        )
        lines = [
            line
            for group, pairs in (entries or {}).items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in pairs.items()))
        ]
        content = "\n".join(lines) + "\n" if raw is None else raw
        data = content if isinstance(content, bytes) else content.encode()
        (info / "entry_points.txt").write_bytes(data)
        for module, source in (modules or {}).items():
            (site / f"{module}.py").write_text(source, encoding="utf-8")

    return run


@pytest.fixture
def install_flow(install: Install) -> Callable[[str, str], None]:
    """Install a healthy flow plugin: `install_flow("fake-nsf", "nsf")`."""

    def run(package: str, name: str) -> None:
        module = package.replace("-", "_")
        install(
            package,
            entries={"flowgmm.flows": {name: f"{module}:spec"}},
            modules={module: SPEC.format(module=module), f"{module}_model": MODEL},
        )

    return run
