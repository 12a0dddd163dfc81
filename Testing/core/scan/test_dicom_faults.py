"""No slice and no frame of a DICOM series is lost, misplaced or mixed up without a word."""

import shutil
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.geometry import RAS_LPS
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.files import refused
from made_up.scans import body_phantom, reoriented

LONG = {"OW", "SQ", "OB"}


def ct(tilt: float = 0.0) -> Scan:
    """A torso stored as scanners do: axes to the left, to the back and to the head."""
    scan = reoriented(body_phantom((24, 20, 12), (15.0, 12.0, 20.0)), (0, 1, 2), (True, True, False))
    affine = scan.ijk_to_ras.copy()
    affine[1, 2] = -tilt * affine[2, 2]
    return Scan(scan.voxels, affine)


def text(values) -> bytes:
    data = "\\".join(f"{value:.10g}" for value in np.ravel(values)).encode()
    return data + b" " * (len(data) % 2)


def element(tag: int, kind: str, data: bytes) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    return head + (struct.pack("<HI", 0, len(data)) if kind in LONG else struct.pack("<H", len(data))) + data


def sequence(tag: int, *items: bytes) -> bytes:
    return element(tag, "SQ", b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items))


def dicom(path, elements: list[tuple[int, str, bytes]], extra: dict[int, bytes], storage: bytes):
    """A file in explicit little endian from its elements; `extra` are whole ones by tag."""
    meta = element(0x00020002, "UI", storage) + element(0x00020010, "UI", b"1.2.840.10008.1.2.1\0")
    whole = {tag: element(tag, kind, data) for tag, kind, data in elements} | extra
    body = b"".join(whole[tag] for tag in sorted(whole))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta + body)
    return path


def common(scan: Scan, patient: str = "P", series: bytes = b"1.2.3\0") -> list[tuple[int, str, bytes]]:
    numbers = {0x00280002: 1, 0x00280010: scan.voxels.shape[1], 0x00280011: scan.voxels.shape[0], 0x00280100: 16,
               0x00280101: 16, 0x00280102: 15, 0x00280103: 1}  # fmt: skip
    texts = [
        (0x00080060, "CS", b"CT"), (0x00100020, "LO", patient.encode() + b" " * (len(patient) % 2)),
        (0x0020000E, "UI", series), (0x00280004, "CS", b"MONOCHROME2 "),
    ]  # fmt: skip
    return texts + [(tag, "US", struct.pack("<H", number)) for tag, number in numbers.items()]


def geometry(scan: Scan, k: int) -> tuple[np.ndarray, np.ndarray]:
    lps = RAS_LPS @ scan.ijk_to_ras
    return lps[:3, 3] + lps[:3, 2] * k, (lps[:3, :2] / scan.spacing[:2]).T


def write_frames(path, scan: Scan, order, patient: str = "P"):
    """An enhanced CT whose frames are stored in the given order."""
    storage = b"1.2.840.10008.5.1.4.1.1.2.1\0"
    measures = sequence(0x00289110, element(0x00280030, "DS", text(scan.spacing[[1, 0]])))
    plane = sequence(0x00209116, element(0x00200037, "DS", text(geometry(scan, 0)[1])))
    scale = sequence(0x00289145, element(0x00281052, "DS", b"-1024 ") + element(0x00281053, "DS", b"1 "))
    places = [sequence(0x00209113, element(0x00200032, "DS", text(geometry(scan, k)[0]))) for k in order]
    pixels = np.concatenate([(scan.voxels[:, :, k].T + 1024).astype("<i2").ravel() for k in order]).tobytes()
    elements = [
        *common(scan, patient), (0x00080016, "UI", storage), (0x00280008, "IS", text([len(order)])),
        (0x7FE00010, "OW", pixels),
    ]  # fmt: skip
    extra = {0x52009229: sequence(0x52009229, measures + plane + scale), 0x52009230: sequence(0x52009230, *places)}
    return dicom(path, elements, extra, storage)


def write_slices(folder, scan: Scan, patient: str = "P", series: bytes = b"1.2.3\0", jitter=lambda k: 0.0, prefix="i"):
    """A classic series; `jitter(k)` is added to the direction cosines of slice k."""
    storage = b"1.2.840.10008.5.1.4.1.1.2\0"
    for k in range(scan.voxels.shape[2]):
        position, directions = geometry(scan, k)
        elements = [
            *common(scan, patient, series), (0x00080016, "UI", storage),
            (0x00200032, "DS", text(position)), (0x00200037, "DS", text(directions + jitter(k))),
            (0x00280030, "DS", text(scan.spacing[[1, 0]])), (0x00281052, "DS", b"-1024 "), (0x00281053, "DS", b"1 "),
            (0x7FE00010, "OW", (scan.voxels[:, :, k].T + 1024).astype("<i2").tobytes()),
        ]  # fmt: skip
        dicom(folder / f"{prefix}{k:03d}.dcm", elements, {}, storage)
    return folder


