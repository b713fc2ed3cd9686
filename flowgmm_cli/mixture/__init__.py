"""The latent distribution: one Gaussian per class."""
