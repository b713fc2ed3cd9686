"""FlowGMM as a scikit-learn estimator."""
