"""Normalizing flows: architectures, and the layers that they consist of."""
