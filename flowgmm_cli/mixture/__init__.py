"""The latent distribution: Gaussians for each class, and where they start."""
