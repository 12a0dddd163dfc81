"""What stands beside the goals: the machine's limits, and affine registration, today's way to transfer landmarks."""

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
import torch

from APELocalizerLib.core.library.learning import learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import localize
from benchmarks import machine, scans
from benchmarks.table import Row
from benchmarks.workbench import Workbench

REGISTRATION_MM = 4.0
LPS = np.array([-1.0, -1.0, 1.0])


def rows(bench: Workbench) -> Iterator[Row]:
    """The limits, then both ways to transfer landmarks from the support to the target of the sample data."""
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        peak = machine.measured_peak(dtype)
        what = f"Limit: torch.mm {name} of {peak.size} × {peak.size}"
        remark = f"the fastest single product: {peak.best / 1e9:.0f} GFLOP/s"
        yield Row("", what, ours=peak.median / 1e9, unit="GFLOP/s", more_is_better=True, remark=remark)
    speed = machine.copy_bandwidth() / 1e9
    yield Row("", "Limit: copy in memory, read and written, best of 7", ours=speed, unit="GB/s", more_is_better=True)
    yield from _transfer(bench)


def _transfer(bench: Workbench) -> Iterator[Row]:
    support, target = scans.sample_pair()
    names, clicked, expected = scans.sample_landmarks()
    images = [scan.to_sitk() for scan in (support, target)]
    library = learn_points(LandmarkLibrary(), bench.embedder.embed(support), dict(zip(names, clicked, strict=True)))
    places, found = (LPS * clicked).tolist(), {}

    def registration() -> None:
        transform = affine(*images)
        found["reference"] = LPS * [transform.TransformPoint(place) for place in places]

    def ours() -> None:
        points = localize(bench.embedder.embed(target), library, model=bench.default).points
        found["ours"] = np.array([point.candidate_ras for point in points])

    times = bench.alternating(reference=registration, ours=ours)
    errors = {name: np.linalg.norm(points - expected, axis=1) for name, points in found.items()}
    reference = f"SimpleITK affine registration at {REGISTRATION_MM:g} mm (Mattes mutual information, 3 levels)"
    what = f"Transfer of {len(names)} landmarks from support_ct to target_ct, support known"
    yield Row.of_times("", what, None, reference, times)
    yield Row(
        "",
        f"Median error of these {len(names)} landmarks",
        reference=reference,
        reference_value=float(np.median(errors["reference"])),
        ours=float(np.median(errors["ours"])),
        unit="mm",
        remark=f"largest {errors['reference'].max():.0f} mm by registration, {errors['ours'].max():.0f} mm by ours",
    )


def affine(support: sitk.Image, target: sitk.Image) -> sitk.Transform:
    """Affine transform that takes points (LPS mm) of the support to the target."""
    fixed, moving = (_coarse(image) for image in (support, target))
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, convergenceMinimumValue=1e-6, convergenceWindowSize=10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([8, 4, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def _coarse(image: sitk.Image) -> sitk.Image:
    size = [round(n * mm / REGISTRATION_MM) for n, mm in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing([REGISTRATION_MM] * 3)
    grid.SetOrigin(image.GetOrigin())
    grid.SetDirection(image.GetDirection())
    smooth = sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), REGISTRATION_MM / 2)
    return sitk.Resample(smooth, grid, sitk.Transform(), sitk.sitkLinear, -1024.0)
