"""Rows in, tensors out: sources, label choice, splits, features, transforms."""
