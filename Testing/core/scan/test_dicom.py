"""Series of DICOM images are read slice by slice, each voxel in its place; what is not one whole series is refused."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.geometry import RAS_LPS, apply_affine
from APELocalizerLib.core.preparation.orientation import to_canonical
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.files import refused
from made_up.scans import reoriented, sheared, tiny_torso


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


def test_a_dicom_series_gives_the_same_scan_as_a_volume_file(tmp_path):
    scan = reoriented(tiny_torso(), (0, 1, 2), (True, True, False))
    folder = write_dicom(tmp_path / "Case 7", scan)
    assert float(sitk.ReadImage(str(folder / "slice003.dcm")).GetMetaData("0028|1052")) == -1024
    read = read_scan(folder)
    assert read.name == "Case 7" and read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, scan.voxels)
    assert np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


@pytest.mark.parametrize("tilt", [0.25, -0.4])
def test_gantry_tilt_is_kept_as_shear(tmp_path, tilt):
    scan = sheared(reoriented(tiny_torso(), (0, 1, 2), (True, True, False)), tilt)
    read = read_scan(write_dicom(tmp_path / "tilted", scan))
    assert read.is_sheared
    assert np.array_equal(read.voxels, scan.voxels) and np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4)


def test_sagittal_and_feet_first_series_keep_every_voxel_in_its_place(tmp_path):
    for order, flips in (((1, 2, 0), (False, True, False)), ((0, 1, 2), (False, False, True))):
        scan = reoriented(tiny_torso(), order, flips)
        read = read_scan(write_dicom(tmp_path / f"{order[0]}", scan))
        expected, grid = to_canonical(scan)
        found, found_grid = to_canonical(read)
        assert np.array_equal(found, expected) and np.allclose(found_grid, grid, atol=1e-4)


def test_of_several_series_the_longest_ct_is_read(tmp_path):
    long, short = tiny_torso(), tiny_torso((24, 20, 9))
    write_dicom(tmp_path / "study" / "a", short, uid="1.2.3.1")
    write_dicom(tmp_path / "study" / "b", long, uid="1.2.3.2")
    write_dicom(tmp_path / "study" / "c", tiny_torso((24, 20, 16)), modality="MR", uid="1.2.3.3")
    localizer = tiny_torso((24, 20, 18))
    write_dicom(tmp_path / "study" / "d", localizer, uid="1.2.3.4", image_type="ORIGINAL\\PRIMARY\\LOCALIZER")
    (tmp_path / "study" / "notes.txt").write_text("not an image")
    assert read_scan(tmp_path / "study").voxels.shape == long.voxels.shape


def test_folders_without_a_ct_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no DICOM images" in refused(tmp_path / "empty")
    message = refused(write_dicom(tmp_path / "mr", tiny_torso(), modality="MR"))
    assert "no CT series" in message and "MR" in message


def test_missing_slices_are_counted(tmp_path):
    message = refused(write_dicom(tmp_path / "gap", tiny_torso(), skip=(4, 5, 8)))
    assert message.startswith("3 slice(s)") and "missing" in message


def test_mixed_slice_distances_are_refused_with_the_distances(tmp_path):
    positions = [0, 1, 2, 3, 4, 4.6, 5.2, 5.8, 6.4, 7, 7.6, 8.2]
    message = refused(write_dicom(tmp_path / "mixed", tiny_torso(), positions=positions))
    assert "12.00 to 20.00 mm" in message


def test_rounded_positions_are_no_gap(tmp_path):
    positions = np.arange(12) + np.random.default_rng(0).uniform(-0.02, 0.02, 12)
    read = read_scan(write_dicom(tmp_path / "rounded", tiny_torso(), positions=positions))
    assert np.allclose(
        apply_affine(read.ijk_to_ras, [[3, 4, 5]]), apply_affine(tiny_torso().ijk_to_ras, [[3, 4, 5]]), atol=1
    )


def test_copies_of_slices_are_dropped_but_phases_are_refused(tmp_path):
    folder = write_dicom(tmp_path / "copies", tiny_torso())
    shutil.copy(folder / "slice003.dcm", folder / "again.dcm")
    assert np.array_equal(read_scan(folder).voxels, tiny_torso().voxels)
    other = Scan((tiny_torso().voxels + 5).astype(np.int16), tiny_torso().ijk_to_ras)
    write_dicom(folder, other, prefix="phase2")
    assert "different images of the same slice" in refused(folder)


def test_one_slice_of_a_series_is_refused_with_the_advice_to_choose_the_folder(tmp_path):
    folder = write_dicom(tmp_path / "series", tiny_torso())
    assert "Choose the folder" in refused(folder / "slice003.dcm")
    single = tmp_path / "single"
    single.mkdir()
    shutil.copy(folder / "slice003.dcm", single)
    assert "2-D" in refused(single)