@pytest.mark.parametrize("tilt", [0.0, 0.27])
@pytest.mark.parametrize("order", ["as they lie", "interleaved", "reversed", "random"])
def test_frames_are_put_where_they_say_they_lie(tmp_path, order, tilt):
    scan = ct(tilt)
    count = scan.voxels.shape[2]
    orders = {
        "as they lie": range(count), "interleaved": [*range(0, count, 2), *range(1, count, 2)],
        "reversed": range(count)[::-1], "random": np.random.default_rng(3).permutation(count),
    }  # fmt: skip
    read = read_scan(write_frames(tmp_path / "ct.dcm", scan, list(orders[order])))
    assert np.array_equal(read.voxels, scan.voxels)
    assert np.allclose(read.ijk_to_ras, scan.ijk_to_ras, atol=1e-4) and read.is_sheared == (tilt > 0)


def test_missing_and_doubled_frames_are_refused(tmp_path):
    scan = ct()
    assert "are missing" in refused(write_frames(tmp_path / "gap.dcm", scan, [0, 1, 2, 3, 5, 6, 7, 8]))
    assert "several frames of the same slice" in refused(write_frames(tmp_path / "two.dcm", scan, [0, 1, 2, 2, 3, 4]))


@pytest.mark.parametrize("jitter", [lambda k: 0.0005 + 1e-6 * (k % 2), lambda k: 0.0005 - 1e-6 * (k > 5)])
def test_rounding_of_directions_does_not_part_a_series(tmp_path, jitter):
    read = read_scan(write_slices(tmp_path, ct(), jitter=jitter))
    assert read.voxels.shape == ct().voxels.shape and not read.warnings


@pytest.mark.parametrize("size", [0, 300, 600, 1100])
def test_damaged_files_of_a_series_are_counted(tmp_path, size):
    folder = write_slices(tmp_path, ct())
    for k in (10, 11):
        path = folder / f"i{k:03d}.dcm"
        path.write_bytes(path.read_bytes()[:size])
    assert "2 file(s)" in refused(folder) and "damaged" in refused(folder)


def test_files_that_are_no_images_do_not_disturb(tmp_path):
    folder = write_slices(tmp_path, ct())
    (folder / "notes.txt").write_text("ignore")
    dicom(folder / "report.dcm", [(0x00080060, "CS", b"SR")], {}, b"1.2.840.10008.5.1.4.1.1.88.11\0")
    assert np.array_equal(read_scan(folder).voxels, ct().voxels)


def test_a_second_series_is_told_and_a_second_patient_refused(tmp_path):
    folder = write_slices(tmp_path, ct())
    short = Scan(ct().voxels[:, :, :9], ct().ijk_to_ras)
    write_slices(tmp_path / "other", short, series=b"1.2.4\0")
    read = read_scan(folder)
    assert read.voxels.shape[2] == 12
    [warning] = read.warnings
    assert "2 CT series" in warning and "9 other images" in warning
    shutil.rmtree(tmp_path / "other")
    write_slices(tmp_path / "other", short, series=b"1.2.4\0", patient="Q")
    assert "several patients" in refused(folder)


def test_slices_of_another_spacing_within_a_series_are_refused(tmp_path):
    folder = write_slices(tmp_path, ct())
    affine = ct().ijk_to_ras.copy()
    affine[:3, :2] *= 1.1
    affine[:3, 3] += 1000
    write_slices(folder, Scan(ct().voxels[:, :, :8], affine), prefix="j")
    assert "8 of the parallel slices" in refused(folder)


def test_a_folder_of_volume_files_says_what_to_do(tmp_path):
    sitk.WriteImage(ct().to_sitk(), str(tmp_path / "ct.nii.gz"))
    assert "volume files such as “ct.nii.gz”" in refused(tmp_path)


def test_a_dicom_segmentation_is_named_for_what_it_is(tmp_path):
    scan = ct()
    path = write_frames(tmp_path / "seg.dcm", scan, list(range(12)))
    path.write_bytes(path.read_bytes().replace(b"CS\x02\0CT", b"CS\x04\0SEG "))
    assert "is a DICOM segmentation" in refused(path)
