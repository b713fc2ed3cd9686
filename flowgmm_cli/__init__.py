"""FlowGMM: semi-supervised learning with normalizing flows and a Gaussian-mixture latent space."""

__version__ = "0.1.0"
__all__ = ["FlowGMM", "FlowGMMClassifier", "__version__", "load"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .classifier.estimator import FlowGMMClassifier
    from .inference.loaded import FlowGMM, load


def __getattr__(name: str) -> object:
    """The estimator and loaded runs, on first use: importing the package alone imports nothing heavy."""
    if name == "FlowGMMClassifier":
        from .classifier.estimator import FlowGMMClassifier

        return FlowGMMClassifier
    if name in ("FlowGMM", "load"):
        from .inference import loaded

        return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
