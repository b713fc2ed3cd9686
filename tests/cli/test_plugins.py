from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

SPEC = """
from flowgmm_cli.api import Config, Field, FlowSpec

class Settings(Config):
    bins: int = Field(8, ge=2, description="bins of a spline")
    width: float

nsf = FlowSpec(config=Settings, build="fake:build", summary="Splines [bold]x[/bold]", docs="A longer text.")
newer = FlowSpec(config=Settings, build="fake:build", summary="Newer", api=9)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed: a healthy plugin with recipes, a broken one, and one with malformed metadata."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("fake_specs", "fake_recipes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "fake_specs.py").write_text(SPEC, encoding="utf-8")
    (tmp_path / "fake_recipes" / "more").mkdir(parents=True)
    (tmp_path / "fake_recipes" / "__init__.py").write_text("raise RuntimeError", encoding="utf-8")
    text = (
        "# Splines on moons\nversion: 1\ndata: {use: sklearn, name: two_moons}\nflow: {use: nsf, width: 2}\n"
    )
    (tmp_path / "fake_recipes" / "more" / "splines.yaml").write_text(text, encoding="utf-8")
    for name, points in {
        "good_flows": "[flowgmm.flows]\nnsf = fake_specs:nsf\nnewer = fake_specs:newer\n"
        "[flowgmm.recipes]\ngood = fake_recipes:more\n",
        "bad_flows": "[flowgmm.flows]\nbad = nowhere_at_all:spec\n",
        "malformed": "[console_scripts]\nx\n",
    }.items():
        info = tmp_path / f"{name}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {name}\nVersion: 0.1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(points, encoding="utf-8")


def test_the_list_is_json_with_a_schema(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "list", "--json")
    value = json.loads(outcome.out)
    assert outcome.code == 0
    assert value["schema"] == "flowgmm/plugins/1"
    keys = {"kind", "name", "package", "version", "state", "summary"}
    assert all(keys <= set(row) for row in value["plugins"])
    own = {(row["kind"], row["name"]) for row in value["plugins"] if row["package"] == "flowgmm-cli"}
    assert {("flow", "realnvp"), ("prior", "gmm"), ("data", "csv"), ("encoder", "wordllama")} <= own


@pytest.mark.usefixtures("plugin")
def test_the_list_shows_states_and_problems(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "list")
    assert outcome.code == 0
    lines = {line.split()[1]: line for line in outcome.out.splitlines()}
    assert lines["nsf"].split(maxsplit=5)[2:] == ["good-flows", "0.1", "ok", "Splines [bold]x[/bold]"]
    assert "incompatible" in lines["newer"]
    assert "plugin API 9" in lines["newer"]
    assert "broken" in lines["bad"]
    assert lines["good"].startswith("recipe")
    assert "warning: malformed 0.1: its entry points cannot be read" in outcome.err


@pytest.mark.usefixtures("plugin")
def test_one_kind_only(flowgmm: Any) -> None:
    rows = json.loads(flowgmm("plugins", "list", "--kind", "flow", "--json").out)["plugins"]
    assert {row["kind"] for row in rows} == {"flow"}
    assert (
        json.loads(flowgmm("plugins", "list", "-k", "recipe", "--json").out)["plugins"][0]["name"] == "good"
    )


def test_an_unknown_kind_is_a_usage_error(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "list", "--kind", "flows")
    assert outcome.code == 2
    assert "did you mean `flow`?" in outcome.err


@pytest.mark.usefixtures("plugin")
def test_plugins_can_be_switched_off(flowgmm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWGMM_DISABLE_PLUGINS", "all")
    rows = json.loads(flowgmm("plugins", "list", "--json").out)["plugins"]
    foreign = [row for row in rows if row["package"] != "flowgmm-cli"]
    assert {row["state"] for row in foreign} == {"disabled"}
    assert "fake_specs" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_a_plugin_s_recipes_are_listed_and_used(flowgmm: Any) -> None:
    rows = json.loads(flowgmm("recipes", "list", "--json").out)["recipes"]
    assert ("good-flows/splines", "Splines on moons") in {(row["name"], row["summary"]) for row in rows}
    assert flowgmm("recipes", "check", "good-flows/splines").code == 0
    assert flowgmm("recipes", "check", "splines").code == 0
    assert "fake_recipes" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_describe_shows_parameters(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "describe", "nsf")
    assert outcome.code == 0
    for part in (
        "flow nsf   good-flows 0.1",
        "A longer text.",
        "bins of a spline",
        "a whole number of at least 2",
    ):
        assert part in outcome.out
    (described,) = json.loads(flowgmm("plugins", "describe", "good-flows/nsf", "--json").out)["plugins"]
    assert [one["name"] for one in described["parameters"]] == ["bins", "width"]
    assert [one["required"] for one in described["parameters"]] == [False, True]


def test_describe_every_built_in(flowgmm: Any) -> None:
    for row in json.loads(flowgmm("plugins", "list", "--kind", "data", "--json").out)["plugins"]:
        outcome = flowgmm("plugins", "describe", row["name"])
        assert outcome.code == 0
        assert row["summary"] in outcome.out


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "part"),
    [("realnpv", "did you mean `realnvp`?"), ("bad", "nowhere_at_all"), ("newer", "this flowgmm speaks 1")],
)
def test_what_cannot_be_described_is_a_plugin_error(flowgmm: Any, name: str, part: str) -> None:
    outcome = flowgmm("plugins", "describe", name)
    assert outcome.code == 4
    assert part in outcome.err


@pytest.mark.usefixtures("plugin")
def test_broken_plugins_leave_other_commands_alone(flowgmm: Any) -> None:
    words = ("train.epochs=2", "data.name=two_moons", "--resolved", "--quiet")
    outcome = flowgmm("recipes", "show", "digits", *words)
    assert (outcome.code, outcome.err) == (0, "")
