"""The two real CTs of the sample data: correspondences against the landmarks that were marked on both."""

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib import Engine, read_points, read_scan
from APELocalizerLib.core.base.geometry import LPS, apply_affine
from APELocalizerLib.core.localization.transforms import itk_transform
from made_up.paths import SAMPLES


@pytest.fixture(scope="module")
def scans():
    return [read_scan(SAMPLES / f"{name}_ct.nii.gz") for name in ("support", "target")]


@pytest.fixture(scope="module")
def correspondence(scans):
    return Engine(device="cpu").correspond(*scans)


@pytest.fixture(scope="module")
def marked():
    support, target = (read_points(SAMPLES / f"{name}_points.csv") for name in ("support", "target"))
    names = [name for name in support if name in target]
    return np.array([support[name] for name in names]), np.array([target[name] for name in names])


def test_landmarks_are_carried_in_both_directions(correspondence, marked):
    for carried, wanted in (
        (correspondence.to_second(marked[0]), marked[1]),
        (correspondence.to_first(marked[1]), marked[0]),
    ):
        errors = np.linalg.norm(carried.positions_ras - wanted, axis=1)
        assert carried.in_view.all()
        assert np.median(errors) < 20 and errors.max() < 60
        assert (errors < carried.radius_90_mm).mean() > 0.7
        assert 5 < np.median(carried.expected_error_mm) < 25


@pytest.mark.parametrize("kind", ["affine", "thin-plate", "field"])
def test_a_start_for_registration_brings_the_scans_together(correspondence, scans, marked, kind):
    fixed, moving = (scan.to_sitk() for scan in scans)
    transform = itk_transform(correspondence, kind, scans[0].bounds())
    carried = np.array([transform.TransformPoint(point) for point in (marked[0] * LPS).tolist()]) * LPS
    assert np.median(np.linalg.norm(carried - marked[1], axis=1)) < 20
    usual = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    assert alike(fixed, moving, transform) > max(0.65, alike(fixed, moving, usual) + 0.1)


def alike(fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform) -> float:
    """Correlation of the fixed image with the moving one resampled by a transform."""
    resampled = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1024))
    both = (np.clip(voxels[::4, ::4, ::4], -900, 300).ravel() for voxels in (sitk.GetArrayFromImage(fixed), resampled))
    return float(np.corrcoef(*both)[0, 1])


def test_hardly_a_place_in_view_is_called_out_of_view(correspondence):
    """Both scans show chest and upper abdomen: most of what one shows, the other shows, too."""
    support = correspondence.first
    cells = apply_affine(support.grid_to_ras, np.argwhere(support.body)[::7])
    high, low = support.field_of_view.maximum[2], support.field_of_view.minimum[2]
    middle = cells[np.abs(cells[:, 2] - (high + low) / 2) < 60]
    assert correspondence.to_second(middle).in_view.mean() > 0.9
