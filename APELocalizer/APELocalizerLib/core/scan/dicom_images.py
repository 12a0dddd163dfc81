"""One DICOM file: what its header says of its slice or its frames, and its pixels. Positions are LPS mm."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan import dicom_frames as groups

SAME_GRID = 1e-3
"""Largest difference of direction cosines, and relative one of pixel spacings, within one volume: they are rounded."""


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
    patient: str = ""
    frame: int | None = None

    def fits(self, other: "Slice") -> bool:
        """Whether both can be slices of one volume; rounding of their directions and spacings does not part them."""
        directions = np.concatenate([self.row_direction - other.row_direction, self.column_direction])
        directions[3:] -= other.column_direction
        spacings = np.abs(np.subtract(self.spacing, other.spacing))
        return (
            (self.series, self.size[:2], self.modality) == (other.series, other.size[:2], other.modality)
            and bool(np.abs(directions).max() <= SAME_GRID)
            and bool((spacings <= SAME_GRID * np.maximum(self.spacing, 1e-9)).all())
        )

    @property
    def normal(self) -> np.ndarray:
        """Direction (3,) across the slice."""
        return np.cross(self.row_direction, self.column_direction)


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
        patient=text("0010|0020"),
    )


def frames(header: Slice) -> list[Slice]:
    """The frames of a multi-frame image as slices of their own; a single image as it is."""
    if len(header.size) < 3 or header.size[2] == 1:
        return [header]
    name = header.path.name
    try:
        said = groups.frames_of(header.path)
    except groups.Broken as error:
        raise ScanError(f"The frames of “{name}” cannot be told apart. Export the series as single images.") from error
    if len(said) != header.size[2]:
        raise ScanError(f"“{name}” does not say where its {header.size[2]} frames lie. Export the original series.")
    if len({(frame[groups.SLOPE], frame[groups.INTERCEPT]) for frame in said}) > 1:
        raise ScanError(f"The frames of “{name}” are scaled differently. Export the series as single images.")
    slices = []
    for number, frame in enumerate(said):
        orientation, spacing = _numbers(frame[groups.ORIENTATION], 6), _numbers(frame[groups.SPACING], 2)
        position = _numbers(frame[groups.POSITION], 3)
        if orientation is None or spacing is None:
            raise ScanError(f"“{name}” does not say how its frames lie. Export the original series.")
        slices.append(
            replace(
                header, position=position, row_direction=orientation[:3], column_direction=orientation[3:],
                spacing=(float(spacing[1]), float(spacing[0])), frame=number,
            )
        )  # fmt: skip
    return slices


def read_pixels(paths: list[Path], name: str) -> sitk.Image:
    """Pixels in Hounsfield units: GDCM applies each file's rescale slope and intercept.

    ITK's warning about uneven slices is not shown: it also means tilted gantries, and `grid_of` judges the positions.
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


def _numbers(text: str, count: int) -> np.ndarray | None:
    """Backslash-separated decimal strings as float64 (count,), or None if they are not that."""
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.all(np.isfinite(values)) else None
