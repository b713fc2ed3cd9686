"""Invertible maps of the feature matrix, fitted on training rows."""
