"""Crops of a target from which places are certainly gone, for the test of "not found". Positions are RAS mm."""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.annotations.organ_marks import OrganMarks
from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import apply_affine, subgrid_affine
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place

SMALLEST_CROP_MM = 120.0
"""Shorter crops are left out: no scan is so short."""


@dataclass(frozen=True)
class Crop:
    """A part of a target's scan, and the places that are certainly outside it."""

    id: str
    scan: Scan
    gone: tuple[Place, ...]


def crops_of(case: AnnotatedCase, scan: Scan, margin_mm: float) -> list[Crop]:
    """Up to two crops (head half, foot half), each with the places that lie at least `margin_mm` outside it."""
    middle, view = float(case.field_of_view.center[2]), case.field_of_view
    halves = {"head half": (middle, view.maximum[2]), "foot half": (view.minimum[2], middle)}
    crops = []
    for name, (low, high) in halves.items():
        gone = []
        for place, positions in case.places.items():
            heights = positions[:, 2] if place.kind == "landmark" else _heights(case.organs[place.name])
            if heights.max() < low - margin_mm or heights.min() > high + margin_mm:
                gone.append(place)
        if gone and high - low >= SMALLEST_CROP_MM:
            try:
                part = crop_superior_inferior(scan, low, high)
            except ScanError:
                continue
            crops.append(Crop(f"{case.id} {name}", part, tuple(gone)))
    return crops


def crop_superior_inferior(scan: Scan, low: float, high: float) -> Scan:
    """The part of a scan between two heights (S, mm), cut along the grid axis nearest to superior-inferior.

    Raises `ScanError` if fewer than two slices are left.
    """
    axis = int(np.argmax(np.abs(scan.ijk_to_ras[2, :3])))
    count = scan.voxels.shape[axis]
    indices = np.zeros((count, 3))
    indices[:, axis] = np.arange(count)
    heights = apply_affine(scan.ijk_to_ras, indices)[:, 2]
    kept = np.flatnonzero((heights >= low) & (heights <= high))
    if len(kept) < 2:
        raise ScanError("The crop leaves no slices of the scan.")
    start = np.zeros(3)
    start[axis] = kept[0]
    voxels = np.take(scan.voxels, np.arange(kept[0], kept[-1] + 1), axis=axis)
    return Scan(voxels, subgrid_affine(scan.ijk_to_ras, start, np.ones(3)), f"{scan.name} cropped")


def _heights(organ: OrganMarks) -> np.ndarray:
    return np.array([organ.box.minimum[2], organ.box.maximum[2]])
