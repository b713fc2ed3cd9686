"""Suites of components that no entry point names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flowgmm_cli.api import Spec
from flowgmm_cli.testing import Conformance, ConformanceError


def suite_of(base: type[Conformance], spec: Spec, component: type, **attributes: Any) -> type[Any]:
    """Return a suite that checks a class in place of the component that the spec builds."""

    def build_with(self: Conformance, values: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return component(self.component(**values).config, *args, **kwargs)

    members = {"published": False, "spec": spec, "build_with": build_with}
    return type("Of", (base,), {**members, **attributes})


def expect_caught(right: type[Any], wrong: type[Any], check: str) -> None:
    """Expect that a check passes for one suite, and fails under its own name for the other."""
    getattr(right(), check)()
    with pytest.raises(ConformanceError, match=check):
        getattr(wrong(), check)()
