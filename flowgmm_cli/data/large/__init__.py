"""Tables larger than memory: files of Parquet and Arrow that are read piece by piece."""
