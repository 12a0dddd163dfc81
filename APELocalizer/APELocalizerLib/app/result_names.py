"""Names of result folders: after the scans as the user named them, and fit for every operating system."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from APELocalizerLib.core.base.file_names import distinct, shortened, unreserved

LONGEST_NAME = 150
"""Bytes of a folder's name, so that the files in it and a number behind it still fit."""

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
"""Letters that Windows takes in no file name."""


def result_folders(scans: Sequence[Path], out: Path) -> list[Path]:
    """Return the folder of each scan's results: `out` for one scan, else one in `out` per scan, named after it.

    No two are alike, even where upper and lower case are the same. A link gives its own name, not that of what it
    points to.
    """
    if len(scans) == 1:
        return [out]
    from APELocalizerLib.core.scan.read import stem_of

    names = (folder_name(stem_of(Path(os.path.abspath(scan)))) for scan in scans)
    return [out / name for name in distinct(names, "-")]


def folder_name(name: str) -> str:
    """The name itself where every operating system takes it as a folder's, else the nearest one that is."""
    safe = shortened(FORBIDDEN.sub("_", name), LONGEST_NAME).rstrip(". ")
    return unreserved(safe or "scan")
