"""Label maps: volumes whose voxels hold the number of the organ they belong to; one reader for all their uses."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import AnnotationError, ScanError
from APELocalizerLib.core.base.geometry import Box, grid_corners, shape_of, spacing_of
from APELocalizerLib.core.scan.read import DICOM_SUFFIXES, read_volume
from APELocalizerLib.core.scan.scan import check_geometry
from APELocalizerLib.core.scan.volume import Volume

ROUNDING = 0.01
"""Largest distance of a stored value from a whole number that still is that label: scale factors are rounded."""

COARSEST_ROUNDING = 0.05
"""The same where the file stores few levels: half a level, at most this."""

SAME_PLACE_VOXELS = 1.0
"""Distance of equally numbered voxels, in voxels, up to which a label map and a scan of one size lie alike."""

LEAST_SHARED = 0.5
"""Part of the box around all labels that must lie in the scan."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels (i, j, k) int32 on a grid of their own, with its 4x4 index→RAS mm.

    `warnings` say what the file left open and which rule was taken.
    """

    labels: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "label map"
    warnings: tuple[str, ...] = ()


def read_label_map(path: str | Path) -> LabelMap:
    """Read a NIfTI, NRRD or MetaImage file.

    Raises `AnnotationError` for a file that is damaged or that is not one three-dimensional volume of whole numbers.
    """
    path = Path(path)
    if path.name.lower().endswith(DICOM_SUFFIXES) or path.is_dir():
        raise AnnotationError(
            f"“{path.name}” seems to be DICOM. Load the segmentation in Slicer, export it as label map and save that "
            "as a NIfTI or NRRD file."
        )
    try:
        volume = read_volume(path)
        if volume.voxels.ndim == 3:
            check_geometry(volume.ijk_to_ras, path.name)
    except ScanError as error:
        raise AnnotationError(str(error)) from error
    if volume.voxels.ndim != 3 or volume.values_per_voxel != 1:
        raise AnnotationError(
            f"“{path.name}” is not one three-dimensional label map. In Slicer, export the segmentation as label map."
        )
    return LabelMap(_whole_numbers(volume, path.name), volume.ijk_to_ras, path.name, volume.warnings)


def check_place(
    label_map: LabelMap, view: Box, shape: tuple[int, ...] | None = None, ijk_to_ras: np.ndarray | None = None
) -> None:
    """Raise `AnnotationError` if a label map cannot be one of the scan with this field of view (and this grid).

    Less than half of the labels' box lies in the scan, or both have equally many voxels that lie apart.
    """
    used = [np.flatnonzero(label_map.labels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if min(map(len, used)) == 0:
        return
    corners = np.array([[indices[0] - 0.5, indices[-1] + 0.5] for indices in used])
    points = np.array(
        [[corners[0][i], corners[1][j], corners[2][k], 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    )
    labeled = Box.around((points @ np.asarray(label_map.ijk_to_ras).T)[:, :3])
    shared = labeled.clipped(view)
    if shared is None or shared.volume_mm3 < LEAST_SHARED * labeled.volume_mm3:
        raise AnnotationError(
            f"“{label_map.name}” lies elsewhere than the scan: its labels at {_where(labeled)}, the scan at "
            f"{_where(view)}. Its header is wrong, or it belongs to another scan."
        )
    if shape is None or ijk_to_ras is None or tuple(shape) != label_map.labels.shape:
        return
    apart = grid_corners(shape_of(shape), ijk_to_ras) - grid_corners(shape_of(shape), label_map.ijk_to_ras)
    distance = float(np.linalg.norm(apart, axis=1).max())
    if distance > SAME_PLACE_VOXELS * float(spacing_of(ijk_to_ras).max()):
        raise AnnotationError(
            f"“{label_map.name}” has as many voxels as the scan, but they lie up to {distance:.0f} mm apart from the "
            "scan's. Its header or the scan's is wrong: save the segmentation again on the scan's grid."
        )


def _whole_numbers(volume: Volume, name: str) -> np.ndarray:
    """The labels (i, j, k) int32; raises `AnnotationError` for values that are no whole numbers."""
    values = volume.voxels
    if values.dtype.kind == "f":
        tolerance = max(ROUNDING, min(volume.level / 2, COARSEST_ROUNDING))
        labels = np.rint(values)
        if not np.isfinite(values).all() or not np.all(np.abs(values - labels) <= tolerance):
            raise AnnotationError(f"“{name}” holds values that are not whole numbers, so it is no label map.")
        values = labels
    if values.size and (values.min() < -(2**31) or values.max() >= 2**31):
        raise AnnotationError(f"“{name}” holds numbers that are too large for labels, so it is no label map.")
    return values.astype(np.int32)


def _where(box: Box) -> str:
    ends = zip("RAS", box.minimum, box.maximum, strict=True)
    return ", ".join(f"{axis} {low:.0f} to {high:.0f}" for axis, low, high in ends) + " mm"
