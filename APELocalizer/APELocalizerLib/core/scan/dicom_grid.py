"""The grid of DICOM slices: their order, the 4x4 matrix they span, and what makes them no volume. LPS mm."""

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan.dicom_images import Slice, read_pixels

POSITION_TOLERANCE = 0.1
"""Largest distance of a slice from its place on the regular grid, as a fraction of the slice distance."""

IN_PLANE_TOLERANCE_MM = 0.5
"""Largest sideways distance of a slice from the line through the first and the last one."""


def grid_of(slices: list[Slice], name: str) -> tuple[list[Slice], np.ndarray]:
    """Slices in order along their normal, and the 4x4 index-to-LPS matrix, which may be sheared."""
    if any(header.position is None for header in slices):
        raise ScanError(f"The DICOM images of “{name}” have no position information. Export the original series.")
    if min(slices[0].spacing) <= 0:
        raise ScanError(f"The DICOM images of “{name}” have no pixel spacing or zero spacing. Export them again.")
    normal = np.cross(slices[0].row_direction, slices[0].column_direction)
    ordered = sorted(slices, key=lambda header: float(header.position @ normal))
    along = np.array([header.position @ normal for header in ordered])
    same = np.flatnonzero(np.diff(along) < 1e-3)
    if same.size:
        ordered = _without_copies(ordered, along, name)
        along = np.array([header.position @ normal for header in ordered])
    if len(ordered) < 2:
        raise ScanError(f"“{name}” is a single 2-D image. A CT volume with many slices is needed.")
    _check_distances(along, name)
    positions = np.array([header.position for header in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    sideways = np.linalg.norm(positions - positions[0] - np.arange(len(ordered))[:, None] * step, axis=1).max()
    if sideways > max(IN_PLANE_TOLERANCE_MM, 2 * POSITION_TOLERANCE * np.linalg.norm(step)):
        raise ScanError(
            f"The slices of “{name}” are shifted irregularly against each other (by up to {sideways:.1f} mm). "
            "Export the original series."
        )
    affine = np.eye(4)
    affine[:3, 0] = ordered[0].row_direction * ordered[0].spacing[0]
    affine[:3, 1] = ordered[0].column_direction * ordered[0].spacing[1]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return ordered, affine


def _check_distances(along: np.ndarray, name: str) -> None:
    """Refuse missing slices and uneven distances."""
    distances = np.diff(along)
    typical = float(np.median(distances))
    multiples = np.rint(distances / typical)
    if np.all(np.abs(distances - multiples * typical) <= 2 * POSITION_TOLERANCE * typical) and multiples.max() > 1:
        missing = int((multiples - 1).sum())
        where = along[np.argmax(multiples)]
        raise ScanError(
            f"{missing} slice(s) of “{name}” are missing, the first gap after position {where:.1f} mm. "
            "Export or copy the whole series again."
        )
    regular = along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1)
    if np.abs(along - regular).max() > POSITION_TOLERANCE * typical:
        raise ScanError(
            f"The slices of “{name}” are {distances.min():.2f} to {distances.max():.2f} mm apart. "
            "Choose a series with even slice distances, or resample it to a regular volume first."
        )


def _without_copies(ordered: list[Slice], along: np.ndarray, name: str) -> list[Slice]:
    """Drop slices that are exact copies of another one; refuse different images at one position."""
    kept = [ordered[0]]
    if ordered[0].frame is not None:
        raise ScanError(
            f"“{name}” holds several frames of the same slice (phases). Export one of them as a series of its own."
        )
    for header, step in zip(ordered[1:], np.diff(along), strict=True):
        if step >= 1e-3:
            kept.append(header)
            continue
        one, other = (sitk.GetArrayFromImage(read_pixels([of.path], name)) for of in (kept[-1], header))
        if not np.array_equal(one, other):
            raise ScanError(
                f"“{name}” holds different images of the same slice (phases or reconstructions in one series). "
                "Export one of them as a series of its own."
            )
    return kept
