"""FlowGMM: semi-supervised learning with normalizing flows and a Gaussian-mixture latent space."""

__version__ = "0.2.0"
__all__ = ["FlowGMM", "FlowGMMClassifier", "__version__", "load"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .estimator.classifier import FlowGMMClassifier
    from .inference.flowgmm import FlowGMM, load


def __getattr__(name: str) -> object:
    """The estimator and loaded runs, on first use: importing the package alone imports nothing heavy."""
    if name == "FlowGMMClassifier":
        from .estimator.classifier import FlowGMMClassifier

        return FlowGMMClassifier
    if name in ("FlowGMM", "load"):
        from .inference import flowgmm

        return getattr(flowgmm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names that `__getattr__` knows, too."""
    return sorted({*globals(), *__all__})
