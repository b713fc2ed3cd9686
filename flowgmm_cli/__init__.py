"""FlowGMM: semi-supervised learning with normalizing flows and a Gaussian-mixture latent space."""

__version__ = "0.1.0"
