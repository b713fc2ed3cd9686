"""Contracts between flowgmm and its components; plugins import them from `flowgmm_cli.api`."""
