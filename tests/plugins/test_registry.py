from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import Component, Config, FlowSpec
from flowgmm_cli.errors import DataError, PluginError
from flowgmm_cli.plugins import registry as module
from flowgmm_cli.plugins.discovery import discover
from flowgmm_cli.plugins.entry import SPEC_TYPES
from flowgmm_cli.plugins.registry import Builtins, Registry


class Settings(Config):
    layers: int = 3


BUILTIN = FlowSpec(config=Settings, build="fake_core:build", summary="Built in")


def registry_of(site: Path, *, disabled: str = "") -> Registry:
    actual = discover([str(site)])
    return Registry(
        {"flow": {"realnvp": BUILTIN}}, actual.entries, problems=actual.problems, disabled=disabled
    )


def states(registry: Registry) -> list[tuple[str, str, str]]:
    return [(item.name, item.package, item.inspect().state) for item in registry.entries("flow")]


def component(use: str, config: Config | None = None) -> Component:
    return Component(kind="flow", use=use, config=config or Settings())


def test_built_ins_come_first_then_plugins_by_name(install_flow: Any, site: Path) -> None:
    install_flow("fake-b", "glow")
    install_flow("fake-a", "nsf")
    assert states(registry_of(site)) == [
        ("realnvp", "flowgmm-cli", "ok"),
        ("glow", "fake-b", "ok"),
        ("nsf", "fake-a", "ok"),
    ]


def test_listing_entries_imports_no_plugin(install: Any, site: Path) -> None:
    install(
        "fake-a",
        entries={"flowgmm.flows": {"nsf": "fake_a:spec"}},
        modules={"fake_a": "raise KeyboardInterrupt"},
    )
    assert [item.name for item in registry_of(site).entries()] == ["realnvp", "nsf"]


def test_finding_a_plugin_loads_no_other(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "glow")
    entry = registry_of(site).find("flow", "nsf")
    assert (entry.package, entry.version, entry.state, entry.summary) == (
        "fake-a",
        "1.0",
        "ok",
        "From fake_a",
    )
    assert "fake_a" in sys.modules
    assert "fake_b" not in sys.modules


@pytest.mark.parametrize("use", ["fake-a/nsf", "Fake_A/nsf", "flowgmm-cli/realnvp"])
def test_names_can_be_qualified(install_flow: Any, site: Path, use: str) -> None:
    install_flow("fake-a", "nsf")
    assert registry_of(site).find("flow", use).name == use.rpartition("/")[2]


def test_a_built_in_is_not_shadowed(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "realnvp")
    registry = registry_of(site)
    assert registry.find("flow", "realnvp").builtin
    assert registry.find("flow", "fake-a/realnvp").package == "fake-a"
    other = registry.entries("flow")[1]
    assert other.state == "conflict"
    assert "use: fake-a/realnvp" in other.problem


def test_two_packages_with_the_same_name_are_a_conflict(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "nsf")
    registry = registry_of(site)
    with pytest.raises(PluginError) as caught:
        registry.find("flow", "nsf")
    assert caught.value.exit_code == 4
    assert "fake-a 1.0, fake-b 1.0" in caught.value.message
    assert caught.value.hint == "write `use: fake-a/nsf` or `use: fake-b/nsf`"
    assert registry.find("flow", "fake-b/nsf").state == "ok"
    assert [item.inspect().state for item in registry.entries("flow")] == ["ok", "conflict", "conflict"]
    assert registry.entries("flow")[1].problem == "also offered by fake-b 1.0"


