"""Invertible layers of flows, and the networks inside them."""
