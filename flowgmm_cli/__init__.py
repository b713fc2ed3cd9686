"""FlowGMM: semi-supervised learning with normalizing flows and a Gaussian-mixture latent space."""

__version__ = "0.1.0"
__all__ = ["FlowGMMClassifier", "__version__"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .classifier.estimator import FlowGMMClassifier


def __getattr__(name: str) -> object:
    """The estimator, on first use: importing the package alone imports nothing heavy."""
    if name == "FlowGMMClassifier":
        from .classifier.estimator import FlowGMMClassifier

        return FlowGMMClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
