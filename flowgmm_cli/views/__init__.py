"""Random changes of rows that keep their class; one file each."""
