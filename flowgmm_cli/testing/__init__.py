"""Conformance kit: one suite of checks for each kind of component, which plugin authors subclass."""

from importlib import import_module

__all__ = [
    "BaselineConformance", "CheckResult", "Conformance", "ConformanceError", "DataConformance",
    "EncoderConformance", "FlowConformance", "ImageFlowConformance", "RecipesConformance",
    "RegulariserConformance", "ScoreConformance", "check", "run_checks", "suite_for",
]  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .baselines import BaselineConformance
    from .checks import CheckResult, ConformanceError, check, run_checks
    from .component import Conformance, suite_for
    from .data import DataConformance
    from .encoders import EncoderConformance
    from .flows import FlowConformance, ImageFlowConformance
    from .recipes import RecipesConformance
    from .regularisers import RegulariserConformance
    from .scores import ScoreConformance

_MODULES = {
    "baselines": ("BaselineConformance",),
    "checks": ("CheckResult", "ConformanceError", "check", "run_checks"),
    "component": ("Conformance", "suite_for"),
    "data": ("DataConformance",),
    "encoders": ("EncoderConformance",),
    "flows": ("FlowConformance", "ImageFlowConformance"),
    "recipes": ("RecipesConformance",),
    "regularisers": ("RegulariserConformance",),
    "scores": ("ScoreConformance",),
}


def __getattr__(name: str) -> object:
    """Import a public name on first use: the checks of data need no torch."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
