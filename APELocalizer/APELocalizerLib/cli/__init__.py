"""The command line: one file per subcommand, over core, and over scene for --scene. No import in this file."""
