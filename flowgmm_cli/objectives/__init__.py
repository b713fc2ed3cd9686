"""Main losses, one file each."""
