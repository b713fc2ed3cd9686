"""The `flowgmm` command, one module per subcommand."""
