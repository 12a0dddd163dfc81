"""The one orientation in which scans are prepared: posterior, left, inferior.

A canonical array has axes (P, L, I): index 0 grows toward the patient's back, index 1 toward the patient's left, index
2 toward the feet; `grid_to_ras` (4x4) maps its indices to RAS mm. This is the layout the published network was trained
on.
"""

import itertools

import numpy as np

from APELocalizerLib.core.base.geometry import apply_affine, spacing_of, subgrid_affine
from APELocalizerLib.core.scan.scan import Scan

AXIS_TOLERANCE_DEGREES = 0.5
"""Axes this close to an anatomical axis are only flipped and permuted; their true directions are kept in the affine."""

AIR_HU = -1024.0

CANONICAL_AXES = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]).T
"""Columns: RAS directions of posterior, left and inferior."""


def to_canonical(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return (voxels (P, L, I) C-contiguous, grid_to_ras); see `canonical_view`."""
    voxels, grid_to_ras = canonical_view(scan)
    return np.ascontiguousarray(voxels), grid_to_ras


def canonical_view(scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """Return (voxels (P, L, I), grid_to_ras), the voxels as a read-only view of the scan where that is possible.

    If each voxel axis lies within 0.5 degrees of an anatomical axis, axes are flipped and permuted only, and
    grid_to_ras carries their true directions. Oblique and sheared grids are resampled (trilinear, float32, air outside)
    to an axis-aligned grid of about the same spacing that covers every voxel of the scan.
    """
    if is_oblique(scan.ijk_to_ras):
        return _resampled(scan, _matching_axes(scan.ijk_to_ras)[0])
    return flipped(scan.voxels, scan.ijk_to_ras)


def is_oblique(ijk_to_ras: np.ndarray) -> bool:
    """Whether a voxel axis lies more than 0.5 degrees from the nearest anatomical axis, as on sheared grids, too."""
    return bool(np.abs(_matching_axes(ijk_to_ras)[1]).min() < np.cos(np.radians(AXIS_TOLERANCE_DEGREES)))


def flipped(voxels: np.ndarray, ijk_to_ras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (i, j, k) as a view (P, L, I), flipped and permuted only, and grid_to_ras with their true directions.

    On an oblique grid, these axes are only the nearest to posterior, left and inferior.
    """
    order, cosines = _matching_axes(ijk_to_ras)
    voxels = voxels.transpose(order)
    affine = ijk_to_ras[:, [*order, 3]]
    for n in range(3):
        if cosines[n] < 0:
            voxels = np.flip(voxels, axis=n)
            start, step = np.zeros(3), np.ones(3)
            start[n], step[n] = voxels.shape[n] - 1, -1.0
            affine = subgrid_affine(affine, start, step)
    return voxels, affine


def _matching_axes(ijk_to_ras: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Voxel axis for each of posterior, left, inferior (the best permutation), and the cosines (3,)."""
    axes = ijk_to_ras[:3, :3] / spacing_of(ijk_to_ras)
    alignment = np.abs(CANONICAL_AXES.T @ axes)
    orders = [list(order) for order in itertools.permutations(range(3))]
    order = max(orders, key=lambda order: sum(alignment[n, order[n]] for n in range(3)))
    return order, np.array([axes[:, order[n]] @ CANONICAL_AXES[:, n] for n in range(3)])


def _resampled(scan: Scan, order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Trilinear resampling to an axis-aligned grid, done in index space because ITK images cannot be sheared."""
    spacing = spacing_of(scan.ijk_to_ras)[order]
    ends = np.array(list(itertools.product(*[(0, n - 1) for n in scan.voxels.shape])))
    along = apply_affine(scan.ijk_to_ras, ends) @ CANONICAL_AXES
    low, high = along.min(axis=0), along.max(axis=0)
    shape = np.ceil((high - low) / spacing - 1e-6).astype(int) + 1
    first = (low + high - (shape - 1) * spacing) / 2
    grid_to_ras = np.eye(4)
    grid_to_ras[:3, :3] = CANONICAL_AXES * spacing
    grid_to_ras[:3, 3] = CANONICAL_AXES @ first

    # ITK indexes (x, y, z) = (i, j, k); unit geometry makes its "physical" coordinates equal to indices. The output is
    # asked for as (L, P, I), so that its memory runs slice by slice.
    import SimpleITK as sitk  # only here: few scans are oblique, and it takes a tenth of a second to import

    to_source = np.linalg.inv(scan.ijk_to_ras) @ grid_to_ras
    matrix = to_source[:3, :3][:, [1, 0, 2]]
    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.voxels.T))
    transform = sitk.AffineTransform(matrix.ravel().tolist(), to_source[:3, 3].tolist())
    size = [int(shape[1]), int(shape[0]), int(shape[2])]
    unit = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), tuple(np.eye(3).ravel()))
    image = sitk.Resample(image, size, transform, sitk.sitkLinear, *unit, AIR_HU, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(image).transpose(1, 2, 0), grid_to_ras
