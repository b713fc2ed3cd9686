"""Recipes: YAML with positions, overrides, interpolation, validation."""
