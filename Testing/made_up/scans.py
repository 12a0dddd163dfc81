"""Made-up CTs: an asymmetric torso given by formulas, sampled on any grid; and scans whose right answer is plain.

The torso is 340 mm wide, 220 mm deep and fills the grid from head to feet. RAS mm, origin in its middle: lungs above
S = 0, the liver on the right below, the spleen on the left, the heart left of the middle, the spine at the back, a
table behind it. No two of its 48 flips and permutations are alike.
"""

import numpy as np

from APELocalizerLib.core.base.geometry import Box, apply_affine, grid_corners
from APELocalizerLib.core.preparation.config import PreparedScan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras, pli_grid

AIR, LUNG, FAT, MUSCLE, BLOOD, LIVER, BONE = -1000.0, -800.0, -100.0, 40.0, 150.0, 90.0, 600.0

LANDMARKS = {
    "carina": (5.0, 0.0, 60.0),
    "heart": (-35.0, 30.0, 25.0),
    "liver": (70.0, 10.0, -45.0),
    "spleen": (-95.0, -40.0, -40.0),
    "right lung apex": (70.0, 0.0, 110.0),
    "left lung apex": (-70.0, 0.0, 105.0),
    "right dome": (70.0, 5.0, 5.0),
    "left kidney": (-60.0, -55.0, -85.0),
}
"""Name → RAS mm of points in the standard torso (scale 1, shift 0)."""


def phantom_landmarks(scale=1.0, shift=(0.0, 0.0, 0.0)) -> dict[str, np.ndarray]:
    """RAS positions (3,) of LANDMARKS in the torso of `phantom_hu` with the same scale and shift."""
    return {name: np.array(point) * scale + np.array(shift) for name, point in LANDMARKS.items()}


def phantom_hu(points: np.ndarray, scale=1.0, shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Hounsfield units of the torso at RAS points (n, 3); `scale` (number or 3) and `shift` (3) make other patients."""
    r, a, s = ((np.asarray(points, float) - np.array(shift)) / scale).T
    hu = np.full(len(r), AIR)
    hu[(np.abs(r) < 190) & (a < -122) & (a > -130)] = -300.0
    skin = (r / 170) ** 2 + (a / 110) ** 2
    hu[skin < 1] = FAT
    hu[(r / 158) ** 2 + (a / 98) ** 2 < 1] = MUSCLE
    hu[_ellipsoid(r, a, s, (75, 5, 55), (60, 80, 62)) < 1] = LUNG
    hu[_ellipsoid(r, a, s, (-75, 5, 50), (55, 78, 68)) < 1] = LUNG
    hu[_ellipsoid(r, a, s, (70, 10, -45), (75, 75, 48)) < 1] = LIVER
    hu[_ellipsoid(r, a, s, (-95, -40, -40), (32, 38, 40)) < 1] = LIVER + 40
    hu[_ellipsoid(r, a, s, (-35, 30, 25), (45, 42, 40)) < 1] = BLOOD
    hu[_ellipsoid(r, a, s, (-60, -55, -85), (24, 24, 45)) < 1] = LIVER + 80
    hu[_ellipsoid(r, a, s, (62, -55, -100), (24, 24, 42)) < 1] = LIVER + 80
    hu[(r / 22) ** 2 + ((a + 70) / 22) ** 2 < 1] = BONE
    hu[((r - 18 + s / 8) / 11) ** 2 + ((a + 38) / 11) ** 2 < 1] = BLOOD
    hu[((np.abs(r - 5) < 9 + np.maximum(0, 60 - s)) & (np.abs(a) < 9) & (s > 55))] = AIR
    hu[(np.abs(r) < 14) & (np.abs(a - 88) < 7) & (s > 0)] = BONE
    hu[_ellipsoid(r, a, s, (-50, 45, -60), (30, 25, 22)) < 1] = AIR
    return hu


def body_phantom(
    shape=(80, 56, 48),
    spacing=(5.0, 5.0, 5.0),
    ijk_to_ras=None,
    scale=1.0,
    shift=(0.0, 0.0, 0.0),
    noise=8.0,
    name="phantom",
) -> Scan:
    """The torso as a scan (int16), on a RAS+ grid centered at the origin or on any grid given by `ijk_to_ras`.

    `noise` is the standard deviation of Gaussian noise in HU, the same in every call.
    """
    affine = grid_to_ras(shape, spacing) if ijk_to_ras is None else np.asarray(ijk_to_ras, float)
    points = apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    hu = phantom_hu(points, scale, shift)
    if noise:
        hu = hu + np.random.default_rng(0).normal(0.0, noise, hu.shape)
    return Scan(np.clip(np.rint(hu), -1024, 3071).astype(np.int16).reshape(shape), affine, name)


def reoriented(scan: Scan, order, flips) -> Scan:
    """The same voxels in the same places, stored with axes permuted by `order` and then flipped where `flips` is
    true."""
    voxels, affine = scan.voxels.transpose(order), scan.ijk_to_ras[:, [*order, 3]].copy()
    for axis in np.flatnonzero(flips):
        voxels = np.flip(voxels, axis)
        affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
        affine[:3, axis] *= -1
    return Scan(np.ascontiguousarray(voxels), affine, scan.name)


def ramp_scan(axis: int, low: float, high: float, ijk_to_ras: np.ndarray, shape: tuple) -> Scan:
    """A scan whose HU rise linearly along one RAS axis: -450 HU at `low` mm, 250 HU at `high` mm. Body everywhere."""
    positions = apply_affine(ijk_to_ras, np.indices(shape).reshape(3, -1).T)[:, axis]
    hu = -450.0 + 700.0 * (positions - low) / (high - low)
    return Scan(hu.reshape(shape).astype(np.float32), ijk_to_ras, "ramp")


def prepared_scan(image: np.ndarray, spacing: tuple = (2.0, 2.0, 3.0), mask: np.ndarray | None = None) -> PreparedScan:
    """A prepared scan with the given 0..1 image on a posterior-left-inferior grid."""
    affine = pli_grid(image.shape, spacing)
    return PreparedScan(
        image=image.astype(np.float32),
        body_mask=np.ones(image.shape, bool) if mask is None else mask,
        grid_to_ras=affine,
        field_of_view=Box.around(grid_corners(image.shape, affine)),
        scan_name="made-up scan",
        scan_fingerprint="fingerprint",
    )


def _ellipsoid(r, a, s, center, radii):
    return sum(((x - c) / h) ** 2 for x, c, h in zip((r, a, s), center, radii, strict=True))


def tiny_torso(shape: tuple[int, int, int] = (24, 20, 12)) -> Scan:
    """A torso of very few voxels, for files that are written and read."""
    return body_phantom(shape, (15.0, 12.0, 20.0))


def sheared(scan: Scan, tilt: float = 0.3) -> Scan:
    """The same voxels on a grid that leans as after a gantry tilt."""
    affine = scan.ijk_to_ras.copy()
    affine[1, 2] = -tilt * affine[2, 2]
    return Scan(scan.voxels, affine)


def random_image(shape: tuple, seed: int = 0) -> np.ndarray:
    """Float32 numbers in 0..1."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)
