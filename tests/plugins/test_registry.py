from __future__ import annotations

import sys
from typing import Any

import pytest

from flowgmm_cli.api import Component, Config
from flowgmm_cli.errors import DataError, PluginError
from flowgmm_cli.plugins.entry import SPEC_TYPES
from flowgmm_cli.plugins.registry import Builtins, Registry


def states(registry: Registry) -> list[tuple[str, str, str]]:
    return [(item.name, item.package, item.inspect().state) for item in registry.entries("flow")]


def component(use: str, config: Config | None = None) -> Component:
    return Component(kind="flow", use=use, config=config or Config())


def test_built_ins_come_first_then_plugins_by_name(install_flow: Any, scan: Any) -> None:
    install_flow("fake-b", "glow")
    install_flow("fake-a", "nsf")
    assert states(scan()) == [
        ("realnvp", "flowgmm-cli", "ok"),
        ("glow", "fake-b", "ok"),
        ("nsf", "fake-a", "ok"),
    ]


def test_finding_a_plugin_loads_no_other(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "glow")
    entry = scan().find("flow", "nsf")
    actual = (entry.package, entry.version, entry.state, entry.summary)
    assert actual == ("fake-a", "1.0", "ok", "From fake_a")
    assert "fake_a" in sys.modules
    assert "fake_b" not in sys.modules


@pytest.mark.parametrize("use", ["fake-a/nsf", "Fake_A/nsf", "flowgmm-cli/realnvp"])
def test_names_can_be_qualified(install_flow: Any, scan: Any, use: str) -> None:
    install_flow("fake-a", "nsf")
    assert scan().find("flow", use).name == use.rpartition("/")[2]


def test_a_built_in_is_not_shadowed(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "realnvp")
    registry = scan()
    assert registry.find("flow", "realnvp").builtin
    assert registry.find("flow", "fake-a/realnvp").package == "fake-a"
    other = registry.entries("flow")[1]
    assert other.state == "conflict"
    assert "use: fake-a/realnvp" in other.problem


def test_two_packages_with_the_same_name_are_a_conflict(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "nsf")
    registry = scan()
    with pytest.raises(PluginError) as caught:
        registry.find("flow", "nsf")
    assert caught.value.exit_code == 4
    assert "fake-a 1.0, fake-b 1.0" in caught.value.message
    assert caught.value.hint == "write `use: fake-a/nsf` or `use: fake-b/nsf`"
    assert registry.find("flow", "fake-b/nsf").state == "ok"
    assert [item.inspect().state for item in registry.entries("flow")] == ["ok", "conflict", "conflict"]
    assert registry.entries("flow")[1].problem == "also offered by fake-b 1.0"


