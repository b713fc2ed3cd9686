"""Uses of a finished run: predictions, embeddings, samples, out-of-distribution scores, checks."""
