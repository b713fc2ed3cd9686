"""Metrics, calibration and folds, all on NumPy arrays."""
