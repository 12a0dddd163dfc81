"""The part of NIfTI-1 that ITK leaves out: sheared grids, and what is wrong with a file that ITK silently repairs.

ITK stores orthonormal directions and refuses (or straightens) a sheared sform, so such files are read here; it takes a
spacing of zero for 1 mm, and values that are not numbers for 0. The layout is that of the NIfTI-1 header (348 bytes,
either byte order); positions in NIfTI are RAS mm.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.scan.scan import SHEAR_TOLERANCE

HEADER_BYTES = 348

DAMAGED = "“{}” cannot be read: it is damaged or incomplete. Export or copy it again."

DATA_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI datatype code → numpy type."""

UNIT_MM = {1: 1000.0, 3: 0.001}
"""xyzt_units code of meters and micrometers → mm; everything else is mm."""


def sheared_affine(path: Path) -> np.ndarray | None:
    """4x4 index-to-RAS matrix if the file's sform is set and sheared, else None (also for anything that is not
    NIfTI-1)."""
    try:
        header, order = _header(path)
    except ScanError:
        return None
    if struct.unpack_from(order + "h", header, 254)[0] <= 0:
        return None
    affine = np.eye(4)
    affine[:3] = np.reshape(struct.unpack_from(order + "12f", header, 280), (3, 4))
    affine[:3] *= UNIT_MM.get(header[123] & 7, 1.0)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.all(np.isfinite(affine)) or lengths.min() == 0:
        return None
    axes = affine[:3, :3] / lengths
    return affine if np.abs(axes.T @ axes - np.eye(3)).max() > SHEAR_TOLERANCE else None


def lacks_spacing(path: Path) -> bool:
    """Whether an axis of a NIfTI-1 file has a spacing that is zero or not a number."""
    try:
        header, order = _header(path)
    except ScanError:
        return False
    axes = min(3, struct.unpack_from(order + "h", header, 40)[0])
    lengths = [np.array(struct.unpack_from(order + "3f", header, 80))]
    if struct.unpack_from(order + "h", header, 254)[0] > 0:
        sform = np.reshape(struct.unpack_from(order + "12f", header, 280), (3, 4))
        lengths.append(np.linalg.norm(sform[:, :3], axis=0))
    return any(not np.isfinite(each[:axes]).all() or (each[:axes] == 0).any() for each in lengths)


def holds_floats(path: Path) -> bool:
    """Whether the voxels of a NIfTI-1 file are stored as floating-point numbers, among which may be NaN."""
    try:
        header, order = _header(path)
    except ScanError:
        return False
    return DATA_TYPES.get(struct.unpack_from(order + "h", header, 70)[0], "").startswith("f")


def is_complete(path: Path) -> bool:
    """Whether the file holds all voxels its header promises (ITK silently fills up what is missing).

    A gzipped file is judged by the size in its last four bytes, and unpacked only where that does not fit.
    """
    try:
        header, order = _header(path)
    except ScanError:
        return True
    _, dtype, count, offset = _layout(header, order, path)
    expected = offset + count * dtype.itemsize
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        size = file.seek(0, 2)
        file.seek(max(0, size - 4))
        last = file.read(4)
    if not packed:
        return size >= expected
    if struct.unpack("<I", last)[0] == expected % 2**32:
        return True
    try:
        return len(_bytes(path, expected)) == expected
    except ScanError:
        return False


def read_voxels(path: Path) -> np.ndarray:
    """Voxels (i, j, k, …) with scl_slope and scl_inter applied. Raises ScanError for a damaged or unsupported file."""
    header, order = _header(path)
    shape, dtype, count, offset = _layout(header, order, path)
    slope, intercept = struct.unpack_from(order + "2f", header, 112)
    data = _bytes(path, offset + count * dtype.itemsize)
    if len(data) < offset + count * dtype.itemsize:
        raise ScanError(DAMAGED.format(path.name))
    voxels = np.frombuffer(data, dtype, count, offset).reshape(shape, order="F")
    if slope == 0.0 or not np.isfinite(slope) or (slope, intercept) == (1.0, 0.0):
        return voxels.astype(dtype.newbyteorder("="), copy=False)
    if slope == 1.0 and intercept == round(intercept) and dtype.kind in "iu":
        return voxels.astype(np.int64) + int(intercept)
    return voxels * np.float32(slope) + np.float32(intercept)


def _layout(header: bytes, order: str, path: Path) -> tuple[list[int], np.dtype, int, int]:
    """(shape without trailing ones beyond three axes, number type, number of values, offset of the first in bytes)."""
    dimensions = struct.unpack_from(order + "8h", header, 40)
    shape = [max(1, n) for n in dimensions[1 : 1 + min(7, max(0, dimensions[0]))]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    code = struct.unpack_from(order + "h", header, 70)[0]
    if code not in DATA_TYPES:
        raise ScanError(f"“{path.name}” holds a kind of values (NIfTI datatype {code}) that no CT has. Choose the CT.")
    offset = int(struct.unpack_from(order + "f", header, 108)[0])
    return shape, np.dtype(order + DATA_TYPES[code]), int(np.prod(shape)), offset


def _header(path: Path) -> tuple[bytes, str]:
    """(header, byte order) of a NIfTI-1 single file."""
    header = _bytes(path, HEADER_BYTES)
    for order in "<>":
        if len(header) == HEADER_BYTES and struct.unpack_from(order + "i", header, 0)[0] == HEADER_BYTES:
            if header[344:347] == b"n+1":
                return header, order
    raise ScanError(f"“{path.name}” is not a NIfTI-1 file. Export it again.")


def _bytes(path: Path, count: int) -> bytes:
    """The first `count` bytes of the file, unpacked if it is gzipped; fewer if it ends before."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            return file.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise ScanError(DAMAGED.format(path.name)) from error
