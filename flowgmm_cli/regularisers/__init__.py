"""Regularisers: additional terms of the loss."""
