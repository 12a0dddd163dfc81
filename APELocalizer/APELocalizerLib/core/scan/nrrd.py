"""NRRD files (.nrrd, .nhdr), read by their own header, so that a wrong one cannot crash a library.

Positions in a NRRD file are those of its `space` (LPS, RAS or LAS), in the unit of `space units`.
"""

import math
import re
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import spacing_of
from APELocalizerLib.core.scan.volume import (
    BZIP2,
    DAMAGED,
    GZIP,
    NO_ORIENTATION,
    NO_SPACING,
    PLAIN,
    UNITS_MM,
    Volume,
    as_voxels,
    data_file,
    read_bytes,
    text_voxels,
    voxel_count,
)

TYPES = {
    "i1": "signed char|int8|int8_t", "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t", "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float", "f8": "double",
}  # fmt: skip
"""numpy type → its names in NRRD files."""

SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
"""Name of a space → its axes' signs in RAS."""

PACKINGS = {"raw": PLAIN, "gz": GZIP, "gzip": GZIP, "bz2": BZIP2, "bzip2": BZIP2}
TEXTS = ("ascii", "text", "txt", "hex")
LONGEST_HEADER = 1 << 20
LONGEST_TEXTS = 1 << 28
"""Bytes of a header that holds texts, such as a map's coarse CT."""


def read_nrrd(path: Path) -> Volume:
    """The volume of a file; raises `ScanError` naming what is wrong with it."""
    fields, _, data_at = _header(path, LONGEST_HEADER)
    name = path.name
    shape = tuple(int(size) for size in _numbers(fields, "sizes", name, whole=True))
    if len(shape) != _numbers(fields, "dimension", name, whole=True)[0] or len(shape) > 8:
        raise ScanError(DAMAGED.format(name))
    voxel_count(shape, name)
    dtype = _dtype(fields, name)
    if len(shape) < 3:
        return Volume(np.zeros(shape, dtype), np.eye(4))
    spatial, ijk_to_ras, notes = _geometry(fields, len(shape), name)
    values = math.prod(shape[axis] for axis in range(len(shape)) if axis not in spatial)
    if values != 1:
        return Volume(np.zeros((1, 1, 1), dtype), np.eye(4), values_per_voxel=values)
    voxels = _voxels(path, fields, data_at, dtype, shape).reshape([shape[axis] for axis in spatial], order="F")
    return Volume(voxels, ijk_to_ras, level=1.0 if dtype.kind in "iu" else 0.0, warnings=notes)


def read_vectors(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """(vectors (i, j, k, channels), texts by key) of a file whose first axis holds the channels.

    Raises `ScanError` naming what is wrong with it.
    """
    fields, texts, data_at = _header(path, LONGEST_TEXTS)
    shape = tuple(int(size) for size in _numbers(fields, "sizes", path.name, whole=True))
    if len(shape) != 4 or fields.get("dimension", "").strip() != "4":
        raise ScanError(DAMAGED.format(path.name))
    voxel_count(shape, path.name)
    return np.moveaxis(_voxels(path, fields, data_at, _dtype(fields, path.name), shape), 0, -1), texts


def _header(path: Path, longest: int) -> tuple[dict[str, str], dict[str, str], int]:
    """(fields by name, texts by key, byte where the data begin)."""
    with open(path, "rb") as file:
        start = file.read(longest)
    if not re.match(rb"NRRD000[1-6]\r?\n", start):
        raise ScanError(DAMAGED.format(path.name))
    end = re.search(rb"\n\r?\n", start)
    lines = (start[: end.start()] if end else start).decode("utf-8", errors="replace").splitlines()[1:]
    fields: dict[str, str] = {}
    texts: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if line.startswith("#") or not colon:
            continue
        if value.startswith("="):
            texts[key] = re.sub(r"\\(.)", lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), value[1:])
        else:
            if key.strip().lower() in fields:
                raise ScanError(f"“{path.name}” says “{key.strip()}” twice. Save it again.")
            fields[key.strip().lower()] = value.strip()
    return fields, texts, end.end() if end else len(start)


def _numbers(fields: dict[str, str], key: str, name: str, whole: bool = False) -> list[float]:
    try:
        values = [(int if whole else float)(word) for word in fields[key].split()]
    except (KeyError, ValueError) as error:
        raise ScanError(f"“{name}” has no valid “{key}” in its header. Save it again.") from error
    if not values:
        raise ScanError(f"“{name}” has no valid “{key}” in its header. Save it again.")
    return values


