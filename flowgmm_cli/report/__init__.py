"""Reports of runs: sections with figures, an HTML page, a model card, and comparisons of runs."""
