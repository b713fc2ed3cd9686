"""Answers out: files by suffix, or standard output."""
