"""FixMatch with fixed or adaptive thresholds as a regulariser of flowgmm."""
