"""Figures: plain results in, PNG files out."""
