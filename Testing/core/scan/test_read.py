"""Reading CT files and DICOM folders: geometry, Hounsfield units, and clear refusals."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.files import refused
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, reoriented, sheared, tiny_torso


def write(scan: Scan, path):
    sitk.WriteImage(scan.to_sitk(), str(path))
    return path


def write_nifti(path, voxels, sform, order="<", slope=0.0, intercept=0.0, qform_code=0, units=2):
    """A NIfTI-1 file with exactly this sform, which ITK would not write when it is sheared."""
    header = bytearray(352)
    struct.pack_into(order + "i", header, 0, 348)
    struct.pack_into(order + "8h", header, 40, voxels.ndim, *voxels.shape, *[1] * (7 - voxels.ndim))
    code, bits = {"int16": (4, 16), "float32": (16, 32), "uint8": (2, 8), "complex64": (32, 64)}[voxels.dtype.name]
    struct.pack_into(order + "2h", header, 70, code, bits)
    struct.pack_into(order + "8f", header, 76, 1, *np.linalg.norm(sform[:3, :3], axis=0), 1, 1, 1, 1)
    struct.pack_into(order + "f", header, 108, 352)
    struct.pack_into(order + "2f", header, 112, slope, intercept)
    header[123] = units
    struct.pack_into(order + "2h", header, 252, qform_code, 1)
    struct.pack_into(order + "12f", header, 280, *sform[:3].ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_files_keep_voxels_and_positions(tmp_path, suffix):
    scan = reoriented(tiny_torso(), (2, 0, 1), (True, False, True))
    read = read_scan(write(scan, tmp_path / f"Case 7{suffix}"))
    assert read.name == "Case 7"
    assert np.array_equal(read.voxels, scan.voxels) and np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


def test_left_handed_and_oblique_files_are_kept_as_they_are(tmp_path):
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    scan = body_phantom((24, 20, 12), ijk_to_ras=grid_to_ras((24, 20, 12), (15, 12, 20), rotation=turn))
    for name in ("ct.nrrd", "ct.nii.gz"):
        assert np.allclose(read_scan(write(scan, tmp_path / name)).ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
@pytest.mark.parametrize("qform_code", [0, 1])
def test_a_sheared_nifti_sform_is_kept(tmp_path, name, order, qform_code):
    scan = sheared(tiny_torso())
    path = write_nifti(tmp_path / name, scan.voxels, scan.ijk_to_ras, order, qform_code=qform_code)
    read = read_scan(path)
    assert read.is_sheared and read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, scan.voxels) and np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


def test_slope_intercept_and_meters_of_a_sheared_nifti_are_applied(tmp_path):
    scan = sheared(tiny_torso())
    for slope in (1.0, 2.0):
        stored = ((scan.voxels.astype(np.float32) + 1024) // slope).astype(np.int16)
        path = write_nifti(tmp_path / "ct.nii", stored, scan.ijk_to_ras, slope=slope, intercept=-1024.0)
        assert np.array_equal(read_scan(path).voxels, stored * slope - 1024)
    in_meters = scan.ijk_to_ras * [[0.001], [0.001], [0.001], [1]]
    path = write_nifti(tmp_path / "ct.nii", scan.voxels, in_meters, units=1)
    assert np.allclose(read_scan(path).ijk_to_ras, scan.ijk_to_ras, atol=1e-3)


def test_a_damaged_sheared_nifti_is_refused(tmp_path):
    scan = sheared(tiny_torso())
    path = write_nifti(tmp_path / "ct.nii.gz", scan.voxels, scan.ijk_to_ras)
    path.write_bytes(path.read_bytes()[:-2000])
    assert "damaged or incomplete" in refused(path)
    path = write_nifti(tmp_path / "ct.nii", scan.voxels.astype(np.complex64), scan.ijk_to_ras)
    assert "datatype 32" in refused(path)


def test_missing_unreadable_and_unsupported_files_are_refused(tmp_path):
    assert "no file or folder" in refused(tmp_path / "nothing.nrrd")
    for name in ("ct.nrrd", "ct.nii", "ct.nii.gz", "ct.mha", "ct.dcm"):
        (tmp_path / name).write_bytes(b"this is not an image" * 40)
        assert "damaged or incomplete" in refused(tmp_path / name)
    (tmp_path / "ct.png").write_bytes(b"")
    message = refused(tmp_path / "ct.png")
    assert ".nii.gz" in message and "DICOM" in message


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"])
def test_a_file_cut_short_is_refused(tmp_path, name):
    path = write(tiny_torso(), tmp_path / name)
    path.write_bytes(path.read_bytes()[:-1500])
    assert "damaged or incomplete" in refused(path)


def test_what_is_wrong_with_the_image_itself_is_said(tmp_path):
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(tiny_torso().to_sitk()[:, :, 3], str(path))
    assert "2-D" in refused(path)
    sitk.WriteImage(sitk.Compose([tiny_torso().to_sitk()] * 2), str(path))
    assert "2 values per voxel" in refused(path)
    sitk.WriteImage(sitk.JoinSeries([tiny_torso().to_sitk()] * 2), str(path))
    assert "4 dimensions" in refused(path)
    path = tmp_path / "labels.nii.gz"
    sitk.WriteImage(sitk.Cast(tiny_torso().to_sitk() > -500, sitk.sitkUInt8), str(path))
    assert "label map" in refused(path)


def test_zero_spacing_in_a_file_is_refused(tmp_path):
    for name, pattern, zero in (
        ("ct.mha", b"ElementSpacing = 15 12 20", b"ElementSpacing = 15 0 20"),
        ("ct.nrrd", b"(0,-12,0)", b"(0,0,0)"),
    ):
        path = write(tiny_torso(), tmp_path / name)
        data = path.read_bytes()
        assert pattern in data
        path.write_bytes(data.replace(pattern, zero))
        assert "spacing of zero" in refused(path) or "singular" in refused(path)


@pytest.mark.parametrize("zero", [0.0, float("nan")])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_nifti_without_a_spacing_is_refused_where_itk_takes_one_millimeter(tmp_path, name, zero):
    scan = body_phantom((40, 40, 40), (9.0, 9.0, 9.0))  # large enough to pass for a scan of 1 mm
    data = bytearray(write(scan, tmp_path / "good.nii").read_bytes())
    struct.pack_into("<f", data, 84, zero)
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    assert "spacing of zero" in refused(path)
    affine = scan.ijk_to_ras.copy()
    affine[:3, 1] = 0
    assert "spacing of zero" in refused(write_nifti(path, scan.voxels, affine))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_one_voxel_that_is_no_number_is_refused_in_every_kind_of_file(tmp_path, suffix, bad):
    """ITK reads NaN in a NIfTI file as 0."""
    image = sitk.Cast(tiny_torso().to_sitk(), sitk.sitkFloat32)
    path = tmp_path / f"ct{suffix}"
    sitk.WriteImage(image, str(path))
    expected = read_scan(path)
    assert np.array_equal(expected.voxels, tiny_torso().voxels)
    assert np.allclose(expected.ijk_to_ras, tiny_torso().ijk_to_ras, atol=1e-4)
    image[3, 4, 5] = bad
    sitk.WriteImage(image, str(path))
    assert "NaN or infinity" in refused(path)
