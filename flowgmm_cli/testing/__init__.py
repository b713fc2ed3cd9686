"""Conformance kit: one suite of checks for each kind of component, which plugin authors subclass."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .checks import CheckResult as CheckResult
    from .checks import ConformanceError as ConformanceError
    from .checks import check as check
    from .checks import run_checks as run_checks
    from .component import Conformance as Conformance
    from .component import suite_for as suite_for
    from .data import DataConformance as DataConformance
    from .encoders import EncoderConformance as EncoderConformance
    from .flows import FlowConformance as FlowConformance
    from .images import ImageFlowConformance as ImageFlowConformance
    from .recipes import RecipesConformance as RecipesConformance
    from .regularisers import RegulariserConformance as RegulariserConformance
    from .scores import ScoreConformance as ScoreConformance

_MODULES = {
    "CheckResult": "checks",
    "ConformanceError": "checks",
    "check": "checks",
    "run_checks": "checks",
    "Conformance": "component",
    "suite_for": "component",
    "DataConformance": "data",
    "EncoderConformance": "encoders",
    "FlowConformance": "flows",
    "ImageFlowConformance": "images",
    "RecipesConformance": "recipes",
    "RegulariserConformance": "regularisers",
    "ScoreConformance": "scores",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name on first use: the checks of data need no torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
