"""What one would do without this extension: register the support to the target, and carry places over.

`affine`: SimpleITK's affine registration by mutual information. `bspline`: the same, then a B-spline deformation. Both
scans are resampled to 5 mm.
"""

import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.base.geometry import RAS_LPS, spacing_of
from APELocalizerLib.core.preparation.orientation import canonical_view
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.method import PAIR, SCAN
from APELocalizerLib.methods.transfer import Transfer
from APELocalizerLib.methods.transform_store import TransformStore

LPS = np.array([-1.0, -1.0, 1.0])
"""Turns RAS into LPS, and back."""

WINDOW = (-1000.0, 500.0)
"""HU to which scans are clipped before they are compared."""

SPACING_MM = 5.0
"""Voxel size to which scans are resampled before they are compared."""

KNOT_MM = 80.0
"""Distance of the B-spline's control points."""

SHIFTS_MM = np.arange(-300.0, 301.0, 20.0)
"""Shifts along the body that are tried as a start, since two scans seldom show the same part of it."""

SMALLEST_OVERLAP = 0.5
"""Part of the shorter scan that must remain in view for a shift to be tried."""

HISTOGRAM_BINS = 32
"""Bins of the mutual information, along each scan's values."""

SAMPLES = 15_000
"""Voxels that the metric uses, on every level."""

SEED = 1
"""Of the draw of these voxels."""


class Affine(Transfer):
    """Affine registration of support and target."""

    name = "affine"
    slow_per_pair = True

    def __init__(self, cache: str | Path | None = None, spacing_mm: float = SPACING_MM) -> None:
        """Scans are registered at `spacing_mm`; transforms are kept in the folder `cache`."""
        super().__init__()
        self.spacing_mm = spacing_mm
        self._store = TransformStore(cache, f"{self.name}-{spacing_mm:g}", __file__)
        self._scans: dict[str, tuple[sitk.Image, str]] = {}
        self._done: dict[tuple[str, str], tuple[sitk.Transform, float]] = {}

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Resample the scan to a coarse grid."""
        start = time.perf_counter()
        self._scans[scan_id] = (coarse_image(scan, self.spacing_mm), scan.fingerprint)
        self.clock.add(SCAN, time.perf_counter() - start)

    def compare(self, support_id: str, target_id: str) -> None:
        """Register the pair."""
        self.transform(support_id, target_id)

    def carry(self, support_id: str, target_id: str, points: np.ndarray) -> np.ndarray:
        """Positions mapped by the transform from support to target."""
        transform, _ = self.transform(support_id, target_id)
        return np.array([transform.TransformPoint((point * LPS).tolist()) for point in points]) * LPS

    def transform(self, support_id: str, target_id: str) -> tuple[sitk.Transform, float]:
        """The transform from support to target (LPS mm), computed once, and the seconds that it took."""
        pair = (support_id, target_id)
        if pair not in self._done:
            support, target = (self._scans[scan_id][1] for scan_id in pair)
            self._done[pair] = self._store.get(support, target, lambda: self._register(*pair))
            self.clock.add(PAIR, self._done[pair][1])
        return self._done[pair]

    def _register(self, support_id: str, target_id: str) -> tuple[sitk.Transform, float]:
        start = time.perf_counter()
        transform = register_affine(self._scans[support_id][0], self._scans[target_id][0])
        return transform, time.perf_counter() - start


class BSpline(Affine):
    """Affine, then B-spline registration; the seconds are those of both."""

    name = "bspline"

    def __init__(self, affine: Affine, cache: str | Path | None = None) -> None:
        """`affine` does the first part."""
        super().__init__(cache, affine.spacing_mm)
        self.affine = affine

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Resample the scan to a coarse grid."""
        super().prepare(scan_id, scan)
        self.affine._scans.setdefault(scan_id, self._scans[scan_id])

    def _register(self, support_id: str, target_id: str) -> tuple[sitk.Transform, float]:
        affine, seconds = self.affine.transform(support_id, target_id)
        start = time.perf_counter()
        transform = register_bspline(self._scans[support_id][0], self._scans[target_id][0], affine)
        return transform, seconds + time.perf_counter() - start


