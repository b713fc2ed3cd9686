"""Experiments of several runs: accuracy by number of labels, and sweeps over settings."""
