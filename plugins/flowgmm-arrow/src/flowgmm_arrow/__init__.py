"""Parquet and Arrow files, and SQL, as data sources of flowgmm."""
