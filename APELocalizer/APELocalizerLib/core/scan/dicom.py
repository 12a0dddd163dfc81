"""Reading a CT series from DICOM files.

The grid is built from ImagePositionPatient, ImageOrientationPatient and PixelSpacing of the slices (DICOM PS3.3
C.7.6.2), not from ITK's series reader, because that one straightens the slices of a tilted gantry.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import RAS_LPS
from APELocalizerLib.core.scan.scan import Scan, shared_array

MAXIMUM_FILES = 20_000

POSITION_TOLERANCE = 0.1
"""Largest distance of a slice from its place on the regular grid, as a fraction of the slice distance."""

IN_PLANE_TOLERANCE_MM = 0.5
"""Largest sideways distance of a slice from the line through the first and the last one."""


@dataclass(frozen=True)
class Slice:
    """Header of one DICOM image; positions and directions in LPS."""

    path: Path
    modality: str
    series: str
    size: tuple[int, ...]
    position: np.ndarray | None
    row_direction: np.ndarray
    column_direction: np.ndarray
    spacing: tuple[float, float]
    localizer: bool

    @property
    def stack_key(self) -> tuple:
        """Slices with equal keys can form one volume."""
        directions = np.round(np.concatenate([self.row_direction, self.column_direction]), 3) + 0.0
        return self.series, self.size, tuple(directions), tuple(np.round(self.spacing, 4))


def read_folder(folder: Path) -> Scan:
    """Read the CT series with the most slices below a folder (scout views excluded).

    Raises:
        ScanError: no DICOM, no CT, missing slices, uneven slice distances, several images at one position.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name.upper() != "DICOMDIR")
    slices = [header for path in files[:MAXIMUM_FILES] if (header := read_header(path)) is not None]
    if not slices:
        raise ScanError(f"The folder “{folder.name}” holds no DICOM images. Choose the folder of a CT series.")
    return _read_longest_ct(slices, folder.name)


def read_file(path: Path) -> Scan:
    """Read a multi-frame CT from one DICOM file; a single slice is refused with the advice to choose its folder."""
    header = read_header(path)
    if header is None:
        raise ScanError(f"“{path.name}” cannot be read: it is damaged or incomplete. Export or copy it again.")
    if len(header.size) < 3 or header.size[2] == 1:
        raise ScanError(f"“{path.name}” is one slice of a series. Choose the folder that holds all of its slices.")
    return _read_longest_ct([header], path.name)


def read_header(path: Path) -> Slice | None:
    """Header of a DICOM image, or None if the file is none."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None

    def text(tag: str) -> str:
        return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""

    orientation = _numbers(text("0020|0037"), 6)
    spacing = _numbers(text("0028|0030"), 2)
    return Slice(
        path=path,
        modality=text("0008|0060").upper(),
        series=text("0020|000e"),
        size=tuple(reader.GetSize()),
        position=_numbers(text("0020|0032"), 3),
        row_direction=np.array([1.0, 0, 0]) if orientation is None else orientation[:3],
        column_direction=np.array([0, 1.0, 0]) if orientation is None else orientation[3:],
        spacing=(0.0, 0.0) if spacing is None else (float(spacing[1]), float(spacing[0])),
        localizer="LOCALIZER" in text("0008|0008").upper(),
    )


def _read_longest_ct(slices: list[Slice], name: str) -> Scan:
    usable = [header for header in slices if header.modality == "CT" and not header.localizer]
    if not usable:
        modalities = sorted({header.modality or "unknown" for header in slices if not header.localizer})
        found = ", ".join(modalities) or "scout views"
        raise ScanError(f"“{name}” holds no CT series, only {found}. Choose the folder of a CT series.")
    stacks: dict[tuple, list[Slice]] = {}
    for header in usable:
        stacks.setdefault(header.stack_key, []).append(header)
    longest = max(stacks.values(), key=len)
    if len(longest) == 1 and len(longest[0].size) == 3 and longest[0].size[2] > 1:
        return Scan.from_sitk(_read_pixels([longest[0].path], name), name, copy=False)
    ordered, affine = _grid(longest, name)
    image = _read_pixels([header.path for header in ordered], name)
    return Scan(shared_array(image).T, RAS_LPS @ affine, name)


def _read_pixels(paths: list[Path], name: str) -> sitk.Image:
    """Pixels in Hounsfield units: GDCM applies each file's rescale slope and intercept.

    ITK's warning about uneven slices is not shown: it also means tilted gantries, and `_grid` judges the positions.
    """
    warnings = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        if len(paths) == 1:
            return sitk.ReadImage(str(paths[0]), imageIO="GDCMImageIO")
        return sitk.ReadImage([str(path) for path in paths], imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise ScanError(f"The DICOM images of “{name}” cannot be read: one is damaged. Export them again.") from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warnings)


def _grid(slices: list[Slice], name: str) -> tuple[list[Slice], np.ndarray]:
    """Slices in order along their normal, and the 4x4 index-to-LPS matrix, which may be sheared."""
    if any(header.position is None for header in slices):
        raise ScanError(f"The DICOM images of “{name}” do not say where they lie. Export the original series.")
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
    for header, step in zip(ordered[1:], np.diff(along), strict=True):
        if step >= 1e-3:
            kept.append(header)
            continue
        pair = [sitk.GetArrayFromImage(_read_pixels([h.path], name)) for h in (kept[-1], header)]
        if not np.array_equal(*pair):
            raise ScanError(
                f"“{name}” holds different images of the same slice (phases or reconstructions in one series). "
                "Export one of them as a series of its own."
            )
    return kept


def _numbers(text: str, count: int) -> np.ndarray | None:
    """Backslash-separated decimal strings as float64 (count,), or None if they are not that."""
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.all(np.isfinite(values)) else None
