"""Losses added to the objective, one file each."""
