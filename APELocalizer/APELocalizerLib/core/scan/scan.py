"""A CT scan: voxels in Hounsfield units on a grid in the patient's RAS space.

Everything that enters the package passes through `Scan`, so what cannot be a torso CT is refused here, each case with
its own sentence. Voxel axes are (i, j, k) as in MRML; voxel centers lie at integer indices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import RAS_LPS, Box, grid_corners, spacing_of
from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.scan.hounsfield import check_hounsfield

if TYPE_CHECKING:  # imported where it is used: scans that come from a scene do without
    import SimpleITK as sitk

MINIMUM_VOXELS = 8
"""Fewest voxels along any axis."""

MINIMUM_EXTENT_MM = 30.0
"""Shortest edge: less shows too little of the body to tell where it is."""

MAXIMUM_SPACING_MM = 50.0
"""Coarser voxels show no organ; lengths in another unit than mm end here."""

MAXIMUM_EXTENT_MM = 4000.0
"""No patient is longer."""

FARTHEST_MM = 1e6
"""No scanner lies farther from its own origin; single-precision numbers get coarse beyond."""

SHEAR_TOLERANCE = 1e-3
"""Cosine between two grid axes above which the grid counts as sheared (0.06 degrees)."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A CT scan.

    Attributes:
        voxels: Hounsfield units, shape (i, j, k), int16 or float32, read-only. An array that has such a type already is
            not copied: do not change it afterwards.
        ijk_to_ras: 4x4 float64 matrix from voxel index to RAS mm. Any orientation, left-handed or sheared grids
        included.
        name: shown in results and errors.
        warnings: sentences about what the file left open and which rule was taken, and about doubtful values.

    Raises:
        ScanError: if this cannot be a CT of a torso (dimensions, size, geometry, NaN, constant, not Hounsfield units).
    """

    voxels: np.ndarray
    ijk_to_ras: np.ndarray
    name: str = "scan"
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name = str(self.name)
        voxels = np.asarray(self.voxels)
        affine = np.array(self.ijk_to_ras, dtype=np.float64)
        _check_dimensions(voxels, name)
        check_geometry(affine, name)
        _check_size(voxels.shape, affine, name)
        voxels = _stored(voxels, name)
        warnings = (*self.warnings, *check_hounsfield(voxels, name))
        voxels = voxels.view()
        voxels.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "voxels", voxels)
        object.__setattr__(self, "ijk_to_ras", affine)
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "warnings", warnings)

    @classmethod
    def from_sitk(cls, image: sitk.Image, name: str = "scan", copy: bool = True) -> Scan:
        """Scan (RAS) of a SimpleITK image (LPS). Raises ScanError as the class does.

        Without `copy` the scan shares the image's memory: do not change the image afterwards.
        """
        import SimpleITK as sitk

        if image.GetNumberOfComponentsPerPixel() != 1:
            raise ScanError(
                f"“{name}” has {image.GetNumberOfComponentsPerPixel()} values per voxel (color or vector image). "
                "Choose the CT volume itself, which has one value per voxel."
            )
        dimension = image.GetDimension()
        voxels = shared_array(sitk.Image(image) if copy else image).T
        while dimension > 3 and voxels.shape[-1] == 1:
            voxels, dimension = voxels[..., 0], dimension - 1
        affine = np.eye(4)
        if dimension >= 3:
            full = image.GetDimension()
            direction = np.reshape(image.GetDirection(), (full, full))[:3, :3]
            affine[:3, :3] = direction * np.array(image.GetSpacing()[:3])
            affine[:3, 3] = image.GetOrigin()[:3]
        return cls(voxels, RAS_LPS @ affine, name)

    def to_sitk(self) -> sitk.Image:
        """Copy into a SimpleITK image (LPS). Raises ScanError for a sheared grid, which an ITK image cannot
        describe."""
        if self.is_sheared:
            raise ScanError(
                f"“{self.name}” has a sheared grid (gantry tilt), which this file format cannot hold. "
                "Resample it to a rectangular grid first."
            )
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(np.ascontiguousarray(self.voxels.T))
        affine = RAS_LPS @ self.ijk_to_ras
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetSpacing(self.spacing.tolist())
        image.SetDirection((affine[:3, :3] / self.spacing).ravel().tolist())
        return image

    @property
    def spacing(self) -> np.ndarray:
        """Distance in mm between neighboring voxel centers along i, j and k, shape (3,)."""
        return spacing_of(self.ijk_to_ras)

    @property
    def is_sheared(self) -> bool:
        """Whether the grid axes are not perpendicular, as after a gantry tilt."""
        axes = self.ijk_to_ras[:3, :3] / self.spacing
        return bool(np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE)

    def corners_ras(self) -> np.ndarray:
        """Outer corners (half a voxel beyond the outermost voxel centers), RAS mm, shape (8, 3)."""
        return grid_corners(self.voxels.shape, self.ijk_to_ras)

    def bounds(self) -> Box:
        """Axis-aligned RAS box around the corners: the field of view."""
        return Box.around(self.corners_ras())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 over type, shape, grid and the SHA-256 of every slice of voxels; changes
        with any of them."""
        slices = [b""] * self.voxels.shape[2]

        def work(k: int) -> None:
            slices[k] = hashlib.sha256(np.ascontiguousarray(self.voxels[:, :, k].T).data).digest()

        parallel_for(work, len(slices))
        digest = hashlib.sha256(f"{self.voxels.dtype.str}{self.voxels.shape}".encode())
        digest.update(np.ascontiguousarray(self.ijk_to_ras).data)
        digest.update(b"".join(slices))
        return digest.hexdigest()[:16]


