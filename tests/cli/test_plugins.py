from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from own_files import SHORT, numbers, save

from flowgmm_cli.plugins.registry import registry

SPEC = """
from flowgmm_cli.api import Config, Field, FlowSpec

class Settings(Config):
    bins: int = Field(8, ge=2, description="bins of a spline")
    width: float

nsf = FlowSpec(config=Settings, build="fake:build", summary="Splines [bold]x[/bold]", docs="A longer text.")
newer = FlowSpec(config=Settings, build="fake:build", summary="Newer", api=9)
"""

LOCAL = """
from flowgmm_cli.api import Config, Field, FlowSpec

class Settings(Config):
    layers: int = Field(1, ge=1, description="number of layers")

OWN = FlowSpec(config=Settings, build="own:build", summary="A flow of mine")

def build(config, *, shape, generator):
    from flowgmm_cli.flows.layers.affine import ElementwiseAffine
    return ElementwiseAffine(shape[0])
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
    (tmp_path / "own.py").write_text(LOCAL, encoding="utf-8")
    for name, points in {
        "good_flows": "[flowgmm.flows]\nnsf = fake_specs:nsf\nnewer = fake_specs:newer\n"
        "[flowgmm.recipes]\ngood = fake_recipes:more\n",
        "bad_flows": "[flowgmm.flows]\nbad = nowhere_at_all:spec\n",
        "malformed": "[console_scripts]\nx\n",
    }.items():
        info = tmp_path / f"{name}-0.1.dist-info"
        info.mkdir()
        about = f"Name: {name}\nVersion: 0.1\nSummary: The package {name}\n"
        (info / "METADATA").write_text(about, encoding="utf-8")
        (info / "entry_points.txt").write_text(points, encoding="utf-8")


def test_the_list_is_json_with_a_schema(flowgmm: Any) -> None:
    value = flowgmm("plugins", "list", "--json").json
    assert value["schema"] == "flowgmm/plugins/1"
    keys = {"kind", "name", "package", "version", "state", "summary"}
    assert all(keys <= set(row) for row in value["plugins"])
    own = {(row["kind"], row["name"]) for row in value["plugins"] if row["package"] == "flowgmm-cli"}
    assert {("flow", "realnvp"), ("prior", "gmm"), ("data", "csv"), ("encoder", "wordllama")} <= own


@pytest.mark.usefixtures("plugin")
def test_the_list_imports_no_plugin(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "list")
    lines = {line.split()[1]: line for line in outcome.out.splitlines()}
    assert lines["nsf"].split(maxsplit=5)[2:] == ["good-flows", "0.1", "ok", "The package good_flows"]
    assert lines["bad"].split(maxsplit=5)[2:] == ["bad-flows", "0.1", "ok", "The package bad_flows"]
    assert lines["good"].startswith("recipe")
    assert "warning: malformed 0.1: its entry points cannot be read" in outcome.err
    assert "fake_specs" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_a_check_shows_what_is_broken_or_incompatible(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "list", "--check")
    lines = {line.split()[1]: line for line in outcome.out.splitlines()}
    assert lines["nsf"].split(maxsplit=5)[2:] == ["good-flows", "0.1", "ok", "Splines [bold]x[/bold]"]
    assert "incompatible" in lines["newer"]
    assert "plugin API 9" in lines["newer"]
    assert "broken" in lines["bad"]


@pytest.mark.usefixtures("plugin")
def test_the_list_of_a_kind(flowgmm: Any) -> None:
    rows = flowgmm("plugins", "list", "--kind", "flow", "--json").json["plugins"]
    assert {row["kind"] for row in rows} == {"flow"}
    assert flowgmm("plugins", "list", "-k", "recipe", "--json").json["plugins"][0]["name"] == "good"
    assert "did you mean `flow`?" in flowgmm("plugins", "list", "--kind", "flows", code=2).err


@pytest.mark.usefixtures("plugin")
def test_a_plugin_s_recipes_are_listed_and_used(flowgmm: Any) -> None:
    rows = flowgmm("recipes", "list", "--json").json["recipes"]
    assert ("good-flows/splines", "Splines on moons") in {(row["name"], row["summary"]) for row in rows}
    flowgmm("recipes", "check", "good-flows/splines")
    flowgmm("recipes", "check", "splines")
    assert "fake_recipes" not in sys.modules


@pytest.mark.usefixtures("plugin")
def test_describe_shows_parameters(flowgmm: Any) -> None:
    outcome = flowgmm("plugins", "describe", "nsf")
    assert outcome.out.startswith("flow nsf   good-flows 0.1\n")
    for part in ("A longer text.", "bins of a spline", "a whole number of at least 2"):
        assert part in outcome.out
    (described,) = flowgmm("plugins", "describe", "good-flows/nsf", "--json").json["plugins"]
    assert [row["name"] for row in described["parameters"]] == ["bins", "width"]
    assert [row["required"] for row in described["parameters"]] == [False, True]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "part"),
    [("realnpv", "did you mean `realnvp`?"), ("bad", "nowhere_at_all"), ("newer", "this flowgmm speaks 1")],
)
def test_what_cannot_be_described_is_a_plugin_error(flowgmm: Any, name: str, part: str) -> None:
    outcome = flowgmm("plugins", "describe", name, code=4)
    assert part in outcome.err
    assert flowgmm("recipes", "show", "digits", "--resolved", "--quiet").err == ""


def test_every_snippet_is_a_piece_of_a_recipe(flowgmm: Any) -> None:
    from flowgmm_cli.recipe.yaml import read_yaml

    for row in flowgmm("plugins", "list", "--json").json["plugins"]:
        if row["kind"] in ("recipe", "baseline"):
            continue
        words = ("plugins", "describe", row["name"], "--kind", row["kind"], "--json")
        (described,) = flowgmm(*words).json["plugins"]
        piece = read_yaml(described["recipe"], "piece").plain()
        while "use" not in piece:
            (piece,) = piece if isinstance(piece, list) else piece.values()
        assert piece["use"] == row["name"]
        assert set(piece) - {"use"} <= {row["name"] for row in described["parameters"]}
        assert row["kind"] != "regulariser" or "weight" in piece


@pytest.mark.usefixtures("plugin")
def test_a_local_module_is_listed_described_and_used(flowgmm: Any, tmp_path: Path) -> None:
    missing = flowgmm("plugins", "list", "--plugin-module", "nowhere.py", code=2)
    assert "there is no file nowhere.py" in missing.err
    unknown = flowgmm("recipes", "check", "two_moons", "flow.use=own", code=4)
    assert "unknown flow `own`" in unknown.err
    registry.cache_clear()
    flag = ("--plugin-module", str(tmp_path / "own.py"))
    rows = flowgmm("plugins", "list", "--json", *flag).json["plugins"]
    (row,) = [row for row in rows if row["name"] == "own"]
    assert (row["package"], row["path"], row["summary"]) == ("own-py", flag[1], "A flow of mine")
    assert "number of layers" in flowgmm("plugins", "describe", "own", *flag).out
    flowgmm("recipes", "check", "two_moons", "flow.use=own", *flag)


SOURCES = {"import nowhere": "ModuleNotFoundError", "x = 1": "defines no component", "exit()": "SystemExit"}


@pytest.mark.parametrize(("source", "reason"), SOURCES.items())
def test_a_broken_local_module_breaks_what_needs_it_only(
    flowgmm: Any, tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "broken.py").write_text(source, encoding="utf-8")
    flag = ("--plugin-module", str(tmp_path / "broken.py"))
    listed = flowgmm("plugins", "list", *flag)
    assert reason in listed.err
    flowgmm("recipes", "check", "two_moons", *flag)
    needed = flowgmm("recipes", "check", "two_moons", "flow.use=broken", *flag, code=4)
    assert reason in needed.err


@pytest.mark.usefixtures("plugin")
def test_a_conformance_run_gives_a_verdict(flowgmm: Any, tmp_path: Path) -> None:
    value = flowgmm("plugins", "test", "gini", "--json", "--plugin-module", str(_gini(tmp_path, ""))).json
    assert [row["found"] for row in value["checks"] if row["outcome"] == "failed"] == []
    assert (value["schema"], value["verdict"]) == ("flowgmm/plugin-test/1", "passed")
    assert {row["outcome"] for row in value["checks"]} <= {"passed", "skipped"}
    assert value["passed"] + value["skipped"] == len(value["checks"])


def test_a_component_that_fails_ends_with_code_4(flowgmm: Any, tmp_path: Path) -> None:
    outcome = flowgmm("plugins", "test", "gini", "--plugin-module", str(_gini(tmp_path, ".detach()")), code=4)
    assert "test_gradients_reach_the_student\n  the terms do not depend on the model" in outcome.out
    assert outcome.out.splitlines()[-1].startswith("failed: ")
    assert "warning: regulariser `gini` from gini.py fails 1 check" in outcome.err


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("nowhere",), 4, "unknown component `nowhere`"),
        (("gmm",), 4, "no conformance suite for a component of the kind prior"),
        (("entropy",), 4, "the name of several components"),
        (("realnvp", "layers"), 2, "no parameter of the form KEY=VALUE"),
    ],
)
def test_a_component_without_tests_is_an_error(
    flowgmm: Any, words: tuple[str, ...], code: int, part: str
) -> None:
    outcome = flowgmm("plugins", "test", *words, code=code)
    assert part in outcome.err


def _gini(folder: Path, tail: str) -> Path:
    """A local regulariser; `tail` is put behind its term."""
    path = folder / "gini.py"
    path.write_text(GINI.format(tail=tail), encoding="utf-8")
    return path


GINI = """
from flowgmm_cli.api import RegulariserConfig, RegulariserSpec

