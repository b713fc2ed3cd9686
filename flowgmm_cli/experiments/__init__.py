"""Series of runs: accuracy against the number of labels, and grids of settings."""
