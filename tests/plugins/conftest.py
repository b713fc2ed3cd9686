"""Fake installed distributions on `sys.path`, healthy and hostile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowgmm_cli.api import Config, FlowSpec
from flowgmm_cli.plugins import registry as registries
from flowgmm_cli.plugins.discovery import discover
from flowgmm_cli.plugins.entry import Entry
from flowgmm_cli.plugins.registry import Registry

sys.path.insert(0, str(Path(__file__).parent))  # for `distributions`

from distributions import write_distribution

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
        if name.startswith(("fake_", "_flowgmm_local_")):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Write a distribution: `install("fake-nsf", "[flowgmm.flows]\\nnsf = fake_nsf:spec")`."""

    def run(name: str, entries: str | bytes, version: str = "1.0", **modules: str) -> None:
        write_distribution(site, name, entries, version, **modules)

    return run


@pytest.fixture
def install_flow(install: Install) -> Callable[..., None]:
    """Install a flow plugin: `install_flow("fake-nsf", "nsf")`, or with other sources of spec and model."""

    def run(package: str, name: str, spec: str = SPEC, model: str = MODEL) -> None:
        module = package.replace("-", "_")
        modules = {module: spec.replace("{module}", module), f"{module}_model": model}
        install(package, f"[flowgmm.flows]\n{name} = {module}:spec\n", **modules)

    return run


@pytest.fixture
def scan(site: Path) -> Callable[..., Registry]:
    """Make the registry of the distributions in `site`, of a flow and of the entries of local modules."""

    def run(*local: Entry, disabled: str = "") -> Registry:
        actual = discover([str(site)])
        builtin = FlowSpec(config=Config, build="fake_core:build", summary="Built in")
        entries = [*actual.entries, *local]
        return Registry({"flow": {"realnvp": builtin}}, entries, problems=actual.problems, disabled=disabled)

    return run


@pytest.fixture
def fresh_registry() -> Iterator[Callable[[], Registry]]:
    """Forget the registry of the process before and after the test."""
    registries.registry.cache_clear()
    yield registries.registry
    registries.registry.cache_clear()
