"""Carrying what was marked on one scan to another one by their correspondence: a label map, or named points.

A label map is a first draft for a segmentation editor: its labels are taken over by nearest neighbor. RAS mm.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.errors import CorrespondenceError
from APELocalizerLib.core.base.files import replacing, write_text
from APELocalizerLib.core.base.geometry import RAS_LPS, spacing_of
from APELocalizerLib.core.localization.correspondence import Correspondence, Counterparts
from APELocalizerLib.core.localization.transforms import displacement_image
from APELocalizerLib.core.localization.write import carried_markup_text
from APELocalizerLib.core.scan.label_map import LabelMap
from APELocalizerLib.core.scan.scan import SHEAR_TOLERANCE, Scan

if TYPE_CHECKING:
    import SimpleITK as sitk

LABEL_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Endings of files that a label map is written to."""

POINT_ENDINGS = (".mrk.json", ".csv")
"""Endings of files that points are written to."""


def carry_label_map(correspondence: Correspondence, label_map: LabelMap, target: Scan) -> LabelMap:
    """The labels of the first scan on the grid of the second, `target`; 0 where nothing is known.

    Raises `CorrespondenceError` if none of the labels is in view there, or a grid is sheared.
    """
    import SimpleITK as sitk

    source = _image(label_map.labels, label_map.ijk_to_ras, label_map.name)
    reference = _image(np.broadcast_to(np.uint8(0), target.voxels.shape), target.ijk_to_ras, target.name)
    field = displacement_image(correspondence.field.backward, target.bounds())
    carried = sitk.Resample(source, reference, sitk.DisplacementFieldTransform(field), sitk.sitkNearestNeighbor, 0)
    labels = sitk.GetArrayFromImage(carried).T
    if not labels.any():
        raise CorrespondenceError(f"Nothing of “{label_map.name}” is in view on “{target.name}”. Nothing was written.")
    return LabelMap(labels, target.ijk_to_ras, target.name)


def write_label_map(label_map: LabelMap, path: str | Path) -> None:
    """Write a label map in one step, in the smallest whole numbers that hold its labels. Raises `OSError`."""
    import SimpleITK as sitk

    low, high = int(label_map.labels.min()), int(label_map.labels.max())
    kinds = [kind for kind in (np.uint8, np.int16, np.int32) if np.iinfo(kind).min <= low <= high <= np.iinfo(kind).max]
    with replacing(path) as beside:
        image = _image(label_map.labels.astype(kinds[0]), label_map.ijk_to_ras, label_map.name)
        sitk.WriteImage(image, str(beside), useCompression=True)


def carry_points(correspondence: Correspondence, points: Mapping[str, np.ndarray]) -> Counterparts:
    """Where named points (3,) of the first scan lie on the second, in their order.

    Raises `CorrespondenceError` if none of them is in view there.
    """
    carried = correspondence.to_second(np.array(list(points.values())))
    if not carried.in_view.any():
        raise CorrespondenceError(
            f"None of the points is in view on “{correspondence.second.scan_name}”. Nothing was written."
        )
    return carried


def write_points(names: list[str], carried: Counterparts, path: str | Path) -> None:
    """Write carried points in one step: as Slicer markups (.mrk.json), where those out of view are "missing", or as a
    table (.csv) of those in view. Raises `OSError`."""
    if str(path).lower().endswith(".json"):
        write_text(path, carried_markup_text(names, carried))
        return
    rows = ["name,r_mm,a_mm,s_mm,expected_error_mm,radius_90_mm"]
    for number in np.flatnonzero(carried.in_view):
        figures = *carried.positions_ras[number], carried.expected_error_mm[number], carried.radius_90_mm[number]
        name = '"' + names[number].replace('"', '""') + '"'
        rows.append(",".join([name, *(f"{value:.3f}" for value in figures[:3]), *(f"{mm:.1f}" for mm in figures[3:])]))
    write_text(path, "\n".join([*rows, ""]))


def _image(voxels: np.ndarray, ijk_to_ras: np.ndarray, name: str) -> "sitk.Image":
    """Voxels (i, j, k) as a SimpleITK image. Raises `CorrespondenceError` for a sheared grid, which ITK cannot hold."""
    import SimpleITK as sitk

    matrix, spacing = RAS_LPS @ ijk_to_ras, spacing_of(ijk_to_ras)
    axes = matrix[:3, :3] / spacing
    if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE:
        raise CorrespondenceError(
            f"“{name}” has a sheared grid (gantry tilt), which cannot take labels. Resample it in Slicer first."
        )
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection(axes.ravel().tolist())
    return image
