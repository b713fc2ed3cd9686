"""In which module of the kit each public name is."""

from __future__ import annotations

from importlib import import_module

PLACES = {
    "CheckResult": "check",
    "ConformanceError": "check",
    "check": "check",
    "run_checks": "check",
    "Conformance": "component",
    "DataConformance": "data",
    "EncoderConformance": "encoders",
    "FlowConformance": "flows",
    "ImageFlowConformance": "images",
    "RecipesConformance": "recipes",
    "RegulariserConformance": "regularisers",
    "ScoreConformance": "scores",
    "suite_for": "suites",
}
"""Public name -> module of `flowgmm_cli.testing`."""


def look_up(name: str) -> object:
    """What `flowgmm_cli.testing` offers under a name."""
    found: object = getattr(import_module(f"flowgmm_cli.testing.{PLACES[name]}"), name)
    return found
