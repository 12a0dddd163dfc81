"""The one way to write a file: beside its place, then moved there in one step, so that nobody meets half a file."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from APELocalizerLib.core.base.errors import ResultsError

PART = ".part"
"""In the name of a file that is still being written; after a kill it may stay behind."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a file name beside `path` to write to; at the end that file takes the place of `path` in one step.

    On an error, `path` stays as it was and nothing stays beside it. The folder is made if it is missing, the ending
    is the same (writers choose the format by it), a link stays a link, and a file that was there passes on its
    permissions. Several threads and processes may write the same file: the last one wins. Raises `OSError`, and what
    the writer raises.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(target.suffixes[-2:]) if target.suffix == ".gz" else target.suffix  # as in .nii.gz
    beside = target.with_name(f".{target.stem[:40]}-{uuid.uuid4().hex[:8]}{PART}{ending}")
    try:
        yield beside
        if target.exists():
            shutil.copymode(target, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def check_writable(path: str | Path) -> None:
    """Raise `ResultsError` if no file can be written there: to be known before hours of work, not after them."""
    target = Path(path).resolve()
    if target.is_dir():
        raise ResultsError(f"“{target}” is a folder. Name a file to write.")
    ground = next(place for place in target.parents if os.path.lexists(place))
    if not ground.is_dir():
        raise ResultsError(f"“{ground}” is no folder, so nothing can be written there. Choose another place.")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise ResultsError(f"You have no permission to write into “{ground}”. Choose another place.")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file (UTF-8, line ends as given) in one step; see `replacing`."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")
