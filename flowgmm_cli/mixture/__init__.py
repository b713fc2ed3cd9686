"""Gaussian mixture of the latents, and its initialisation."""
