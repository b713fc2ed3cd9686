"""Residual flows for vectors as a flow architecture of flowgmm."""
