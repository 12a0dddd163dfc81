"""Names of files and folders that every operating system takes and tells apart."""

import re
import unicodedata
from collections.abc import Iterable

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows gives to no file, whatever their ending."""


def shortened(name: str, most_bytes: int) -> str:
    """The beginning of a name, of at most so many bytes and of whole letters."""
    return name.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")


def unreserved(name: str) -> str:
    """The name, with a leading underscore where Windows would refuse it."""
    return f"_{name}" if RESERVED.fullmatch(name) else name


def distinct(names: Iterable[str], separator: str) -> list[str]:
    """The names, numbered from 2 on where they repeat, also where only upper and lower case differ."""
    taken: set[str] = set()
    results = []
    for base in names:
        name, number = base, 1
        while _folded(name) in taken:
            number += 1
            name = f"{base}{separator}{number}"
        taken.add(_folded(name))
        results.append(name)
    return results


def _folded(name: str) -> str:
    """What two names have in common that are one file's to macOS or Windows."""
    return unicodedata.normalize("NFC", name).casefold()
