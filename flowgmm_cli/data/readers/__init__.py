"""Rows in: files, folders, standard input and data specs, in chunks."""
