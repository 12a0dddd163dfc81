"""The version of this software, as results and `ape-localizer --version` name it."""

VERSION = "0.1.0"
"""The same as in pyproject.toml and CITATION.cff."""
