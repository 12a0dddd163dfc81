"""Finding scans: files and folders that a user names, as a list of what `read_scan` can read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.scan.read import DICOM_SUFFIXES, VOLUME_SUFFIXES, stem_of

_NOT_SCANS = ("_seg", "_labels", "_mask")
"""Files that belong to a scan without being one: label maps beside the CT."""


def find_scans(places: Iterable[str | Path]) -> dict[str, Path]:
    """Scans by name: every volume file and every folder of DICOM slices in the given files and folders.

    The name is the file's or folder's, preceded by the folder above where two would be alike. Whether a scan can be
    read is not known yet. Raises `TrainingError` when a place does not exist or holds nothing.
    """
    paths: list[Path] = []
    for place in map(Path, places):
        if not place.exists():
            raise TrainingError(f"There is no file or folder “{place}”. Check the path given for the scans.")
        inside = sorted(_scans_in(place)) if place.is_dir() else [place]
        if not inside:
            raise TrainingError(
                f"No scans were paths in “{place}”: neither files ({', '.join(VOLUME_SUFFIXES)}) nor DICOM series."
            )
        paths += [path for path in inside if path not in paths]
    return _named(paths)


def _scans_in(folder: Path) -> list[Path]:
    """Volume files and DICOM folders below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    volumes = [
        path
        for path in files
        if path.name.lower().endswith(VOLUME_SUFFIXES) and not stem_of(path).lower().endswith(_NOT_SCANS)
    ]
    first_of_folder: dict[Path, Path] = {}
    for path in sorted(files):
        first_of_folder.setdefault(path.parent, path)
    return volumes + [parent for parent, path in first_of_folder.items() if _is_dicom(path)]


def _is_dicom(path: Path) -> bool:
    if path.name.lower().endswith(DICOM_SUFFIXES):
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # slices are often named by their UID, or have no suffix
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _named(paths: list[Path]) -> dict[str, Path]:
    names = [stem_of(path) for path in paths]
    named: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        full = name if names.count(name) == 1 else f"{path.resolve().parent.name}-{name}"
        number = 2
        while full in named:
            full, number = f"{path.resolve().parent.name}-{name}-{number}", number + 1
        named[full] = path
    return named
