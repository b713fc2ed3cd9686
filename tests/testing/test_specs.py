from __future__ import annotations

from typing import Any

import pytest
import wrong_flows
import wrong_specs

from flowgmm_cli.api import FlowSpec
from flowgmm_cli.testing import ConformanceError, FlowConformance, run_checks, suite_for
from flowgmm_cli.testing.checks import check_names

WRONG = [
    ("test_spec_is_complete", "NO_SUMMARY", "`summary` is empty"),
    ("test_spec_is_complete", "TWO_LINES", "more than one line"),
    ("test_spec_is_complete", "UNDOCUMENTED", "no `description` for layers"),
    ("test_spec_is_complete", "NEWER", "`api` is 99"),
    ("test_spec_is_complete", "NO_COLON", "not `module:callable`"),
    ("test_defaults_are_valid", "BAD_DEFAULT", "greater than or equal to 1"),
    ("test_config_survives_yaml", "NOT_YAML", "complex"),
    ("test_config_has_a_json_schema", "NO_SCHEMA", "JsonSchema"),
    ("test_build_can_be_imported", "NOWHERE", "No module named 'nowhere_at_all'"),
    ("test_build_can_be_imported", "NO_CALLABLE", "which cannot be called"),
]


def suite_of(spec: FlowSpec, **attributes: Any) -> FlowConformance:
    suite: FlowConformance = type(
        "OfSpec", (FlowConformance,), {"spec": spec, "published": False, **attributes}
    )()
    return suite


@pytest.mark.parametrize(("check", "spec", "actual"), WRONG, ids=[item[1] for item in WRONG])
def test_each_wrong_spec_is_caught_by_the_check_that_names_it(check: str, spec: str, actual: str) -> None:
    getattr(suite_of(wrong_specs.RIGHT), check)()
    with pytest.raises(ConformanceError, match=check) as caught:
        getattr(suite_of(getattr(wrong_specs, spec)), check)()
    assert actual in caught.value.problem


def test_heavy_imports_are_detected_in_a_fresh_interpreter() -> None:
    suite_of(wrong_specs.RIGHT).test_import_is_light()
    with pytest.raises(ConformanceError, match="importing wrong_flows imports numpy, torch"):
        suite_of(wrong_flows.SPEC).test_import_is_light()


def test_a_spec_that_no_entry_point_names_is_not_published() -> None:
    with pytest.raises(ConformanceError, match="no installed entry point names this spec"):
        suite_of(wrong_specs.RIGHT, published=True).test_entry_point_resolves()


def test_an_unknown_name_is_reported() -> None:
    suite = type("OfName", (FlowConformance,), {"name": "realnpv"})()
    with pytest.raises(ConformanceError, match="did you mean `realnvp`"):
        suite.test_shapes()


def test_an_unknown_parameter_is_reported() -> None:
    with pytest.raises(ConformanceError, match="unknown key for ofspec; did you mean"):
        suite_of(wrong_specs.RIGHT, config={"layer": 3}).test_shapes()


def test_what_is_skipped_must_exist_and_have_a_reason() -> None:
    with pytest.raises(ConformanceError, match="test_nothing, which this suite does not have"):
        suite_of(wrong_specs.RIGHT, skip={"test_nothing": "why not"}).test_what_is_skipped_exists()
    with pytest.raises(ConformanceError, match="gives no reason"):
        suite_of(wrong_specs.RIGHT, skip={"test_shapes": ""}).test_what_is_skipped_exists()


def test_checks_of_the_author_s_own_belong_to_the_suite() -> None:
    class Own(FlowConformance):
        spec = wrong_specs.RIGHT
        skip = dict.fromkeys(check_names(FlowConformance), "not now")

        def test_of_my_own(self) -> None:
            raise KeyError("mine")

    last = list(run_checks(Own))[-1]
    assert (last.check, last.outcome, last.problem) == ("test_of_my_own", "failed", "KeyError: 'mine'")


def test_the_suite_of_a_component_is_its_own_or_that_of_its_kind() -> None:
    from dataclasses import replace

    from flowgmm_cli.errors import PluginError
    from flowgmm_cli.plugins.registry import registry

    entry = registry().find("flow", "realnvp")
    suite = suite_for(entry, {"hidden": 8})
    assert issubclass(suite, FlowConformance)
    assert (suite.name, suite.config) == ("flowgmm-cli/realnvp", {"hidden": 8})
    assert entry.loaded is not None

    def naming(place: str) -> Any:
        assert entry.loaded is not None
        return replace(entry, loaded=replace(entry.loaded, conformance=place))

    assert suite_for(naming("own_suites:Small")).dims == (3,)
    with pytest.raises(PluginError, match="is not a suite of"):
        suite_for(naming("wrong_flows:Right"))
    image = registry().find("flow", "glow")
    assert suite_for(image).__name__ == "GlowConformance"
    assert image.loaded is not None
    unnamed: Any = replace(image, loaded=replace(image.loaded, conformance=""))
    assert suite_for(unnamed).__name__ == "ImageFlowConformance"
    with pytest.raises(PluginError, match="no conformance suite for a component of the kind prior"):
        suite_for(registry().find("prior", "gmm"))
