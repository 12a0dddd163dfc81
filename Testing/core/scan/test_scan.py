"""What a scan is, and what is refused with which sentence."""

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, phantom_hu, reoriented

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def ct_like(shape=(20, 20, 20), dtype=np.int16):
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(dtype)


def refused(voxels, affine=AFFINE) -> str:
    with pytest.raises(ScanError) as caught:
        Scan(voxels, affine, "Case 7")
    return str(caught.value)


def test_a_ct_is_kept_as_it_is():
    voxels = ct_like()
    scan = Scan(voxels, AFFINE, "Case 7")
    assert scan.voxels.dtype == np.int16 and np.array_equal(scan.voxels, voxels)
    assert scan.name == "Case 7" and np.allclose(scan.spacing, 4)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros((0, 4, 4), np.int16), "no voxels"),
        (ct_like((20, 20)), "2-D"),
        (ct_like((20, 20, 1)), "2-D"),
        (ct_like((20, 20, 20, 5)), "4 dimensions"),
        (np.full((20, 20, 20), np.nan, np.float32), "NaN"),
        (np.where(ct_like() < -990, np.inf, 0.0), "infinity"),
        (np.zeros((20, 20, 20), np.int16), "same value"),
        (ct_like((20, 20, 4)), "too small"),
        (ct_like() > 0, "bool"),
        (np.array([["a"]]).reshape(1, 1, 1).repeat(20, 0).repeat(20, 1).repeat(20, 2), "Hounsfield"),
    ],
    ids=["empty", "2-D", "one slice", "4-D", "NaN", "infinity", "constant", "tiny", "mask", "text"],
)
def test_bad_voxels_are_refused_each_with_its_own_sentence(voxels, words):
    message = refused(voxels)
    assert words in message and "Case 7" in message


def test_one_nan_among_many_voxels_is_found():
    voxels = ct_like(dtype=np.float32)
    voxels[3, 4, 5] = np.nan
    assert "NaN" in refused(voxels)


def test_one_odd_voxel_does_not_make_a_constant_volume_a_ct():
    voxels = np.zeros((80, 80, 80), np.int16)
    voxels[3, 4, 5] = -1000
    assert "CT in Hounsfield units" in refused(voxels)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([4.0, 0.0, 4.0, 1.0]), "spacing of zero"),
        (np.array([[4.0, 4, 0, 0], [0, 0.001, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]), "singular"),
        (np.diag([4.0, np.nan, 4.0, 1.0]), "position in space"),
        (np.eye(3), "position in space"),
        (np.diag([1.0, 1.0, 1.0, 1.0]), "too small"),
    ],
    ids=["zero spacing", "singular", "NaN", "3x3", "20 mm"],
)
def test_broken_geometry_is_refused(affine, words):
    assert words in refused(ct_like(), affine)


def test_the_minimum_size_is_named():
    assert "8 voxels and 30 mm" in refused(ct_like((20, 20, 7)))


def other_images():
    points = np.indices((40, 28, 24)).reshape(3, -1).T * 10.0 - [195, 135, 115]
    hu = phantom_hu(points).reshape(40, 28, 24)
    noise = np.random.default_rng(1).normal(0, 20, hu.shape)
    return {
        "label map": np.digitize(hu, [-900, -200, 0, 80, 300]).astype(np.uint8),
        "TotalSegmentator labels": (np.digitize(hu, [-900, -200, 0, 80, 300]) * 23).astype(np.int16),
        "MR": np.abs((hu > -900) * 400 + noise),
        "MR with a few negative values": (hu > -900) * 400 + noise / 10,
        "8-bit picture": (np.clip((hu + 1000) / 1300, 0, 1) * 255).astype(np.uint8),
        "normalized 0..1": np.clip((hu + 1000) / 1300, 0, 1),
        "z-scores": (hu - hu.mean()) / hu.std(),
        "CT without rescale intercept": (hu + 1024).astype(np.uint16),
    }


@pytest.mark.parametrize("kind", list(other_images()))
def test_images_that_are_not_ct_in_hounsfield_units_are_refused(kind):
    message = refused(other_images()[kind], np.diag([10.0, 10.0, 10.0, 1.0]))
    assert "CT in Hounsfield units" in message and "Choose the original CT" in message.replace("choose", "Choose")


def test_crops_that_hold_only_the_inside_of_the_body_are_accepted():
    whole = body_phantom()
    for part in (np.s_[30:50, 20:36, 4:20], np.s_[52:64, 20:40, 28:44], np.s_[20:60, 15:40, :10]):
        assert whole.voxels[part].min() > -1100
        Scan(whole.voxels[part], whole.ijk_to_ras)


