"""A small synthetic body to learn on and to search, and the tables that go with it."""

import csv
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SPACING = np.array([5.0, 5.0, 6.0])
SHAPE = (56, 44, 50)

POINTS = {"bone": (40.0, 20.0, -30.0), "left lung": (-55.0, 0.0, 50.0), "right lung": (55.0, 0.0, 50.0)}
"""Landmarks in the phantom: name and RAS mm."""

BOXES = {"right lung box": ((25.0, -35.0, 0.0), (85.0, 35.0, 100.0))}
"""Organs in the phantom: name, and the RAS corners of the box."""


def phantom_voxels() -> np.ndarray:
    """Voxels (i, j, k) of an elliptic body with two unequal lungs, a spine and a bone; i runs to the right."""
    i, j, k = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True)], indexing="ij"
    )
    voxels = np.full(SHAPE, -1000.0)
    texture = 25 * np.sin(i / 17 + j / 29) * np.cos(k / 23 - i / 31)
    voxels[(i / 120) ** 2 + (j / 85) ** 2 < 1] = 0
    voxels += np.where(voxels > -500, 40 + texture, 0)
    for center, radii in (((55, 0, 50), (30, 35, 50)), ((-55, 0, 50), (26, 30, 45))):
        voxels[sum(((x - c) / r) ** 2 for x, c, r in zip((i, j, k), center, radii, strict=True)) < 1] = -800
    voxels[(i / 18) ** 2 + ((j + 55) / 18) ** 2 < 1] = 500
    voxels[(i - 40) ** 2 + (j - 20) ** 2 + (k + 30) ** 2 < 15**2] = 900
    return voxels.astype(np.int16)


def write_phantom(path: Path, voxels: np.ndarray) -> Path:
    """Write voxels (i, j, k) with the grid's center at the RAS origin."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0)))
    image.SetSpacing(SPACING.tolist())
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    half = (np.array(SHAPE) - 1) / 2 * SPACING
    image.SetOrigin([half[0], half[1], -half[2]])
    sitk.WriteImage(image, str(path))
    return path


def write_table(path: Path, columns: str, rows: list) -> Path:
    """Write a .csv with the given header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns.split(","), *rows])
    return path


def read_table(path: Path) -> list[dict[str, str]]:
    """Read a .csv with a header."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
