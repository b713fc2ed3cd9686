"""`FlowGMMClassifier`, a scikit-learn estimator for rows in memory."""
