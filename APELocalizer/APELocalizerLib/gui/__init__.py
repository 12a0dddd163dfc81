"""Qt: one file per panel, no arithmetic; the only folder with translated strings. No import in this file."""
