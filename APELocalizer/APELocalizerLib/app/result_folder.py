"""Folders of results: complete or as they were before, and nothing of a user's is ever removed or overwritten.

A result folder carries `run.json`, which says what was written into it and how. Only what is listed there, and was not
changed since, is replaced by the next run; whatever else lies in the folder stays. A folder that holds anything and
carries no such file is refused, unless it holds the results of an earlier version as a whole.

New results are written into a hidden folder beside, which takes the place of the old one by a rename. Where a folder
cannot be renamed (a mounted disk, the folder in which the user stands) its files are moved one by one, and moved back
should that fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from APELocalizerLib.app.result_swap import (
    NEW,
    OURS,
    all_files,
    replace_files,
    replace_folder,
    restore_files,
    restore_folder,
)
from APELocalizerLib.core.base.errors import ResultsError
from APELocalizerLib.core.base.locks import locked
from APELocalizerLib.core.base.packed import load_json

RUN_FILE = "run.json"
"""Says what was written into a result folder and how: the mark by which a folder is known as ours."""

FORMAT = "APELocalizer results"
"""Of `run.json`."""

VERSION = 1
"""Of `run.json`."""

OUTPUTS = ("landmarks.mrk.json", "boxes.csv", "rois", "results.csv", "map.nrrd", "scene.mrb", "views.png")
"""What a run writes besides `run.json`."""

EARLIER = {
    "landmarks.mrk.json": b"markups-schema",
    "boxes.csv": b"name,status,rmin,rmax,amin,amax,smin,smax,alpha,",
    "results.csv": b"name,kind,status,r_mm,a_mm,s_mm,",
    "map.nrrd": b"APELocalizer:=",
}
"""What the beginning of each file holds by which the results of earlier versions, without `run.json`, are known."""

IGNORED = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What file managers leave in an otherwise empty folder."""

LONGEST_NAME = 200
"""Bytes of a folder's name; the hidden folder beside needs a few more than that, and no system takes more than 255."""

WAIT_S = 2.0
"""How long another program may keep the folder: it only looks after what was left half-done, or it is a run."""

