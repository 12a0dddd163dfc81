"""The tables of the papers, computed with core only. No import in this file."""
