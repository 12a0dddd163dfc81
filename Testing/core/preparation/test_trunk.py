"""Neck, head and legs are left out of a scan before it is embedded; a scan that ends within the trunk is never cut."""

import numpy as np
import pytest

from APELocalizerLib.core.preparation.trunk import cut_to_trunk
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.paths import SAMPLES
from made_up.whole_bodies import ABDOMEN, HEAD, KNEE, LUNGS, NECK, PELVIS, SHOULDER, THIGH, whole_body


@pytest.mark.parametrize("arms_up", [False, True])
@pytest.mark.parametrize(
    ("first", "last"), [(HEAD, KNEE), (HEAD, THIGH), (HEAD, ABDOMEN), (LUNGS, THIGH), (ABDOMEN, KNEE)]
)
def test_what_is_above_the_lungs_and_below_the_pelvis_is_left_out(first, last, arms_up):
    scan, ends = whole_body(first, last, arms_up)
    trunk, left_out = cut_to_trunk(scan)
    view, whole = trunk.bounds(), scan.bounds()
    if first == HEAD:
        above = view.maximum[2] - ends[SHOULDER]  # the lungs begin where the shoulders end
        assert 30 <= above <= 80 and "neck and head" in left_out.warning
    if last in (THIGH, KNEE):
        assert 0 <= ends[PELVIS] - view.minimum[2] <= 40 and "legs" in left_out.warning
    assert left_out.above_mm == pytest.approx(whole.maximum[2] - view.maximum[2])
    assert left_out.below_mm == pytest.approx(view.minimum[2] - whole.minimum[2])
    assert scan.voxels.size > trunk.voxels.size and np.allclose(view.size[:2], whole.size[:2])


@pytest.mark.parametrize("arms_up", [False, True])
@pytest.mark.parametrize(
    ("first", "last"),
    [(SHOULDER, PELVIS), (LUNGS, ABDOMEN), (ABDOMEN, PELVIS), (PELVIS, PELVIS), (HEAD, NECK), (THIGH, KNEE)],
)
def test_scans_that_end_within_the_trunk_are_not_cut(first, last, arms_up):
    scan, _ = whole_body(first, last, arms_up)
    trunk, left_out = cut_to_trunk(scan)
    assert trunk is scan and not left_out.warning


@pytest.mark.parametrize("slices", range(1, 46, 4))
def test_a_scan_that_ends_between_sacrum_and_pubis_is_not_cut(slices):
    scan, _ = whole_body(ABDOMEN, PELVIS)
    scan = Scan(scan.voxels[:, :, :-slices], scan.ijk_to_ras)
    assert cut_to_trunk(scan)[0] is scan


@pytest.mark.parametrize("name", ["support_ct", "target_ct"])
def test_real_scans_of_the_trunk_are_not_cut(name):
    scan = read_scan(SAMPLES / f"{name}.nii.gz")
    assert cut_to_trunk(scan)[0] is scan


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_voxels_keep_their_places_however_they_are_stored(axes):
    scan, _ = whole_body(HEAD, THIGH)
    flipped = scan.voxels.transpose(axes)[::-1]
    grid = scan.ijk_to_ras[:, [*axes, 3]].copy()
    grid[:, 3] += grid[:, 0] * (flipped.shape[0] - 1)
    grid[:, 0] *= -1
    trunk, plain = cut_to_trunk(Scan(flipped, grid))[0], cut_to_trunk(scan)[0]
    np.testing.assert_allclose(trunk.bounds().minimum, plain.bounds().minimum, atol=1e-6)
    np.testing.assert_allclose(trunk.bounds().maximum, plain.bounds().maximum, atol=1e-6)
    center = np.linalg.inv(trunk.ijk_to_ras) @ [0, 0, trunk.bounds().center[2], 1]
    there = np.linalg.inv(scan.ijk_to_ras) @ trunk.ijk_to_ras @ np.append(np.rint(center[:3]), 1)
    i, j, k = np.rint(there[:3]).astype(int)
    assert trunk.voxels[tuple(np.rint(center[:3]).astype(int))] == scan.voxels[i, j, k]