def test_the_same_name_for_two_kinds_is_no_conflict(install: Any, install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    install("fake-b", "[flowgmm.data]\nnsf = fake_b:spec\n")
    assert scan().find("flow", "nsf").package == "fake-a"


def test_disabling_a_package_resolves_the_conflict(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    install_flow("fake-b", "nsf")
    registry = scan(disabled="Fake_A, other")
    assert registry.find("flow", "nsf").package == "fake-b"
    assert [item.inspect().state for item in registry.entries("flow")] == ["ok", "disabled", "ok"]


def test_all_plugins_can_be_switched_off(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf", "raise KeyboardInterrupt")
    registry = scan(disabled="all")
    assert states(registry) == [("realnvp", "flowgmm-cli", "ok"), ("nsf", "fake-a", "disabled")]
    for use in ("nsf", "fake-a/nsf"):
        with pytest.raises(PluginError, match="switched off by FLOWGMM_DISABLE_PLUGINS"):
            registry.find("flow", use)


def test_unknown_names_get_a_guess_and_the_list(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    with pytest.raises(PluginError) as caught:
        scan().find("flow", "realnpv")
    assert caught.value.message == "unknown flow `realnpv`; did you mean `realnvp`?"
    assert caught.value.details == ("known: realnvp, nsf",)


@pytest.mark.parametrize("use", ["", "/", "fake-a/", "nowhere/nsf", "a/b/nsf"])
def test_odd_names_are_unknown(install_flow: Any, scan: Any, use: str) -> None:
    install_flow("fake-a", "nsf")
    with pytest.raises(PluginError, match="unknown flow"):
        scan().find("flow", use)


UNUSABLE = {
    "import error": (
        "import nowhere_at_all",
        "broken",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
    ),
    "exit": ("import sys\nsys.exit(3)", "broken", "SystemExit: 3"),
    "syntax error": ("def", "broken", "SyntaxError"),
    "no attribute": ("other = 1", "broken", "AttributeError"),
    "no spec": ("spec = 3", "broken", "is a `int`, not a `FlowSpec`"),
    "kind": ("spec = EncoderSpec(config=Config, build='x:y', summary='')", "broken", "not a `FlowSpec`"),
    "no config": ("spec = FlowSpec(config=dict, build='x:y', summary='')", "broken", "extend `Config`"),
    "use": (
        "class C(Config):\n    use: str = ''\nspec = FlowSpec(config=C, build='x:y', summary='')",
        "broken",
        "a parameter `use`",
    ),
    "newer": (
        "spec = FlowSpec(config=Config, build='x:y', summary='', api=99)",
        "incompatible",
        "written for plugin API 99; this flowgmm speaks 1",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_plugin_leaves_the_others_alone(install_flow: Any, scan: Any, case: str) -> None:
    source, state, reason = UNUSABLE[case]
    install_flow("fake-a", "bad", f"from flowgmm_cli.api import *\n{source}")
    install_flow("fake-b", "good")
    registry = scan()
    assert [item[2] for item in states(registry)] == ["ok", state, "ok"]
    with pytest.raises(PluginError) as caught:
        registry.find("flow", "bad")
    assert "fake-a 1.0" in caught.value.message
    assert reason in "\n".join([caught.value.message, *caught.value.details])
    assert registry.find("flow", "good").state == "ok"
    assert registry.find("flow", "realnvp").state == "ok"


@pytest.mark.parametrize(("kind", "base"), [("data", "DataConfig"), ("regulariser", "RegulariserConfig")])
def test_shared_parameters_are_part_of_the_contract(install: Any, scan: Any, kind: str, base: str) -> None:
    source = f"spec = {kind.capitalize()}Spec(config=Config, build='x:y', summary='')"
    group = "flowgmm.data" if kind == "data" else "flowgmm.regularisers"
    module = f"from flowgmm_cli.api import *\n{source}"
    install("fake-a", f"[{group}]\nbad = fake_a:spec\n", fake_a=module)
    with pytest.raises(PluginError, match=f"does not extend `{base}`"):
        scan().find(kind, "bad")


def test_an_interrupt_is_never_swallowed(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "bad", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        scan().find("flow", "bad")


def test_building_passes_the_config_and_everything_else(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    registry = scan()
    assert "fake_a_model" not in sys.modules
    built = registry.build(
        component("nsf", registry.find("flow", "nsf").spec().config(layers=7)), "x", shape=(2,)
    )
    assert built == (7, ("x",), {"shape": (2,)})


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("import sys\nsys.exit(1)\n", PluginError, r"flow `nsf` from fake-a 1\.0 cannot be loaded"),
        ("def build(config):\n    raise ValueError('no such D')\n", PluginError, "could not be built"),
        (
            "from flowgmm_cli.errors import *\ndef build(c):\n    raise DataError('no file')\n",
            DataError,
            "no file",
        ),
    ],
)
def test_errors_while_building_name_the_plugin_and_our_own_pass_through(
    install_flow: Any, scan: Any, model: str, error: type[Exception], message: str
) -> None:
    install_flow("fake-a", "nsf", model=model)
    with pytest.raises(error, match=message) as caught:
        scan().build(component("nsf"))
    if "ValueError" in model:
        assert caught.value.details == ("ValueError: no such D",)  # type: ignore[attr-defined]


def test_provenance(install_flow: Any, scan: Any) -> None:
    install_flow("fake-a", "nsf")
    registry = scan()
    assert registry.provenance(component("nsf")) == {
        "kind": "flow", "name": "nsf", "package": "fake-a", "version": "1.0", "api": 1,
    }  # fmt: skip
    own = registry.provenance(component("realnvp"))
    assert (own["package"], own["name"]) == ("flowgmm-cli", "realnvp")


def test_the_environment_variable_reaches_the_registry(
    install_flow: Any, fresh_registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_flow("fake-a", "nsf")
    monkeypatch.setenv("FLOWGMM_DISABLE_PLUGINS", "fake-a")
    entry = next(item for item in fresh_registry().entries("flow") if item.package == "fake-a")
    assert entry.state == "disabled"


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