NAMED = 5
"""So many of the files that are in the way are named."""


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Keep the folder for this program's results until they are written; nothing in it changes.

    Raises `ResultsError` at once, so before anything is computed, if the results cannot be written there: the folder
    holds what is not ours, cannot be written to, or another program is writing into it. What a program that was killed
    left half-done there is put in order.
    """
    folder = Path(os.path.realpath(folder))
    check_usable(folder, but_for_files=True)
    missing = [parent for parent in folder.parents if not parent.exists()]
    with ExitStack() as stack:
        stack.callback(_remove_empty, missing)
        try:
            stack.enter_context(locked(_locked_path(folder), wait_s=WAIT_S))
            _put_in_order(folder)
        except TimeoutError as error:
            raise ResultsError(
                f"Another program is writing results into “{folder}” right now. Wait until it has ended, or choose "
                "another folder."
            ) from error
        except OSError as error:
            raise ResultsError(f"No results can be written into “{folder}” ({error.strerror or error}).") from error
        check_usable(folder)
        yield


@contextmanager
def staged(folder: Path, record: Mapping[str, Any] | None = None) -> Iterator[Path]:
    """Give an empty hidden folder whose content becomes that of `folder` at the end, and vanishes on an error.

    `record` is written beside the results as `run.json`. What earlier runs wrote goes as a whole; other files stay.
    Raises `ResultsError` if the old results cannot be replaced: they are as they were.
    """
    folder = Path(os.path.realpath(folder))
    within = _stays_in_place(folder)
    place, name = (folder, "") if within else (folder.parent, folder.name)
    place.mkdir(parents=True, exist_ok=True)
    staging = place / f".{name}.{OURS}-{uuid.uuid4().hex[:8]}{NEW}"
    staging.mkdir()
    if folder.is_dir():
        shutil.copymode(folder, staging)
    try:
        yield staging
        written = {name: digest_of(staging / name) for name in sorted(all_files(staging))}
        content = {"format": FORMAT, "version": VERSION, **(record or {}), "files": list(written), "sha256": written}
        (staging / RUN_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        old = written_by_us(folder) or set()
        try:
            (replace_files if within else replace_folder)(folder, staging, old, RUN_FILE)
        except OSError as error:
            raise ResultsError(
                f"The old results in “{folder}” cannot be replaced ({error.strerror or error}). They are as they were: "
                "close programs that have them open, or choose another folder."
            ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_usable(folder: Path, but_for_files: bool = False) -> None:
    """Raise `ResultsError`, which names what is in the way, if no results may be written into the folder.

    With `but_for_files` only the folder itself is looked at, not what it holds.
    """
    if len(os.fsencode(folder.name)) > LONGEST_NAME:
        raise ResultsError(
            f"The name “{folder.name[:30]}…” is too long. Give the folder one of {LONGEST_NAME} letters."
        )
    ground = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not ground.is_dir():
        raise ResultsError(f"“{ground}” is no folder, so no results can be written there. Choose another folder.")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise ResultsError(f"You have no permission to write into “{ground}”. Choose another folder.")
    if ground != folder or but_for_files:
        return
    in_the_way = sorted(_in_the_way(folder))
    if in_the_way:
        more = f" and {len(in_the_way) - NAMED} more" if len(in_the_way) > NAMED else ""
        raise ResultsError(
            f"“{folder}” holds files that APELocalizer did not write, or that were changed since: "
            f"{', '.join(in_the_way[:NAMED])}{more}. Nothing "
            "was changed. Choose a new or empty folder for the results, or move these files."
        )


def written_by_us(folder: Path) -> set[str] | None:
    """Files in the folder as an earlier run wrote them, as paths within it; None if it is not a folder of results.

    A file that was changed since is the user's. Runs of earlier versions did not note what their files held.
    """
    present = set(all_files(folder)) if folder.is_dir() else set()
    try:
        content = load_json((folder / RUN_FILE).read_bytes())
        if content["format"] == FORMAT:
            digests = dict(content.get("sha256", {}))
            listed = {str(name) for name in content["files"]} & present
            return {RUN_FILE} & present | {name for name in listed if _is_as_written(folder / name, digests.get(name))}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if all(_begins_with(folder / name, sign) for name, sign in EARLIER.items()):
        return {name for name in present if name.split("/")[0] in OUTPUTS}
    return None


def digest_of(file: Path) -> str:
    """SHA-256 of what a file holds, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _is_as_written(file: Path, digest: object) -> bool:
    """Whether a file holds what was written; taken for granted where that was not noted."""
    return digest is None or digest_of(file) == digest


def _in_the_way(folder: Path) -> set[str]:
    """What keeps results out of a folder: all it holds if it is none of ours, else what has the name of a result."""
    present = {name for name in all_files(folder) if name not in IGNORED and not name.startswith(f".{RUN_FILE}.lock")}
    ours = written_by_us(folder)
    if ours is None:
        return present
    return {name for name in present - ours if name.split("/")[0] in OUTPUTS}


def _begins_with(file: Path, sign: bytes) -> bool:
    """Whether the first part of a file holds these bytes."""
    try:
        with file.open("rb") as stream:
            return sign in stream.read(1 << 16)
    except OSError:
        return False


def _stays_in_place(folder: Path) -> bool:
    """Whether the folder is there and cannot, or should not, be renamed."""
    if not folder.is_dir():
        return False
    here = os.path.realpath(os.curdir)
    within = here == str(folder) or here.startswith(f"{folder}{os.sep}")
    return within or os.path.ismount(folder) or not os.access(folder.parent, os.W_OK | os.X_OK)


def _locked_path(folder: Path) -> Path:
    return folder / RUN_FILE if _stays_in_place(folder) else folder


def _put_in_order(folder: Path) -> None:
    """End what programs that were killed left: half-written results go, and old ones come back where none are."""
    if _stays_in_place(folder):
        restore_files(folder, RUN_FILE)
        return
    restore_folder(folder, written_by_us)
    pattern = re.compile(rf"\.(.+)\.{OURS}-[0-9a-f]{{8}}\.(new|old)")
    names = {match[1] for item in folder.parent.iterdir() if (match := pattern.fullmatch(item.name))}
    for name in names - {folder.name}:
        try:
            with locked(folder.with_name(name), wait_s=0.0):
                restore_folder(folder.with_name(name), written_by_us)
        except (TimeoutError, OSError):
            pass  # another program is at work there


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
