"""MetaImage files (.mha, .mhd), read by their own header, so that a wrong one cannot crash a library.

Positions in a MetaImage file are LPS mm; row n of its TransformMatrix is the direction of axis n.
"""

import math
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import RAS_LPS
from APELocalizerLib.core.scan.volume import (
    DAMAGED,
    NO_SPACING,
    PLAIN,
    ZLIB,
    Volume,
    as_voxels,
    data_file,
    read_bytes,
    text_voxels,
    voxel_count,
)

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
"""Name of a kind of numbers → numpy type."""

LONGEST_HEADER = 1 << 16
MATRIX_KEYS = ("transformmatrix", "rotation", "orientation")
OFFSET_KEYS = ("offset", "position", "origin")


def read_metaimage(path: Path) -> Volume:
    """The volume of a file; raises `ScanError` naming what is wrong with it."""
    fields, data_at = _header(path)
    name = path.name
    axes = _numbers(fields, "ndims", name, 1)[0]
    if axes not in range(1, 8):
        raise ScanError(DAMAGED.format(name))
    axes = int(axes)
    sizes = _numbers(fields, "dimsize", name, axes)
    if any(size != int(size) for size in sizes):
        raise ScanError(DAMAGED.format(name))
    shape = tuple(int(size) for size in sizes)
    voxel_count(shape, name)
    dtype = _dtype(fields, name)
    if axes < 3:
        return Volume(np.zeros(shape, dtype), np.eye(4))
    channels = int(_numbers(fields, "elementnumberofchannels", name, 1, [1.0])[0])
    if channels != 1:
        return Volume(np.zeros((1, 1, 1), dtype), np.eye(4), values_per_voxel=channels)
    ijk_to_ras, notes = _geometry(fields, axes, name)
    voxels = _voxels(path, fields, data_at, dtype, shape)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return Volume(voxels, ijk_to_ras, level=1.0 if dtype.kind in "iu" else 0.0, warnings=notes)


def _header(path: Path) -> tuple[dict[str, str], int]:
    """(fields by name in small letters, byte where the data begin); the last field is ElementDataFile."""
    with open(path, "rb") as file:
        start = file.read(LONGEST_HEADER)
    fields: dict[str, str] = {}
    position = 0
    while "elementdatafile" not in fields:
        end = start.find(b"\n", position)
        line = start[position : end if end >= 0 else len(start)].decode("utf-8", errors="replace")
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals or key in fields:
            raise ScanError(DAMAGED.format(path.name))
        fields[key] = value.strip()
        position = end + 1 if end >= 0 else len(start)
    return fields, position


def _numbers(
    fields: dict[str, str], key: str, name: str, count: int, default: list[float] | None = None
) -> list[float]:
    """Numbers of a field; raises `ScanError` if it is missing (without a default) or not `count` finite numbers."""
    if key not in fields and default is not None:
        return default
    try:
        values = [float(word) for word in fields[key].split()]
    except (KeyError, ValueError):
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise ScanError(f"“{name}” has no valid “{key}” in its header ({count} numbers). Save it again.")
    return values


def _dtype(fields: dict[str, str], name: str) -> np.dtype:
    kind = fields.get("elementtype", "").upper()
    if kind not in TYPES:
        raise ScanError(f"“{name}” holds a kind of values (“{kind}”) that no CT has. Choose the CT.")
    big = _is_true(fields, "binarydatabyteordermsb", name) or _is_true(fields, "elementbyteordermsb", name)
    return np.dtype((">" if big else "<") + TYPES[kind])


def _is_true(fields: dict[str, str], key: str, name: str, default: str = "false") -> bool:
    value = fields.get(key, default).lower()
    if value not in ("true", "false", "1", "0"):
        raise ScanError(f"“{name}” has no valid “{key}” in its header (True or False). Save it again.")
    return value in ("true", "1")


def _geometry(fields: dict[str, str], axes: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(4x4 index→RAS mm, warnings)."""
    if "elementspacing" not in fields:
        raise ScanError(f"“{name}” does not say its voxel spacing (ElementSpacing). Export or save it again.")
    spacing = _numbers(fields, "elementspacing", name, axes)[:3]
    if min(np.abs(spacing)) == 0:
        raise ScanError(NO_SPACING.format(name))
    if min(spacing) < 0:
        raise ScanError(f"“{name}” has a negative voxel spacing. Correct it in its header, or export it again.")
    matrix_key = next((key for key in MATRIX_KEYS if key in fields), None)
    offset_key = next((key for key in OFFSET_KEYS if key in fields), None)
    notes = []
    affine = np.eye(4)
    if matrix_key is None:
        notes.append(f"“{name}” does not say how the patient lies in it; axes to the left, back and head were taken.")
        affine[:3, :3] *= spacing
    else:
        matrix = np.reshape(_numbers(fields, matrix_key, name, axes * axes), (axes, axes))
        affine[:3, :3] = matrix[:3, :3].T * spacing
    if offset_key is None:
        notes.append(f"“{name}” does not say where it lies (Offset); it was taken to begin at 0, 0, 0 mm.")
    else:
        affine[:3, 3] = _numbers(fields, offset_key, name, axes)[:3]
    return RAS_LPS @ affine, tuple(notes)


def _voxels(path: Path, fields: dict[str, str], data_at: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    name, file = path.name, fields["elementdatafile"]
    if file.upper() != "LOCAL":
        path, data_at = data_file(path, file), 0
    size = math.prod(shape) * dtype.itemsize
    skip = _numbers(fields, "headersize", name, 1, [0.0])[0]
    if skip == -1:
        data_at = max(data_at, path.stat().st_size - size)
    elif skip < 0 or skip != int(skip):
        raise ScanError(DAMAGED.format(name))
    else:
        data_at += int(skip)
    if not _is_true(fields, "binarydata", name, "true"):
        return text_voxels(read_bytes(path, data_at, path.stat().st_size - data_at), dtype, shape, name)
    packed = _is_true(fields, "compresseddata", name)
    data = read_bytes(path, 0, size, ZLIB, data_at) if packed else read_bytes(path, data_at, size, PLAIN)
    return as_voxels(data, dtype, shape)
