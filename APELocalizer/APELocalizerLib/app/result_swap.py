"""New results take the place of old ones, and a swap that was cut off is ended later. The caller holds the lock.

Files are named by their path within the folder, with "/" between the parts.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

OURS = "apelocalizer"
"""In the names of hidden folders that hold results on their way in or out."""

NEW, OLD = ".new", ".old"
"""Ends of the names of hidden folders: with results that are being written, and with those that are being replaced."""


def all_files(folder: Path) -> Iterator[str]:
    """Every file and link within a folder, but not the hidden folders of a swap."""
    for place, folders, files in os.walk(folder):
        within = Path(place)
        folders[:] = [name for name in folders if f".{OURS}-" not in name and not (within / name).is_symlink()]
        links = [item.name for item in within.iterdir() if item.is_symlink() and item.is_dir()]
        for name in (*files, *links):
            yield (within / name).relative_to(folder).as_posix()


def replace_folder(folder: Path, staging: Path, ours: set[str], _last: str) -> None:
    """Rename `staging` to `folder`; what is not `ours` in the old folder moves into the new one. Raises OSError: the
    old folder is as it was."""
    if not folder.exists():
        os.rename(staging, folder)
        return
    old = folder.with_name(f".{folder.name}.{OURS}-{uuid.uuid4().hex[:8]}{OLD}")
    os.rename(folder, old)
    try:
        os.rename(staging, folder)
    except OSError:
        os.rename(old, folder)
        raise
    _carry_over(old, folder, ours)


def restore_folder(folder: Path, ours_in: Callable[[Path], set[str] | None]) -> None:
    """End a `replace_folder` that was cut off."""
    for half in folder.parent.glob(f".{_plain(folder.name)}.{OURS}-????????{NEW}"):
        shutil.rmtree(half, ignore_errors=True)
    for old in folder.parent.glob(f".{_plain(folder.name)}.{OURS}-????????{OLD}"):
        if folder.exists():
            _carry_over(old, folder, ours_in(old) or set())
        else:
            os.rename(old, folder)


def replace_files(folder: Path, staging: Path, ours: set[str], last: str) -> None:
    """Move the files of `staging` into `folder` in place of those that are `ours`; the file `last` goes in last.

    Raises OSError: the old files are back where they were.
    """
    old = folder / f".{OURS}-{uuid.uuid4().hex[:8]}{OLD}"
    try:
        for name in sorted(ours, key=lambda name: name != last):  # that one goes first: without it a swap is not ended
            _move(folder / name, old / name)
        for name in sorted(all_files(staging), key=lambda name: name == last):
            _move(staging / name, folder / name)
    except OSError:
        for name in all_files(staging):
            (staging / name).unlink(missing_ok=True)
        _move_back(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _remove_empty_folders(folder, ours)


def restore_files(folder: Path, last: str) -> None:
    """End a `replace_files` that was cut off."""
    for half in folder.glob(f".*{OURS}-????????{NEW}"):
        shutil.rmtree(half, ignore_errors=True)
    for old in folder.glob(f".{OURS}-????????{OLD}"):
        if not (folder / last).exists():
            _move_back(old, folder)
        shutil.rmtree(old, ignore_errors=True)


def _carry_over(old: Path, folder: Path, ours: set[str]) -> None:
    """Move what is not `ours` from the old folder to the new one, and remove the old one if nothing else is in it."""
    for name in set(all_files(old)) - ours:
        if os.path.lexists(folder / name):
            return  # never over another file; what is left stays hidden beside, and is tried again
        _move(old / name, folder / name)
    for place, folders, files in os.walk(old):
        if not folders and not files and not any(name.startswith(Path(place).name + "/") for name in ours):
            (folder / Path(place).relative_to(old)).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def _move_back(old: Path, folder: Path) -> None:
    for name in list(all_files(old)):
        _move(old / name, folder / name)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)


def _remove_empty_folders(folder: Path, files: set[str]) -> None:
    """Remove the folders of these files that are empty now."""
    for name in files:
        for within in list(Path(name).parents)[:-1]:
            try:
                (folder / within).rmdir()
            except OSError:
                break


def _plain(name: str) -> str:
    """A name for `glob`, with nothing in it that stands for other letters."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
