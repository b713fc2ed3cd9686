"""Continuous flows with regularised trajectories as a flow architecture of flowgmm."""
