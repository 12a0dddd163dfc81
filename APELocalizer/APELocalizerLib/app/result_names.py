"""Names of result folders: after the scans as the user named them, and fit for every operating system."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

LONGEST_NAME = 150
"""Bytes of a folder's name, so that the files in it and a number behind it still fit."""

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
"""Letters that Windows takes in no file name."""

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows gives to no file."""


def result_folders(scans: Sequence[Path], out: Path) -> list[Path]:
    """Return the folder of each scan's results: `out` for one scan, else one in `out` per scan, named after it.

    No two are alike, even where upper and lower case are the same. A link gives its own name, not that of what it
    points to.
    """
    if len(scans) == 1:
        return [out]
    from APELocalizerLib.core.scan.read import stem_of

    names: list[str] = []
    taken: set[str] = set()
    for scan in scans:
        name = base = folder_name(stem_of(Path(os.path.abspath(scan))))
        repeated = 1
        while _folded(name) in taken:
            repeated += 1
            name = f"{base}-{repeated}"
        taken.add(_folded(name))
        names.append(name)
    return [out / name for name in names]


def folder_name(name: str) -> str:
    """The name itself where every operating system takes it as a folder's, else the nearest one that is."""
    safe = FORBIDDEN.sub("_", name).encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore").rstrip(". ")
    safe = safe or "scan"
    return f"_{safe}" if RESERVED.fullmatch(safe) else safe


def _folded(name: str) -> str:
    """What two names have in common that are one file's to macOS or Windows."""
    return unicodedata.normalize("NFC", name).casefold()