def test_padding_far_below_air_is_accepted():
    voxels = body_phantom().voxels.copy()
    voxels[0] = -3024
    assert Scan(voxels, AFFINE).voxels.min() == -3024


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("int16", "int16"), (">i2", "int16"), ("int32", "int16"), ("int64", "int16"), ("int8", "int16"), ("float32",
    "float32"),
     ("float64", "float32"), (">f4", "float32")],
)  # fmt: skip
def test_number_types_are_stored_as_int16_or_float32(dtype, stored):
    voxels = (ct_like() // 10).astype(dtype)
    scan = Scan(voxels, AFFINE)
    assert scan.voxels.dtype == np.dtype(stored) and np.array_equal(scan.voxels, voxels)


def test_large_integers_do_not_overflow():
    voxels = ct_like().astype(np.int32)
    voxels[0, 0, 0] = 70_000
    assert Scan(voxels, AFFINE).voxels[0, 0, 0] == 70_000


def test_a_scan_cannot_be_changed():
    scan = Scan(ct_like(), AFFINE)
    with pytest.raises(ValueError):
        scan.voxels[0, 0, 0] = 1
    with pytest.raises(ValueError):
        scan.ijk_to_ras[0, 0] = 1


def test_corners_are_the_outer_edges_of_the_voxels():
    scan = Scan(ct_like(), grid_to_ras((20, 20, 20), (4, 2, 3)))
    assert np.allclose(scan.bounds().minimum, (-40, -20, -30)) and np.allclose(scan.bounds().maximum, (40, 20, 30))
    assert scan.corners_ras().shape == (8, 3)


def test_simpleitk_round_trip_keeps_every_position():
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    for rotation in (np.eye(3), turn, turn @ np.diag([1.0, -1.0, 1.0])):
        scan = Scan(ct_like((12, 14, 16)), grid_to_ras((12, 14, 16), (3, 4, 5), (10, -20, 30), rotation))
        back = Scan.from_sitk(scan.to_sitk(), "back")
        assert np.allclose(back.ijk_to_ras, scan.ijk_to_ras) and np.array_equal(back.voxels, scan.voxels)


def test_simpleitk_images_are_lps():
    image = sitk.GetImageFromArray(ct_like((10, 12, 14)))
    image.SetSpacing((4, 5, 6))
    image.SetOrigin((1, 2, 3))
    scan = Scan.from_sitk(image)
    assert scan.voxels.shape == (14, 12, 10)
    assert np.allclose(apply_affine(scan.ijk_to_ras, [[1, 1, 1]]), [[-5, -7, 9]])
    assert scan.voxels[3, 2, 1] == image[3, 2, 1]


def test_a_sheared_grid_cannot_become_an_itk_image():
    affine = AFFINE.copy()
    affine[1, 2] = 1.0
    scan = Scan(ct_like(), affine)
    assert scan.is_sheared
    with pytest.raises(ScanError, match="sheared"):
        scan.to_sitk()


def test_vector_and_4d_images_are_refused_but_a_single_time_point_is_not():
    colors = sitk.GetImageFromArray(np.zeros((20, 20, 20, 3), np.uint8), isVector=True)
    with pytest.raises(ScanError, match="3 values per voxel"):
        Scan.from_sitk(colors)
    series = sitk.GetImageFromArray(ct_like((3, 20, 20, 20)), isVector=False)
    series.SetSpacing((4, 4, 4, 1))
    with pytest.raises(ScanError, match="4 dimensions"):
        Scan.from_sitk(series)
    assert Scan.from_sitk(series[:, :, :, :1]).voxels.shape == (20, 20, 20)


def test_the_fingerprint_changes_with_voxels_and_grid_but_not_with_memory_order_or_name():
    voxels = ct_like()
    scan = Scan(voxels, AFFINE, "one")
    assert len(scan.fingerprint) == 16
    assert Scan(np.asfortranarray(voxels), AFFINE, "two").fingerprint == scan.fingerprint
    changed = voxels.copy()
    changed[-1, -1, -1] += 1
    assert Scan(changed, AFFINE).fingerprint != scan.fingerprint
    assert Scan(voxels, AFFINE * 1.5).fingerprint != scan.fingerprint
    assert reoriented(scan, (0, 1, 2), (True, False, False)).fingerprint != scan.fingerprint


def test_a_scan_that_shares_an_images_memory_outlives_the_image():
    voxels = ct_like()
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing((4.0, 4.0, 4.0))
    kept = Scan.from_sitk(image, copy=False).voxels[2:, 3]
    del image
    others = [sitk.GetImageFromArray(np.zeros(voxels.shape[::-1], voxels.dtype)) for _ in range(8)]
    assert np.array_equal(kept, voxels[2:, 3]) and len(others) == 8
    assert not kept.flags.writeable


def test_a_copied_image_may_be_changed_afterwards():
    image = sitk.GetImageFromArray(np.ascontiguousarray(ct_like().T))
    image.SetSpacing((4.0, 4.0, 4.0))
    scan = Scan.from_sitk(image)
    image[0, 0, 0] = 1234
    assert scan.voxels[0, 0, 0] == ct_like()[0, 0, 0]
