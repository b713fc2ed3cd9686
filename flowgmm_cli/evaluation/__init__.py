"""Metrics, calibration and baselines, all on NumPy arrays."""
