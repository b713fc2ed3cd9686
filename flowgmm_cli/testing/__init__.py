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

__all__ = [
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


def __getattr__(name: str) -> object:
    """Import a public name on first use: the checks of data need no torch."""
    if name in __all__:
        from .names import load

        return load(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
