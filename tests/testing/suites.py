"""Suites of components that no entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flowgmm_cli.api import Spec
from flowgmm_cli.testing import Conformance, ConformanceError, run_checks


def suite_of(base: type[Conformance], spec: Spec, component: type, **attributes: Any) -> type[Any]:
    """Return a suite that checks a class in place of the component that the spec builds."""

    def build_with(self: Conformance, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return component(self.component(**values).config, *args, **kwargs)

    members = {"published": False, "spec": spec, "build_with": build_with}
    return type("Of", (base,), {**members, **attributes})


def expect_caught(right: type[Any], wrong: type[Any], case: str) -> None:
    """Expect that a check passes for one suite, and fails under its own name for the other.

    `case` is the name of the check, and perhaps a word more.
    """
    check = case.partition(" ")[0]
    getattr(right(), check)()
    with pytest.raises(ConformanceError) as caught:
        getattr(wrong(), check)()
    assert caught.value.check == check
    assert str(caught.value).startswith(f"{check}: {right().kind} `Of`: ")
    assert "fix: " in str(caught.value)


def failures(base: type[Conformance], name: str, **attributes: Any) -> list[tuple[str, str]]:
    """Return the checks that a built-in component fails, with the reasons."""
    skip = {"test_import_is_light": "looked at for all built-ins at once"}
    suite = type("Of", (base,), {"name": name, "skip": skip, **attributes})
    return [(item.check, item.problem) for item in run_checks(suite) if item.outcome == "failed"]
