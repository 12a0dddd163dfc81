"""Volume files whose headers say odd things: read as the standard says, with a warning, or refused; never misread."""

import bz2
import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.files import refused
from made_up.scans import tiny_torso

SCAN = tiny_torso()


def nifti(path, changes=(), voxels=None):
    """The torso as NIfTI-1 by ITK, with (byte, format, values) packed into its header."""
    plain = path.with_name("plain.nii")
    sitk.WriteImage((SCAN if voxels is None else Scan(voxels, SCAN.ijk_to_ras)).to_sitk(), str(plain))
    data = bytearray(plain.read_bytes())
    plain.unlink()
    for byte, kind, *values in changes:
        struct.pack_into("<" + kind, data, byte, *values)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def same(read: Scan, tolerance: float = 1e-3) -> bool:
    return np.array_equal(read.voxels, SCAN.voxels) and np.allclose(read.ijk_to_ras, SCAN.ijk_to_ras, atol=tolerance)


def test_a_plain_file_gives_no_warning(tmp_path):
    read = read_scan(nifti(tmp_path / "ct.nii"))
    assert same(read) and not read.warnings


def test_exactly_the_named_file_is_read(tmp_path):
    other = np.where(SCAN.voxels > -500, -90, -1000).astype(np.int16)
    other[::3, ::2] += np.int16(40)
    nifti(tmp_path / "ct.nii", voxels=other)
    assert same(read_scan(nifti(tmp_path / "ct.nii.gz")))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_an_offset_of_zero_stands_for_the_first_byte_after_the_header(tmp_path, dtype):
    assert same(read_scan(nifti(tmp_path / "ct.nii", [(108, "f", 0.0)], SCAN.voxels.astype(dtype))))


@pytest.mark.parametrize("offset", [np.nan, np.inf, -352.0, 1.0, 352.5, 1e30])
def test_other_offsets_are_refused(tmp_path, offset):
    assert "begin at byte" in refused(nifti(tmp_path / "ct.nii", [(108, "f", offset)]))


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(("slope", "intercept"), [(np.inf, 0.0), (1.0, np.nan), (2.0, np.inf)])
def test_scales_that_are_no_numbers_are_refused(tmp_path, slope, intercept, dtype):
    path = nifti(tmp_path / "ct.nii", [(112, "2f", slope, intercept)], SCAN.voxels.astype(dtype))
    assert "no numbers to compute with" in refused(path)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
def test_scale_and_intercept_are_applied_alike_to_every_type(tmp_path, dtype):
    stored = Scan(SCAN.voxels, SCAN.ijk_to_ras).to_sitk()
    raw = sitk.GetArrayFromImage(stored).astype(np.float64)
    image = sitk.GetImageFromArray(((raw + 1024) / 2).astype(dtype))
    image.CopyInformation(stored)
    sitk.WriteImage(image, str(tmp_path / "ct.nii"))
    data = bytearray((tmp_path / "ct.nii").read_bytes())
    struct.pack_into("<2f", data, 112, 2.0, -1024.0)
    (tmp_path / "ct.nii").write_bytes(data)
    assert np.abs(read_scan(tmp_path / "ct.nii").voxels - SCAN.voxels).max() <= 1


def test_an_intercept_without_a_scale_is_told(tmp_path):
    [warning] = read_scan(nifti(tmp_path / "ct.nii", [(112, "2f", 0.0, -1024.0)])).warnings
    assert "intercept of -1024 but no scale" in warning


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_negative_spacing_mirrors_nobody(tmp_path, axis):
    spacing = struct.pack("<f", -float(SCAN.spacing[axis - 1]))
    changes = [(254, "h", 0), (76 + 4 * axis, "f", struct.unpack("<f", spacing)[0])]
    read = read_scan(nifti(tmp_path / "ct.nii", changes))
    assert same(read) and "negative voxel spacing" in read.warnings[0]


def test_where_sform_and_qform_differ_the_sform_is_taken_and_told(tmp_path):
    for sform_code in (1, 2, 4):
        shifted = float(SCAN.ijk_to_ras[0, 3]) + 76
        read = read_scan(nifti(tmp_path / "ct.nii", [(254, "h", sform_code), (268, "f", shifted)]))
        assert same(read) and "up to 76 mm apart" in read.warnings[0]


def test_two_different_spacings_are_told(tmp_path):
    read = read_scan(nifti(tmp_path / "ct.nii", [(252, "h", 0), (80, "f", 7.5)]))
    assert same(read) and "two voxel spacings: 15 x 12 x 20 (sform" in read.warnings[0]


def test_a_file_that_does_not_tell_right_from_left_is_refused(tmp_path):
    assert "right and left cannot be told apart" in refused(nifti(tmp_path / "ct.nii", [(252, "2h", 0, 0)]))


@pytest.mark.parametrize("skew", [5e-5, 2e-4, 5e-4, 9e-4, 2e-3])
def test_slightly_skewed_axes_are_read_as_they_are(tmp_path, skew):
    cosine = float(SCAN.ijk_to_ras[2, 2]) * skew
    read = read_scan(nifti(tmp_path / "ct.nii", [(252, "h", 0), (280 + 4 * 6, "f", cosine)]))
    assert read.ijk_to_ras[1, 2] == pytest.approx(cosine) and np.array_equal(read.voxels, SCAN.voxels)


@pytest.mark.parametrize(("code", "factor"), [(1, 0.001), (3, 1000.0)])
def test_units_of_length_are_read(tmp_path, code, factor):
    sform = (SCAN.ijk_to_ras[:3] * factor).ravel()
    changes = [(123, "B", code), (252, "h", 0), (280, "12f", *sform), (80, "3f", *(SCAN.spacing * factor))]
    assert same(read_scan(nifti(tmp_path / "ct.nii", changes)), 0.01)


