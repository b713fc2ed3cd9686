"""Components by name: discovery of installed plugins, and the registry of built-in and installed ones."""
