"""Tables larger than memory: Parquet and Arrow files that are read in parts."""
