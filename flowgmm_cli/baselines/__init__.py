"""Simple methods beside which a model is evaluated, each in the role of a plugin."""