class _Pixels:
    """The pixels of an image for NumPy, which keeps this object and with it the image while an array needs it."""

    def __init__(self, image: sitk.Image) -> None:
        import SimpleITK as sitk

        self.image = image
        self.__array_interface__ = sitk.GetArrayViewFromImage(image).__array_interface__


def shared_array(image: sitk.Image) -> np.ndarray:
    """The pixels (k, j, i) of an image that is used for nothing else, without a copy, read-only."""
    return np.asarray(_Pixels(image))


def _check_dimensions(voxels: np.ndarray, name: str) -> None:
    if voxels.size == 0:
        raise ScanError(
            f"“{name}” holds no voxels. Load the CT again and check that its images were copied completely."
        )
    if voxels.ndim == 2 or (voxels.ndim == 3 and 1 in voxels.shape):
        raise ScanError(f"“{name}” is a single 2-D image. A CT volume with many slices is needed.")
    if voxels.ndim != 3:
        raise ScanError(
            f"“{name}” has {voxels.ndim} dimensions (a time series or several channels). "
            "Extract one 3-D CT volume from it and use that."
        )
    if voxels.dtype == bool or voxels.dtype.kind not in "iuf":
        raise ScanError(
            f"“{name}” does not hold numbers in Hounsfield units but {voxels.dtype} values. Choose a CT volume."
        )


def check_geometry(affine: np.ndarray, name: str) -> None:
    """Raise `ScanError` for a 4x4 index→RAS matrix in mm that cannot place the voxels of a patient."""
    if affine.shape != (4, 4) or not np.all(np.isfinite(affine)):
        raise ScanError(
            f"“{name}” has no valid position in space (its geometry is not a finite 4x4 matrix). Export it again."
        )
    spacing = spacing_of(affine)
    if spacing.min() < 1e-3:
        raise ScanError(
            f"“{name}” has a voxel spacing of zero ({_times(spacing)} mm). "
            "Correct the spacing in its header, or export it again."
        )
    if spacing.max() > MAXIMUM_SPACING_MM or np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        raise ScanError(
            f"“{name}” has voxels of {_times(spacing)} mm, {np.abs(affine[:3, 3]).max():.4g} mm from the origin, "
            "which no scan of a patient has. Its unit of length may be wrong: export it again in mm."
        )
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-2:
        raise ScanError(f"“{name}” has grid axes that point in the same direction (singular matrix). Export it again.")


def _check_size(shape: tuple[int, int, int], affine: np.ndarray, name: str) -> None:
    extent = np.array(shape) * spacing_of(affine)
    if min(shape) < MINIMUM_VOXELS or extent.min() < MINIMUM_EXTENT_MM:
        raise ScanError(
            f"“{name}” is too small: {_times(shape)} voxels, {_times(extent)} mm. "
            f"At least {MINIMUM_VOXELS} voxels and {MINIMUM_EXTENT_MM:g} mm are needed along every axis."
        )
    if extent.max() > MAXIMUM_EXTENT_MM:
        raise ScanError(
            f"“{name}” is {_times(extent / 1000)} m large, which no patient is. Its voxel spacing or unit of length is "
            "wrong: export it again in mm."
        )


def _stored(voxels: np.ndarray, name: str) -> np.ndarray:
    """Voxels as native int16 where they fit, else float32; refuses NaN and infinity."""
    if voxels.dtype.kind == "f":
        voxels = voxels.astype(np.float32, copy=False)
        if not (np.isfinite(voxels.min()) and np.isfinite(voxels.max())):
            raise ScanError(
                f"“{name}” contains voxels that are not numbers (NaN or infinity). "
                "Replace them, for example by -1024 (air)."
            )
        return voxels
    if voxels.dtype == np.int16:
        return voxels
    fits = voxels.dtype.itemsize == 1 or (voxels.min() >= -32768 and voxels.max() <= 32767)
    return voxels.astype(np.int16 if fits else np.float32)


def _times(values) -> str:
    return " x ".join(f"{float(v):.3g}" if float(v) < 100 else f"{float(v):.0f}" for v in values)
