"""Files as a user has them: scans, label maps and tables of annotations."""

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, phantom_landmarks

SHAPE, SPACING = (72, 48, 44), (5.0, 5.0, 6.0)
"""Voxels and mm of the torso in `small_torso`."""

POINTS = {"bone": (0.0, -70.0, -30.0), "left lung": (-75.0, 5.0, 50.0), "right lung": (75.0, 5.0, 55.0)}
"""Landmarks in the torso: name and RAS mm."""

BOXES = {"right lung box": ((15.0, -75.0, -7.0), (135.0, 85.0, 117.0))}
"""Organs in the torso: name, and the RAS corners of the box."""


def small_torso(name: str = "torso") -> Scan:
    """The torso in few voxels, from far left to far right, stored along R, A and S."""
    return body_phantom(SHAPE, SPACING, name=name)


def write_voxels(path: Path, voxels: np.ndarray, ijk_to_ras: np.ndarray | None = None) -> Path:
    """Write voxels (i, j, k), which need be no CT, on the given grid or on that of `small_torso`."""
    matrix = grid_to_ras(SHAPE, SPACING) if ijk_to_ras is None else ijk_to_ras
    matrix = np.diag([-1.0, -1.0, 1.0, 1.0]) @ matrix  # RAS to LPS, as files have it
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_scan(path: Path, scan: Scan) -> Path:
    """Write a scan."""
    return write_voxels(path, scan.voxels, scan.ijk_to_ras)


def write_torso(path: Path, **changes) -> Path:
    """Write a torso of about 400 x 280 x 240 mm; `changes` are those of `body_phantom`."""
    return write_scan(path, body_phantom(**changes))


def write_landmarks(path: Path, scans: dict[str, dict]) -> Path:
    """Write a table of the torso's landmarks; `scans` has each case's scale and shift."""
    places = {case: phantom_landmarks(**changes) for case, changes in scans.items()}
    rows = [[case, name, *position] for case, named in places.items() for name, position in named.items()]
    return write_table(path, "case,name,r_mm,a_mm,s_mm", rows)


def write_table(path: Path, columns: str, rows: list) -> Path:
    """Write a .csv with the given header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a .csv with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def refused(path: Path) -> str:
    """The sentence with which a scan's file or folder is refused."""
    with pytest.raises(ScanError) as refusal:
        read_scan(path)
    return str(refusal.value)
