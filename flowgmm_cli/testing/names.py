"""The modules of the public names of `flowgmm_cli.testing`."""

from __future__ import annotations

from importlib import import_module

_MODULES = {
    "checks": ("CheckResult", "ConformanceError", "check", "run_checks"),
    "component": ("Conformance", "suite_for"),
    "data": ("DataConformance",),
    "encoders": ("EncoderConformance",),
    "flows": ("FlowConformance", "ImageFlowConformance"),
    "recipes": ("RecipesConformance",),
    "regularisers": ("RegulariserConformance",),
    "scores": ("ScoreConformance",),
}


def load(name: str) -> object:
    """Import a public name."""
    module = next(module for module, names in _MODULES.items() if name in names)
    return getattr(import_module(f"flowgmm_cli.testing.{module}"), name)