def _dtype(fields: dict[str, str], name: str) -> np.dtype:
    kind = fields.get("type", "").lower()
    code = next((code for code, names in TYPES.items() if kind in names.split("|")), None)
    if code is None:
        raise ScanError(f"“{name}” holds a kind of values (“{kind}”) that no CT has. Choose the CT.")
    endian = fields.get("endian", "").lower()
    if code[1] != "1" and endian not in ("little", "big") and fields.get("encoding", "").lower() not in TEXTS:
        raise ScanError(f"“{name}” does not say the order of its bytes (“endian”). Save it again.")
    return np.dtype((">" if endian == "big" else "<") + code)


def _geometry(fields: dict[str, str], axes: int, name: str) -> tuple[list[int], np.ndarray, tuple[str, ...]]:
    """(axes that lie in space, 4x4 index→RAS mm, warnings)."""
    if "space directions" not in fields:
        raise ScanError(NO_ORIENTATION.format(name))
    vectors = re.findall(r"none|\([^)]*\)", fields["space directions"].lower())
    spatial = [axis for axis, vector in enumerate(vectors) if vector != "none"]
    if len(vectors) != axes or len(spatial) < 3:
        raise ScanError(f"“{name}” has no valid “space directions” in its header. Save it again.")
    if len(spatial) > 3:
        return spatial, np.eye(4), ()
    signs = SPACES.get(fields.get("space", "").lower())
    if signs is None:
        raise ScanError(NO_ORIENTATION.format(name))
    units = re.findall(r'"([^"]*)"', fields.get("space units", "")) or ["mm"] * 3
    scales = [UNITS_MM.get(unit.strip().lower() or "mm") for unit in units]
    if len(scales) != 3 or None in scales:
        raise ScanError(f"“{name}” measures in {', '.join(units)}; only m, cm, mm and µm are known. Save it in mm.")
    affine = np.eye(4)
    notes: tuple[str, ...] = ()
    for column, axis in enumerate(spatial):
        affine[:3, column] = _vector(vectors[axis], name)
    if "space origin" in fields:
        affine[:3, 3] = _vector(fields["space origin"], name)
    else:
        notes = (f"“{name}” does not say where it lies (“space origin”); it was taken to begin at 0, 0, 0 mm.",)
    affine[:3] *= (np.array(signs) * scales)[:, None]
    if spacing_of(affine).min() == 0:
        raise ScanError(NO_SPACING.format(name))
    return spatial, affine + 0.0, notes


def _vector(text: str, name: str) -> list[float]:
    try:
        values = [float(word) for word in text.strip().strip("()").split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not np.isfinite(values).all():
        raise ScanError(f"“{name}” has a direction or origin in its header that is not three numbers. Save it again.")
    return values


def _voxels(path: Path, fields: dict[str, str], data_at: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    name, encoding = path.name, fields.get("encoding", "").lower()
    file = fields.get("data file", fields.get("datafile"))
    if file is not None:
        path, data_at = data_file(path, file), 0
    size = math.prod(shape) * dtype.itemsize
    skip = int(_numbers(fields, "byte skip", name, whole=True)[0]) if "byte skip" in fields else 0
    if "line skip" in fields or skip < -1 or skip == -1 and encoding != "raw":
        raise ScanError(f"“{name}” skips parts of its data, which is not supported. Save it again in Slicer.")
    if encoding in TEXTS:
        data = read_bytes(path, data_at + skip, path.stat().st_size - data_at - skip)
        if encoding != "hex":
            return text_voxels(data, dtype, shape, name)
        try:
            data = bytearray.fromhex(data.decode("ascii"))
        except ValueError as error:
            raise ScanError(DAMAGED.format(name)) from error
        if len(data) != size:
            raise ScanError(DAMAGED.format(name))
        return as_voxels(data, dtype, shape)
    if encoding not in PACKINGS:
        raise ScanError(f"“{name}” is packed as “{encoding}”, which cannot be read. Save it as raw or gzip.")
    if skip == -1:
        data_at, skip = max(data_at, path.stat().st_size - size), 0
    packing = PACKINGS[encoding]
    if packing == PLAIN:
        return as_voxels(read_bytes(path, data_at + skip, size), dtype, shape)
    return as_voxels(read_bytes(path, skip, size, packing, data_at), dtype, shape)
