"""The invertible layers of which flows are made, one a file."""