GINI = RegulariserSpec(config=RegulariserConfig, build="gini:Gini", summary="Impurity")

class Gini:
    reads = frozenset({{"strong"}})

    def __init__(self, config):
        pass

    def __call__(self, model, teacher, batch):
        p = (batch.student["strong"].class_log_prob / batch.temperature).softmax(1)
        return {{"gini": ((1 - p.square().sum(1)).sum() / max(1, len(p))){tail}}}
"""


def test_a_run_is_used_without_its_regulariser_and_resumed_with_it(
    flowgmm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("t.csv", numbers(60, labelled=40))
    words = [*SHORT[:-1], "data.path=t.csv", "data.label=label", "regularisers=[{use: gini}]"]
    words += ["search={candidates: {light: {regularisers.0.weight: 0.5}}, folds: 2, keep: 1}"]
    flowgmm("train", "csv", *words, "--plugin-module", str(_gini(tmp_path, "")))
    (tmp_path / "gini.py").unlink()
    registry.cache_clear()
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", "")
    for line in ("predict t.csv", "eval", "sample", "check"):
        outcome = flowgmm(*line.split())
        assert "is used without the regulariser `gini-py/gini`" in outcome.err, line
    assert "regulariser `gini`" in flowgmm("train", "--resume", "runs/latest", code=4).err


def test_every_data_source_is_described(flowgmm: Any) -> None:
    for row in flowgmm("plugins", "list", "--kind", "data", "--json").json["plugins"]:
        assert row["summary"] in flowgmm("plugins", "describe", row["name"]).out
