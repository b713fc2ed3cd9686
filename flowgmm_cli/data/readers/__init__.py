"""Readers of rows in chunks: files, folders, standard input and data specs."""