@pytest.mark.parametrize("spacing", [2000.0, 1e9])
def test_sizes_that_no_patient_has_are_refused(tmp_path, spacing):
    sform = np.diag([spacing, spacing, spacing, 1.0])[:3].ravel()
    changes = [(252, "h", 0), (280, "12f", *sform), (80, "3f", *[spacing] * 3)]
    assert "unit of length" in refused(nifti(tmp_path / "ct.nii", changes))
    with pytest.raises(ScanError, match="no patient"):
        Scan(np.tile(SCAN.voxels, (10, 1, 1)), np.diag([40.0, 12.0, 20.0, 1.0]))


def test_impossible_numbers_of_voxels_are_refused_before_memory_is_asked_for(tmp_path):
    for name in ("ct.nii", "ct.nii.gz"):
        assert "claims 32767 x" in refused(nifti(tmp_path / name, [(40, "8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)]))
        assert "damaged" in refused(nifti(tmp_path / name, [(40, "8h", 3, 1500, 1500, 1500, 1, 1, 1, 1)]))


def test_a_packed_file_with_a_wrong_check_sum_is_refused(tmp_path):
    path = nifti(tmp_path / "ct.nii.gz")
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    assert "damaged" in refused(path)


def test_whole_files_of_rarer_kinds_are_read(tmp_path):
    plain = nifti(tmp_path / "ct.nii").read_bytes()
    (tmp_path / "gzipped.nii").write_bytes(gzip.compress(plain))
    assert same(read_scan(tmp_path / "gzipped.nii"))
    header = bytearray(544)
    affine = SCAN.ijk_to_ras[:3].ravel()
    for byte, kind, values in (
        (0, "i", [540]), (12, "2h", [4, 16]), (16, "8q", [3, *SCAN.voxels.shape, 1, 1, 1, 1]),
        (104, "8d", [1, *SCAN.spacing, 1, 1, 1, 1]), (168, "q", [544]), (344, "2i", [0, 1]), (400, "12d", affine),
        (500, "i", [2]),
    ):  # fmt: skip
        struct.pack_into("<" + kind, header, byte, *values)
    header[4:12] = b"n+2\0\r\n\032\n"
    (tmp_path / "two.nii").write_bytes(header + SCAN.voxels.tobytes(order="F"))
    assert same(read_scan(tmp_path / "two.nii"))
    sitk.WriteImage(SCAN.to_sitk(), str(tmp_path / "raw.nrrd"))
    head, _, voxels = (tmp_path / "raw.nrrd").read_bytes().partition(b"\n\n")
    packed = head.replace(b"encoding: raw", b"encoding: bzip2") + b"\n\n" + bz2.compress(voxels)
    (tmp_path / "bzip2.nrrd").write_bytes(packed)
    assert same(read_scan(tmp_path / "bzip2.nrrd"))


def changed(path, old: bytes, new: bytes):
    sitk.WriteImage(SCAN.to_sitk(), str(path))
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"space directions:", b"x:", "right and left"),
        (b"space: left-posterior-superior", b"space: scanner-xyz", "right and left"),
        (b"encoding: raw", b"encoding: ascii", "damaged"),
        (b"encoding: raw", b"encoding: zrl", "packed as “zrl”"),
        (b"sizes: 24 20 12", b"sizes: 24 20 99999999999", "claims"),
        (b"sizes: 24 20 12", b"sizes: 24 20", "damaged"),
        (b"(-15,", b"(nan,", "not three numbers"),
        (b"endian: little\n", b"", "order of its bytes"),
    ],
)
def test_wrong_headers_of_nrrd_files_are_refused(tmp_path, old, new, words):
    assert words in refused(changed(tmp_path / "ct.nrrd", old, new))


@pytest.mark.parametrize("unit", ["um", "m"])
def test_units_of_nrrd_files_are_read(tmp_path, unit):
    scaled = {"um": 1000.0, "m": 0.001}[unit]
    lps = np.diag([-1, -1, 1]) @ SCAN.ijk_to_ras[:3] * scaled
    vectors = ["(" + ",".join(f"{value:.9g}" for value in column) + ")" for column in lps.T]
    header = (
        "NRRD0005\ntype: short\ndimension: 3\nspace: LPS\nsizes: 24 20 12\nendian: little\nencoding: raw\n"
        f'space units: "{unit}" "{unit}" "{unit}"\nspace directions: {" ".join(vectors[:3])}\n'
        f"space origin: {vectors[3]}\n\n"
    )
    (tmp_path / "ct.nrrd").write_bytes(header.encode() + SCAN.voxels.tobytes(order="F"))
    assert same(read_scan(tmp_path / "ct.nrrd"), 0.01)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"ElementSpacing = 15 12 20", b"Comment = none", "does not say its voxel spacing"),
        (b"NDims = 3", b"NDims = -1", "damaged"),
        (b"NDims = 3", b"NDims = 3000000000", "damaged"),
        (b"ElementSpacing = 15", b"ElementSpacing = 15 abc", "elementspacing"),
        (b"Offset = ", b"Offset = abc ", "offset"),
        (b"DimSize = 24", b"DimSize = 2400000000000", "claims"),
        (b"CompressedData = False", b"CompressedData = True", "damaged"),
    ],
)
def test_wrong_headers_of_metaimage_files_are_refused(tmp_path, old, new, words):
    assert words in refused(changed(tmp_path / "ct.mha", old, new))


# Values ---------------------------------------------------------------------------------------------------------------
