"""The landmark library that comes with the extension, and the terms that its landmarks and organs are described by."""

from pathlib import Path

from APELocalizerLib.core.base.errors import LibraryError
from APELocalizerLib.core.base.resources import resources_folder

BUILT_IN = "built-in"
"""Name under which the command line takes the built-in library instead of a file."""

LIBRARIES = resources_folder() / "Libraries"


def built_in_library_path() -> Path | None:
    """File of the built-in library, or None if this installation has none."""
    return _existing(LIBRARIES / "torso.json")


def built_in_terms_path() -> Path | None:
    """Table of names, codes, descriptions and colors of the built-in library, or None if it is not installed."""
    return _existing(LIBRARIES / "terms.csv")


def library_file(name_or_path: str | Path) -> Path:
    """File of a library: the built-in one for the name "built-in", else the path itself.

    Raises `LibraryError` if the built-in library is asked for and is not installed.
    """
    if str(name_or_path) != BUILT_IN:
        return Path(name_or_path)
    path = built_in_library_path()
    if path is None:
        raise LibraryError(
            "This installation has no built-in library. Learn your own landmarks, or install the extension again."
        )
    return path


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None
