"""Normalising flows: the layers and the architectures made of them."""
