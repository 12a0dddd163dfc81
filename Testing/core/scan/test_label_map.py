"""Label maps: positions, whole numbers, and that they lie where the scan lies."""

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import AnnotationError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.scan.label_map import LabelMap, check_place, read_label_map

GRID = np.diag([2.0, 3.0, 4.0, 1.0])


def written(path, labels):
    """Labels (i, j, k) as a file of 2 x 3 x 4 mm."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels.T))
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_label_maps_are_read_in_ras(tmp_path, suffix):
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[3, 1, 5] = 7
    label_map = read_label_map(written(tmp_path / f"x_seg{suffix}", labels))
    assert label_map.labels.shape == (4, 5, 6) and label_map.labels[3, 1, 5] == 7
    assert label_map.labels.dtype == np.int32 and not label_map.warnings
    assert (label_map.ijk_to_ras @ [3, 1, 5, 1])[:3] == pytest.approx((-16, -23, 50))


@pytest.mark.parametrize("value", [0.9961, 2.0000001, 1.000015, 0.99999994])
def test_labels_within_rounding_of_whole_numbers_are_rounded(tmp_path, value):
    labels = np.zeros((3, 3, 3), np.float32)
    labels[1, 1, 1] = value
    read = read_label_map(written(tmp_path / "x.nii.gz", labels))
    assert read.labels[1, 1, 1] == round(value) and read.labels.sum() == round(value)


@pytest.mark.parametrize("value", [0.5, 0.9, 1.4, np.nan, np.inf, 1e12])
def test_what_is_no_label_map_is_refused(tmp_path, value):
    labels = np.zeros((3, 3, 3), np.float32)
    labels[1, 1, 1] = value
    with pytest.raises(AnnotationError, match="no label map"):
        read_label_map(written(tmp_path / "x.nrrd", labels))


def test_damaged_and_cut_files_are_refused_as_a_scan_is(tmp_path):
    (tmp_path / "text_seg.nii.gz").write_text("no image")
    with pytest.raises(AnnotationError, match="damaged or incomplete"):
        read_label_map(tmp_path / "text_seg.nii.gz")
    labels = np.random.default_rng(0).integers(0, 5, (20, 20, 20)).astype(np.uint8)
    for name in ("cut.nii", "cut.nii.gz", "cut.mha"):
        path = written(tmp_path / name, labels)
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(AnnotationError, match="damaged or incomplete"):
            read_label_map(path)


def test_a_dicom_segmentation_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "seg.dcm").write_bytes(b"DICM")
    with pytest.raises(AnnotationError, match="export it as label map"):
        read_label_map(tmp_path / "seg.dcm")


def test_several_values_per_voxel_are_no_label_map(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((3, 3, 3, 2), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    with pytest.raises(AnnotationError, match="not one three-dimensional label map"):
        read_label_map(tmp_path / "x.nrrd")


def label_map(shift=(0.0, 0.0, 0.0)):
    """An organ of 8 x 12 x 16 mm at R, A, S = 9 to 17, 13.5 to 25.5, 18 to 34 mm, moved by `shift`."""
    labels = np.zeros((20, 20, 20), np.int32)
    labels[5:9, 5:9, 5:9] = 3
    grid = GRID.copy()
    grid[:3, 3] = shift
    return LabelMap(labels, grid, "seg.nii.gz")


VIEW = Box((-1.0, -1.5, -2.0), (39.0, 58.5, 78.0))


def test_a_label_map_that_lies_in_the_scan_is_accepted():
    check_place(label_map(), VIEW)
    check_place(label_map(), VIEW, (20, 20, 20), GRID)
    check_place(label_map((-5, 0, 0)), VIEW, (21, 20, 20), GRID)


def test_a_label_map_that_lies_elsewhere_is_refused_and_both_places_are_told():
    with pytest.raises(AnnotationError, match="elsewhere.*R 109 to 117.*R -1 to 39"):
        check_place(label_map((100, 0, 0)), VIEW)
    with pytest.raises(AnnotationError, match="as many voxels.*5 mm apart"):
        check_place(label_map((5, 0, 0)), VIEW, (20, 20, 20), GRID)


def test_exactly_the_named_file_is_read(tmp_path):
    """ITK opens x.nii where x.nii.gz was named."""
    ones, twos = (np.full((3, 3, 3), value, np.uint8) for value in (1, 2))
    written(tmp_path / "x.nii", ones)
    other = written(tmp_path / "other.nii", twos)
    (tmp_path / "x.nii.gz").write_bytes(gzip.compress(other.read_bytes()))
    assert (read_label_map(tmp_path / "x.nii.gz").labels == 2).all()
    assert (read_label_map(tmp_path / "x.nii").labels == 1).all()
