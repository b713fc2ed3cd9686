"""Specs of the built-in baselines: simple methods for the same vectors and labels."""

from __future__ import annotations

from flowgmm_cli.api import BaselineSpec, Config, Spec


class NoParameters(Config):
    """A baseline without parameters: its settings are chosen by cross-validation."""


_BASELINES = {  # class, summary, documentation
    "logistic_regression": (
        "linear:LogisticRegression",
        "Multinomial logistic regression of the labelled rows",
        "Cross-validation on the labelled rows chooses C.",
    ),
    "knn": (
        "classifiers:NearestNeighbours",
        "Vote of the nearest labelled rows, weighted by distance",
        "Cross-validation on the labelled rows chooses the number of neighbours and the metric.",
    ),
    "label_spreading": (
        "label_spreading:LabelSpreading",
        "Labels spread along a graph of all rows, labelled or not",
        "Zhou et al. (2004). Cross-validation on the labelled rows chooses the graph, its metric and width, "
        "and the weight of the neighbours.",
    ),
    "self_training": (
        "linear:SelfTraining",
        "Logistic regression of the labels and of its own confident predictions",
        "Yarowsky (1995). Cross-validation on the labelled rows chooses C and the threshold.",
    ),
    "mlp": (
        "classifiers:MLP",
        "Network with one hidden layer, fitted to the labelled rows",
        "Cross-validation on the labelled rows chooses the weight decay.",
    ),
    "extra_trees": (
        "classifiers:ExtraTrees",
        "Extremely randomised trees, fitted to the labelled rows",
        "Geurts et al. (2006). Cross-validation on the labelled rows chooses the features of a split, the "
        "size of the leaves and a temperature.",
    ),
    "lda": (
        "linear:LDA",
        "Linear discriminant analysis with a shrunk covariance",
        "Cross-validation on the labelled rows chooses the shrinkage: that of Ledoit and Wolf (2004), or a "
        "fixed one, and a temperature.",
    ),
    "svm": (
        "classifiers:SVM",
        "Support vector machine with a Gaussian kernel, fitted to the labelled rows",
        "Cross-validation on the labelled rows chooses C, gamma, and the temperature of the softmax that "
        "turns its decision values into probabilities.",
    ),
}
SPECS: dict[str, Spec] = {
    name: BaselineSpec(
        config=NoParameters, build=f"flowgmm_cli.baselines.{build}", summary=summary, docs=docs
    )
    for name, (build, summary, docs) in _BASELINES.items()
}
