"""Whether a body is turned about its long axis against the scan's axes, and reading it upright all the same.

The network has seen patients whose spine is at the back of the scan. Where the header of a file is wrong, or a patient
lies turned in it, the coordinates look plausible and are wrong: of a body turned by 180 degrees, right and left are
exchanged without a sign. The bones tell it: the spine is seen at nearly every height, and its direction from the
body's middle is the turn. What the spine suspects is checked by embedding the body upright: only if the coordinates
then follow the body clearly better was it turned. Angles are degrees about S, from posterior toward left.
"""

from dataclasses import replace

import numpy as np

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coarse_ct import SPACING_MM, WINDOW_HU, CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.scan.scan import Scan

BONE_HU = (150.0, 300.0)
"""HU at which a cell begins to count as bone, and at which it counts in full."""

SPINE_CELLS, SPINE_PART, SPINE_SHARE = 7, 0.7, 0.1
"""Width of the column that holds the spine, the part of all heights at which it is seen, and how much bone it is."""

SUSPECT_DEGREES = 15.0
"""The spine of an upright patient is at most about 12 degrees off the back."""

BETTER = 0.84
"""A body was turned if its coordinates, read upright, are off an affine map of the body by less than this share."""

CELLS, FITS, LEAST_MM = 6000, 12, 5.0
"""Cells that the affine map is fitted to, how often, down-weighting outliers, and what is no outlier; mm."""


def suspected_turn(coarse_ct: CoarseCT) -> float:
    """How far the spine lies from the back, -180..180 degrees; 0 where it does not, or where no spine is seen."""
    low, high = WINDOW_HU
    hu = low + (high - low) * coarse_ct.codes.astype(np.float32) / 255.0
    bone = np.clip((hu - BONE_HU[0]) / (BONE_HU[1] - BONE_HU[0]), 0.0, 1.0)
    if min(bone.shape[:2]) < SPINE_CELLS:
        return 0.0
    share = _boxed(bone, SPINE_CELLS) / SPINE_CELLS**2
    often = np.sort(share, axis=2)[:, :, int((1.0 - SPINE_PART) * share.shape[2])]
    spine = np.array(np.unravel_index(int(_boxed(often, 3).argmax()), often.shape))
    if often[tuple(spine)] < SPINE_SHARE:
        return 0.0
    posterior, left = (spine - _middle(coarse_ct.codes > 0)) * SPACING_MM
    turn = float(np.degrees(np.arctan2(left, posterior)))
    return turn if abs(turn) > SUSPECT_DEGREES else 0.0


def upright(scan: Scan, degrees: float) -> tuple[Scan, np.ndarray]:
    """A scan of the same voxels whose header turns the body's spine to the back, and the matrix (4, 4) that does so."""
    turning = _turning(np.radians(degrees), scan.bounds().center)
    return Scan(scan.voxels, turning @ scan.ijk_to_ras, scan.name), turning


def turned_back(embedding_map: EmbeddingMap, turning: np.ndarray, field_of_view: Box) -> EmbeddingMap:
    """The map of an upright body in the place where the scan shows it; `field_of_view` is the scan's."""
    grid = np.linalg.inv(turning) @ embedding_map.grid_to_ras
    return replace(embedding_map, grid_to_ras=grid, field_of_view=field_of_view)


def coarse_ct_turned_back(coarse_ct: CoarseCT, turning: np.ndarray) -> CoarseCT:
    """The coarse CT of an upright body in the place where the scan shows it."""
    return CoarseCT(coarse_ct.codes, np.linalg.inv(turning) @ coarse_ct.grid_to_ras)


def is_better(upright_map: EmbeddingMap, as_scanned: EmbeddingMap) -> bool:
    """Whether a body was turned: its coordinates follow it clearly better where it is read upright."""
    return misfit_mm(upright_map) < BETTER * misfit_mm(as_scanned)


def misfit_mm(embedding_map: EmbeddingMap) -> float:
    """Median distance in mm of a map's coordinates from an affine map of the places in the body."""
    cells = np.argwhere(embedding_map.body)
    values = embedding_map.values[embedding_map.body].astype(np.float64)
    if len(cells) > CELLS:
        chosen = np.random.default_rng(0).choice(len(cells), CELLS, replace=False)
        cells, values = cells[chosen], values[chosen]
    places = np.column_stack([embedding_map.to_ras(cells), np.ones(len(cells))])
    weights, away = np.ones(len(cells)), np.zeros(len(cells))
    for _ in range(FITS):
        root = np.sqrt(weights)[:, None]
        affine = np.linalg.lstsq(places * root, values * root, rcond=None)[0]
        away = np.linalg.norm(values - places @ affine, axis=1)
        weights = 1.0 / (1.0 + (away / max(float(np.median(away)), LEAST_MM)) ** 2)
    return float(np.median(away))


def sentence(degrees: float) -> str:
    """What is said of a turned body."""
    how = "prone" if abs(degrees) > 135 else "lying on its side" if abs(degrees) > 60 else "rolled to one side"
    return (
        f"The body appears turned by about {abs(degrees):.0f}° against the scan's axes (as if {how}), and was read "
        "upright. Check the orientation in the file; sizes of boxes are less accurate."
    )


def _turning(angle: float, center: np.ndarray) -> np.ndarray:
    """Rotation (4, 4) by radians from left toward posterior, about the S axis through a RAS position (3,)."""
    turning = np.eye(4)
    turning[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turning[:3, 3] = center - turning[:3, :3] @ center
    return turning


def _middle(body: np.ndarray) -> np.ndarray:
    """Median over all heights of the body's center (p, l), in cells."""
    rows, columns = body.sum(axis=1), body.sum(axis=0)
    count = np.maximum(rows.sum(axis=0), 1)
    centers = [(np.arange(len(along))[:, None] * along).sum(axis=0) / count for along in (rows, columns)]
    shown = rows.sum(axis=0) > rows.sum(axis=0).max() / 10
    return np.array([np.median(center[shown]) for center in centers])


def _boxed(volume: np.ndarray, width: int) -> np.ndarray:
    """Sums over squares of `width` cells along the first two axes, 0 outside; the same shape."""
    half = width // 2
    for axis in (0, 1):
        pads = [(half, half) if a == axis else (0, 0) for a in range(volume.ndim)]
        padded = np.pad(volume, pads)
        length = volume.shape[axis]
        volume = np.sum([padded.take(range(n, n + length), axis) for n in range(width)], axis=0)
    return volume
