"""Reading CT files and DICOM folders: geometry, Hounsfield units, and clear refusals."""

import gzip
import shutil
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import RAS_LPS, apply_affine
from APELocalizerLib.core.preparation.orientation import to_canonical
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, reoriented


def phantom(shape=(24, 20, 12), spacing=(15.0, 12.0, 20.0)) -> Scan:
    return body_phantom(shape, spacing)


def write(scan: Scan, path):
    sitk.WriteImage(scan.to_sitk(), str(path))
    return path


def write_dicom(
    folder, scan: Scan, modality="CT", uid="1.2.3", prefix="slice", skip=(), positions=None, image_type=None
):
    """Write each k-slice as a DICOM file whose position follows the scan's matrix, sheared or not.

    Files are numbered against the slice order; values are stored 1024 higher, with a rescale intercept of -1024.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps = RAS_LPS @ scan.ijk_to_ras
    spacing = scan.spacing
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    count = scan.voxels.shape[2]
    for k in range(count):
        if k in skip:
            continue
        image = sitk.GetImageFromArray(np.ascontiguousarray(scan.voxels[:, :, k].T))
        image.SetSpacing((spacing[0], spacing[1]))
        position = lps[:3, 3] + lps[:3, 2] * (k if positions is None else positions[k])
        directions = np.concatenate([lps[:3, 0] / spacing[0], lps[:3, 1] / spacing[1]])
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.9.{k}{len(prefix)}",
            "0008|0008": image_type or "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0060": modality,
            "0020|000d": "1.2.3.4",
            "0020|000e": uid,
            "0020|0032": "\\".join(f"{x:.6f}" for x in position),
            "0020|0037": "\\".join(f"{x:.8f}" for x in directions),
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{prefix}{count - k:03d}.dcm"))
        writer.Execute(image)
    return folder


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


def sheared(scan: Scan, tilt=0.3) -> Scan:
    affine = scan.ijk_to_ras.copy()
    affine[1, 2] = -tilt * affine[2, 2]
    return Scan(scan.voxels, affine)


def refused(path) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(path)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_files_keep_voxels_and_positions(tmp_path, suffix):
    scan = reoriented(phantom(), (2, 0, 1), (True, False, True))
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
    scan = sheared(phantom())
    path = write_nifti(tmp_path / name, scan.voxels, scan.ijk_to_ras, order, qform_code=qform_code)
    read = read_scan(path)
    assert read.is_sheared and read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, scan.voxels) and np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


def test_slope_intercept_and_meters_of_a_sheared_nifti_are_applied(tmp_path):
    scan = sheared(phantom())
    for slope in (1.0, 2.0):
        stored = ((scan.voxels.astype(np.float32) + 1024) // slope).astype(np.int16)
        path = write_nifti(tmp_path / "ct.nii", stored, scan.ijk_to_ras, slope=slope, intercept=-1024.0)
        assert np.array_equal(read_scan(path).voxels, stored * slope - 1024)
    in_meters = scan.ijk_to_ras * [[0.001], [0.001], [0.001], [1]]
    path = write_nifti(tmp_path / "ct.nii", scan.voxels, in_meters, units=1)
    assert np.allclose(read_scan(path).ijk_to_ras, scan.ijk_to_ras, atol=1e-3)


def test_a_damaged_sheared_nifti_is_refused(tmp_path):
    scan = sheared(phantom())
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
    path = write(phantom(), tmp_path / name)
    path.write_bytes(path.read_bytes()[:-1500])
    assert "damaged or incomplete" in refused(path)


def test_what_is_wrong_with_the_image_itself_is_said(tmp_path):
    path = tmp_path / "image.nrrd"
    sitk.WriteImage(phantom().to_sitk()[:, :, 3], str(path))
    assert "2-D" in refused(path)
    sitk.WriteImage(sitk.Compose([phantom().to_sitk()] * 2), str(path))
    assert "2 values per voxel" in refused(path)
    sitk.WriteImage(sitk.JoinSeries([phantom().to_sitk()] * 2), str(path))
    assert "4 dimensions" in refused(path)
    path = tmp_path / "labels.nii.gz"
    sitk.WriteImage(sitk.Cast(phantom().to_sitk() > -500, sitk.sitkUInt8), str(path))
    assert "label map" in refused(path)


def test_zero_spacing_in_a_file_is_refused(tmp_path):
    for name, pattern, zero in (
        ("ct.mha", b"ElementSpacing = 15 12 20", b"ElementSpacing = 15 0 20"),
        ("ct.nrrd", b"(0,-12,0)", b"(0,0,0)"),
    ):
        path = write(phantom(), tmp_path / name)
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
    image = sitk.Cast(phantom().to_sitk(), sitk.sitkFloat32)
    path = tmp_path / f"ct{suffix}"
    sitk.WriteImage(image, str(path))
    expected = read_scan(path)
    assert np.array_equal(expected.voxels, phantom().voxels)
    assert np.allclose(expected.ijk_to_ras, phantom().ijk_to_ras, atol=1e-4)
    image[3, 4, 5] = bad
    sitk.WriteImage(image, str(path))
    assert "NaN or infinity" in refused(path)


def test_a_dicom_series_gives_the_same_scan_as_a_volume_file(tmp_path):
    scan = reoriented(phantom(), (0, 1, 2), (True, True, False))
    folder = write_dicom(tmp_path / "Case 7", scan)
    assert float(sitk.ReadImage(str(folder / "slice003.dcm")).GetMetaData("0028|1052")) == -1024
    read = read_scan(folder)
    assert read.name == "Case 7" and read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, scan.voxels)
    assert np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


@pytest.mark.parametrize("tilt", [0.25, -0.4])
def test_gantry_tilt_is_kept_as_shear(tmp_path, tilt):
    scan = sheared(reoriented(phantom(), (0, 1, 2), (True, True, False)), tilt)
    read = read_scan(write_dicom(tmp_path / "tilted", scan))
    assert read.is_sheared
    assert np.array_equal(read.voxels, scan.voxels) and np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


def test_sagittal_and_feet_first_series_keep_every_voxel_in_its_place(tmp_path):
    for order, flips in (((1, 2, 0), (False, True, False)), ((0, 1, 2), (False, False, True))):
        scan = reoriented(phantom(), order, flips)
        read = read_scan(write_dicom(tmp_path / f"{order[0]}", scan))
        expected, grid = to_canonical(scan)
        found, found_grid = to_canonical(read)
        assert np.array_equal(found, expected) and np.allclose(found_grid, grid, atol=1e-4)


def test_of_several_series_the_longest_ct_is_read(tmp_path):
    long, short = phantom(), phantom((24, 20, 9))
    write_dicom(tmp_path / "study" / "a", short, uid="1.2.3.1")
    write_dicom(tmp_path / "study" / "b", long, uid="1.2.3.2")
    write_dicom(tmp_path / "study" / "c", phantom((24, 20, 16), (15, 12, 15)), modality="MR", uid="1.2.3.3")
    localizer = phantom((24, 20, 18), (15, 12, 14))
    write_dicom(tmp_path / "study" / "d", localizer, uid="1.2.3.4", image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    (tmp_path / "study" / "notes.txt").write_text("not an image")
    assert read_scan(tmp_path / "study").voxels.shape == long.voxels.shape


def test_folders_without_a_ct_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no DICOM images" in refused(tmp_path / "empty")
    message = refused(write_dicom(tmp_path / "mr", phantom(), modality="MR"))
    assert "no CT series" in message and "MR" in message


def test_missing_slices_are_counted(tmp_path):
    message = refused(write_dicom(tmp_path / "gap", phantom(), skip=(4, 5, 8)))
    assert message.startswith("3 slice(s)") and "missing" in message


def test_mixed_slice_distances_are_refused_with_the_distances(tmp_path):
    positions = [0, 1, 2, 3, 4, 4.6, 5.2, 5.8, 6.4, 7, 7.6, 8.2]
    message = refused(write_dicom(tmp_path / "mixed", phantom(), positions=positions))
    assert "12.00 to 20.00 mm" in message


def test_rounded_positions_are_no_gap(tmp_path):
    positions = np.arange(12) + np.random.default_rng(0).uniform(-0.02, 0.02, 12)
    read = read_scan(write_dicom(tmp_path / "rounded", phantom(), positions=positions))
    assert np.allclose(
        apply_affine(read.ijk_to_ras, [[3, 4, 5]]), apply_affine(phantom().ijk_to_ras, [[3, 4, 5]]), atol=1
    )


def test_copies_of_slices_are_dropped_but_phases_are_refused(tmp_path):
    folder = write_dicom(tmp_path / "copies", phantom())
    shutil.copy(folder / "slice003.dcm", folder / "again.dcm")
    assert np.array_equal(read_scan(folder).voxels, phantom().voxels)
    other = Scan((phantom().voxels + 5).astype(np.int16), phantom().ijk_to_ras)
    write_dicom(folder, other, prefix="phase2")
    assert "different images of the same slice" in refused(folder)


def test_one_slice_of_a_series_is_refused_with_the_advice_to_choose_the_folder(tmp_path):
    folder = write_dicom(tmp_path / "series", phantom())
    assert "Choose the folder" in refused(folder / "slice003.dcm")
    single = tmp_path / "single"
    single.mkdir()
    shutil.copy(folder / "slice003.dcm", single)
    assert "2-D" in refused(single)
