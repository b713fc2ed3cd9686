"""Pages for authors of components: their code works, their commands exist, the reference is complete."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from flowgmm_cli import api, testing
from flowgmm_cli.cli.app import app
from flowgmm_cli.flows import specs
from flowgmm_cli.plugins import registry as registries
from flowgmm_cli.testing import run_checks, suite_for
from flowgmm_cli.testing.checks import check_names

ROOT = Path(__file__).resolve().parent.parent
DOCS, CONTRIBUTING = ROOT / "docs" / "plugins", ROOT / "CONTRIBUTING.md"
PAGES = {
    "flow.md": ("flow", "planewise"),
    "data.md": ("data", "coins"),
    "regulariser.md": ("regulariser", "agreement"),
    "baseline.md": ("baseline", "decision_tree"),
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    registries.registry.cache_clear()
    yield
    registries.registry.cache_clear()


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize("page", PAGES)
def test_the_component_of_a_page_conforms(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, name = PAGES[page]
    module, suite_code = blocks(page, "python")
    file = tmp_path / f"{name}.py"
    file.write_text(module, encoding="utf-8")
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", str(file))
    names: dict[str, object] = {}
    exec(suite_code, names)
    (written,) = (one for key, one in names.items() if key.startswith("Test"))
    assert isinstance(written, type)
    entry = registries.registry().find(kind, name)
    assert issubclass(written, testing.Conformance)
    assert written.name == name
    assert type(suite_for(entry)) is type(written)
    quick = {"skip": {"test_survives_compiling": "seconds"} if kind == "flow" else {}}
    results = list(run_checks(type("Quick", (written,), quick)))
    assert [(one.check, one.problem) for one in results if one.outcome == "failed"] == []


def test_the_check_of_the_publishing_page_finds_internals(tmp_path: Path) -> None:
    (code,) = blocks("publishing.md", "python")
    names: dict[str, object] = {}
    exec(code, names)
    (tmp_path / "a.py").write_text(
        "from flowgmm_cli.api import X\nfrom flowgmm_cli.model import Y\n", encoding="utf-8"
    )
    find = names["internals_imported_by"]
    assert callable(find)
    assert find(tmp_path) == {"flowgmm_cli.model"}


def test_the_reference_has_every_name() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "api.md").read_text(encoding="utf-8"), re.M))
    assert {*api.__all__, *testing.__all__} <= named
    suites = [getattr(testing, name) for name in testing.__all__ if name.endswith("Conformance")]
    assert {name for suite in suites for name in check_names(suite)} <= named


def test_the_pages_name_every_group_and_state() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    assert all(f"`{group}`" in text for group in api.ENTRY_POINT_GROUPS)
    assert all(f"`{state}`" in text for state in ("ok", "conflict", "disabled", "incompatible", "broken"))


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_and_commands_of_a_page_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text(encoding="utf-8")):
        if "plugins/flowgmm-" not in target:
            assert (DOCS / target).exists(), target
    for words in (line.split() for block in blocks(page, "sh") for line in block.splitlines()):
        if words[0] == "flowgmm":
            command = [word for word in words[1:3] if word.isalpha()][: 2 if words[1] == "plugins" else 1]
            asked = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
            assert asked.exit_code == 0, words
            assert all(flag in asked.output for flag in words if flag.startswith("--")), words


@pytest.fixture
def walkthrough(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that the code of the section defines: the spec, the flow, `build`."""
    text = CONTRIBUTING.read_text(encoding="utf-8")
    section = text[text.index("## Add a flow") : text.index("## Add something else")]
    blocks = [
        textwrap.dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```$", section, re.M | re.S)
    ]
    parameters, module, _line = blocks
    names: dict[str, Any] = dict(vars(api))
    exec(parameters, names)
    monkeypatch.setattr(specs, "PlanewiseConfig", names["PlanewiseConfig"], raising=False)
    namespace: dict[str, Any] = {"__name__": "flowgmm_cli.flows.planewise", "PLANEWISE": names["PLANEWISE"]}
    exec(compile(module, "CONTRIBUTING.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("features", [1, 2, 5])
def test_the_flow_of_the_walkthrough_is_a_bijection(walkthrough: dict[str, Any], features: int) -> None:
    spec = walkthrough["PLANEWISE"]
    assert spec.build == "flowgmm_cli.flows.planewise:build"
    flow = walkthrough["build"](spec.config(angle=0.7), shape=(features,), generator=torch.Generator())
    x = torch.randn(4, features, generator=torch.Generator().manual_seed(0))
    z, log_det = flow(x)
    torch.testing.assert_close(flow.inverse(z), x)
    for row, value in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, value, rtol=0, atol=1e-6)
