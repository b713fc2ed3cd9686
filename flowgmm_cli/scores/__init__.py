"""Out-of-distribution scores and the detector that keeps them."""
