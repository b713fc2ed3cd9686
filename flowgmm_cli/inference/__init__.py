"""What a finished run does with rows."""
