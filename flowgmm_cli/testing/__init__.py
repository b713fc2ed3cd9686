"""Conformance kit: one suite of checks for each kind of component, which plugin authors subclass."""

__all__ = [
    "BaselineConformance",
    "CheckResult",
    "Conformance",
    "ConformanceError",
    "DataConformance",
    "EncoderConformance",
    "FlowConformance",
    "ImageFlowConformance",
    "RecipesConformance",
    "RegulariserConformance",
    "ScoreConformance",
    "check",
    "run_checks",
    "suite_for",
]

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


def __getattr__(name: str) -> object:
    """Import a public name on first use: the checks of data need no torch."""
    if name in __all__:
        from .component import load_name

        return load_name(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