def test_the_same_name_for_two_kinds_is_no_conflict(install: Any, install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    install("fake-b", entries={"flowgmm.data": {"nsf": "fake_b:spec"}})
    assert registry_of(site).find("flow", "nsf").package == "fake-a"


def test_disabling_a_package_resolves_the_conflict(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "nsf")
    registry = registry_of(site, disabled="Fake_A, other")
    assert registry.find("flow", "nsf").package == "fake-b"
    assert [item.inspect().state for item in registry.entries("flow")] == ["ok", "disabled", "ok"]


def test_all_plugins_can_be_switched_off(install: Any, site: Path) -> None:
    install(
        "fake-a",
        entries={"flowgmm.flows": {"nsf": "fake_a:spec"}},
        modules={"fake_a": "raise KeyboardInterrupt"},
    )
    registry = registry_of(site, disabled="all")
    assert states(registry) == [("realnvp", "flowgmm-cli", "ok"), ("nsf", "fake-a", "disabled")]
    for use in ("nsf", "fake-a/nsf"):
        with pytest.raises(PluginError, match="switched off by FLOWGMM_DISABLE_PLUGINS"):
            registry.find("flow", use)


def test_unknown_names_get_a_guess_and_the_list(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    with pytest.raises(PluginError) as caught:
        registry_of(site).find("flow", "realnpv")
    assert caught.value.message == "unknown flow `realnpv`; did you mean `realnvp`?"
    assert caught.value.details == ("known: realnvp, nsf",)


@pytest.mark.parametrize("use", ["", "/", "fake-a/", "nowhere/nsf", "a/b/nsf"])
def test_odd_names_are_unknown(install_flow: Any, site: Path, use: str) -> None:
    install_flow("fake-a", "nsf")
    with pytest.raises(PluginError, match="unknown flow"):
        registry_of(site).find("flow", use)


NEWER = "from flowgmm_cli.api import *\nspec = FlowSpec(config=Config, build='x:y', summary='', api=99)"
BROKEN = {
    "import error": ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "syntax error": ("def", "SyntaxError"),
    "no attribute": ("other = 1", "AttributeError"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plugin_that_cannot_be_imported_is_broken(
    install: Any, install_flow: Any, site: Path, case: str
) -> None:
    source, reason = BROKEN[case]
    install("fake-a", entries={"flowgmm.flows": {"bad": "fake_a:spec"}}, modules={"fake_a": source})
    install_flow("fake-b", "good")
    registry = registry_of(site)
    assert [item[2] for item in states(registry)] == ["ok", "broken", "ok"]
    with pytest.raises(PluginError) as caught:
        registry.find("flow", "bad")
    assert "fake-a 1.0" in caught.value.message
    assert reason in caught.value.details[0]
    assert registry.find("flow", "good").state == "ok"
    assert registry.find("flow", "realnvp").state == "ok"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("spec = 3", "is a `int`, not a `FlowSpec`"),
        (
            "from flowgmm_cli.api import *\nspec = EncoderSpec(config=Config, build='x:y', summary='')",
            "`FlowSpec`",
        ),
        (
            "from flowgmm_cli.api import *\nspec = FlowSpec(config=dict, build='x:y', summary='')",
            "extend `Config`",
        ),
        (
            "from flowgmm_cli.api import *\nclass C(Config):\n    use: str = ''\n"
            "spec = FlowSpec(config=C, build='x:y', summary='')",
            "a parameter `use`",
        ),
    ],
)
def test_what_is_no_proper_spec_is_broken(install: Any, site: Path, source: str, reason: str) -> None:
    install("fake-a", entries={"flowgmm.flows": {"bad": "fake_a:spec"}}, modules={"fake_a": source})
    registry = registry_of(site)
    assert states(registry)[1][2] == "broken"
    with pytest.raises(PluginError, match=reason):
        registry.find("flow", "bad")


@pytest.mark.parametrize(
    ("group", "base"), [("flowgmm.data", "DataConfig"), ("flowgmm.regularisers", "RegulariserConfig")]
)
def test_shared_parameters_are_part_of_the_contract(install: Any, site: Path, group: str, base: str) -> None:
    kind = {"flowgmm.data": "Data", "flowgmm.regularisers": "Regulariser"}[group]
    source = f"from flowgmm_cli.api import *\nspec = {kind}Spec(config=Config, build='x:y', summary='')"
    install("fake-a", entries={group: {"bad": "fake_a:spec"}}, modules={"fake_a": source})
    with pytest.raises(PluginError, match=f"does not extend `{base}`"):
        registry_of(site).find(kind.lower(), "bad")


def test_another_plugin_api_is_incompatible(install: Any, site: Path) -> None:
    install("fake-a", entries={"flowgmm.flows": {"bad": "fake_a:spec"}}, modules={"fake_a": NEWER})
    registry = registry_of(site)
    assert states(registry)[1][2] == "incompatible"
    with pytest.raises(PluginError, match="written for plugin API 99; this flowgmm speaks 1"):
        registry.find("flow", "bad")


def test_an_interrupt_is_never_swallowed(install: Any, site: Path) -> None:
    install(
        "fake-a",
        entries={"flowgmm.flows": {"bad": "fake_a:spec"}},
        modules={"fake_a": "raise KeyboardInterrupt"},
    )
    with pytest.raises(KeyboardInterrupt):
        registry_of(site).find("flow", "bad")


def test_building_passes_the_config_and_everything_else(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    registry = registry_of(site)
    assert "fake_a_model" not in sys.modules
    built = registry.build(component("nsf", Settings(layers=7)), "x", shape=(2,))
    assert built == (7, ("x",), {"shape": (2,)})


def test_building_a_broken_plugin_says_whose_fault_it_is(install: Any, install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    (site / "fake_a_model.py").write_text("import sys\nsys.exit(1)\n", encoding="utf-8")
    with pytest.raises(PluginError, match=r"flow `nsf` from fake-a 1\.0 cannot be loaded"):
        registry_of(site).build(component("nsf"))


def test_an_exception_while_building_a_plugin_names_the_plugin(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    (site / "fake_a_model.py").write_text(
        "def build(config):\n    raise ValueError('no such D')\n", encoding="utf-8"
    )
    with pytest.raises(PluginError, match=r"flow `nsf` from fake-a 1\.0 could not be built") as caught:
        registry_of(site).build(component("nsf"))
    assert caught.value.details == ("ValueError: no such D",)


def test_our_own_errors_pass_through_building(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    source = "from flowgmm_cli.errors import DataError\ndef build(config):\n    raise DataError('no file')\n"
    (site / "fake_a_model.py").write_text(source, encoding="utf-8")
    with pytest.raises(DataError, match="no file"):
        registry_of(site).build(component("nsf"))


def test_provenance(install_flow: Any, site: Path) -> None:
    install_flow("fake-a", "nsf")
    registry = registry_of(site)
    assert registry.provenance(component("nsf")) == {
        "kind": "flow", "name": "nsf", "package": "fake-a", "version": "1.0", "api": 1,
    }  # fmt: skip
    own = registry.provenance(component("realnvp"))
    assert (own["package"], own["name"]) == ("flowgmm-cli", "realnvp")


def test_the_environment_variable_reaches_the_registry(
    install_flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_flow("fake-a", "nsf")
    monkeypatch.setenv("FLOWGMM_DISABLE_PLUGINS", "fake-a")
    module.registry.cache_clear()
    try:
        entry = next(item for item in module.registry().entries("flow") if item.package == "fake-a")
        assert entry.state == "disabled"
    finally:
        module.registry.cache_clear()


@pytest.mark.parametrize("kind", SPEC_TYPES)
def test_every_built_in_is_a_proper_spec_of_its_kind(kind: str) -> None:
    specs = Builtins()[kind]
    assert specs
    for name, spec in specs.items():
        assert isinstance(spec, SPEC_TYPES[kind])
        assert name.replace("_", "").isalnum()
        assert spec.summary
        assert not spec.summary.endswith(".")
        assert all(field.description for field in spec.config.model_fields.values()), f"{kind} {name}"


def test_there_are_built_ins_of_every_kind() -> None:
    assert {*Builtins()} == {*SPEC_TYPES}