def coarse_image(scan: Scan, spacing_mm: float) -> sitk.Image:
    """The scan smoothed and resampled to a coarse grid along the patient's axes, LPS, values in a window of HU."""
    voxels, grid = canonical_view(scan)
    image = sitk.GetImageFromArray(np.clip(voxels, *WINDOW).astype(np.float32).T)
    affine = RAS_LPS @ grid
    spacing = spacing_of(grid)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    for axis in range(3):
        width = np.sqrt(max(spacing_mm**2 - spacing[axis] ** 2, 0.0)) / 2
        if width > 0.1 * spacing[axis]:
            image = sitk.RecursiveGaussian(image, width, direction=axis)
    size = np.maximum(np.array(image.GetSize()) * spacing / spacing_mm, 4).astype(int)
    step = np.array(image.GetSize()) * spacing / size
    origin = affine[:3, 3] + (affine[:3, :3] / spacing) @ ((step - spacing) / 2)
    return sitk.Resample(
        *(image, size.tolist(), sitk.Transform(), sitk.sitkLinear, origin.tolist(), step.tolist()),
        *(image.GetDirection(), WINDOW[0]),
    )


def register_affine(
    support: sitk.Image, target: sitk.Image, start: sitk.AffineTransform | None = None
) -> sitk.Transform:
    """Affine transform from support to target (LPS mm), by mutual information, from `start` or the best of many."""
    transform = best_start(support, target) if start is None else start
    method = _mutual_information(support, (4, 2, 1), (8.0, 4.0, 0.0))
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=150, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    return _executed(method, support, target, transform)


def register_bspline(support: sitk.Image, target: sitk.Image, affine: sitk.Transform) -> sitk.Transform:
    """B-spline deformation on the support, then the affine transform: from support to target (LPS mm)."""
    extent = np.array(support.GetSize()) * np.array(support.GetSpacing())
    mesh = np.maximum(np.rint(extent / KNOT_MM), 1).astype(int).tolist()
    deformation = sitk.BSplineTransformInitializer(support, mesh, order=3)
    method = _mutual_information(support, (2, 1), (4.0, 0.0))
    method.SetOptimizerAsLBFGSB(
        numberOfIterations=30, maximumNumberOfFunctionEvaluations=40, gradientConvergenceTolerance=1e-5
    )
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(deformation, inPlace=True)
    _executed(method, support, target, deformation)
    return sitk.CompositeTransform([affine, deformation])


def best_start(support: sitk.Image, target: sitk.Image) -> sitk.AffineTransform:
    """Shift that aligns the scans' middles across the body, and along it whichever fits best by mutual information."""
    small = [sitk.Shrink(image, [3, 3, 3]) for image in (support, target)]
    ends = [_heights(image) for image in (support, target)]
    middle = [_middle(image) for image in (support, target)]
    method = _mutual_information(small[0], (1,), (0.0,))
    needed = SMALLEST_OVERLAP * min(high - low for low, high in ends)
    best, best_value = sitk.AffineTransform(3), np.inf
    for shift in SHIFTS_MM:
        move = middle[1] - middle[0] + [0.0, 0.0, shift]
        overlap = min(ends[0][1] + move[2], ends[1][1]) - max(ends[0][0] + move[2], ends[1][0])
        if overlap < needed:
            continue
        start = sitk.AffineTransform(3)
        start.SetCenter(middle[0].tolist())
        start.SetTranslation(move.tolist())
        method.SetInitialTransform(start)
        value = method.MetricEvaluate(*small)
        if value < best_value:
            best, best_value = start, value
    return best


def _mutual_information(
    fixed: sitk.Image, shrink: tuple[int, ...], smoothing_mm: tuple[float, ...]
) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    shares = [min(1.0, SAMPLES * factor**3 / fixed.GetNumberOfPixels()) for factor in shrink]
    method.SetMetricSamplingPercentagePerLevel(shares, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smoothing_mm)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _executed(
    method: sitk.ImageRegistrationMethod, support: sitk.Image, target: sitk.Image, reached: sitk.Transform
) -> sitk.Transform:
    """The registered transform; where the optimizer gives up (scans drift apart), the one that it had reached."""
    try:
        return method.Execute(support, target)
    except RuntimeError:
        return reached


def _middle(image: sitk.Image) -> np.ndarray:
    return np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))


def _heights(image: sitk.Image) -> tuple[float, float]:
    last = [n - 1 for n in image.GetSize()]
    heights = [image.TransformIndexToPhysicalPoint([0, 0, k])[2] for k in (0, last[2])]
    return min(heights), max(heights)
