"""What every reader of volume files gives, and how it takes voxels from a file: no more than the header promises.

A volume may show anything; `Scan` and `LabelMap` say what they need of it. Positions are RAS mm, axes (i, j, k).
"""

import bz2
import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from APELocalizerLib.core.base.errors import ScanError

DAMAGED = "“{}” cannot be read: it is damaged or incomplete. Export or copy it again."
NO_SPACING = "“{}” has a voxel spacing of zero. Correct the spacing in its header, or export it again."
NO_ORIENTATION = (
    "“{}” does not say how the patient lies in it, so right and left cannot be told apart. Export the original DICOM "
    "series again, or open the file in Slicer, check its orientation there and save it as .nrrd."
)

MOST_VOXELS = 2**32
"""More voxels than any scan has (8 GB as 16-bit numbers): a header that claims them is wrong."""

STRONGEST_PACKING = 1100
"""Bytes that one packed byte can become at most: 1032 in gzip and zlib."""

GZIP, BZIP2, ZLIB, PLAIN = "gzip", "bzip2", "zlib", ""
_CHUNK = 1 << 22

UNITS_MM = {"m": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "µm": 0.001, "μm": 0.001}
"""Name of a unit of length → mm."""


@dataclass(frozen=True, eq=False)
class Volume:
    """The content of a volume file.

    Attributes:
        voxels: shape (i, j, k, …) with scale and intercept applied; axes beyond the third only where they are used.
        ijk_to_ras: 4x4 float64 matrix from voxel index to RAS mm, shear included.
        values_per_voxel: 1, or more for a color or vector image.
        level: distance in value between two neighboring stored numbers; 1 for whole numbers, 0 where it is not fixed.
        warnings: sentences about what the file left open and which rule was taken.
    """

    voxels: np.ndarray
    ijk_to_ras: np.ndarray
    values_per_voxel: int = 1
    level: float = 0.0
    warnings: tuple[str, ...] = ()


def voxel_count(shape: tuple[int, ...], name: str) -> int:
    """Number of voxels of a shape that a header claims; raises `ScanError` for one that cannot be."""
    count = math.prod(shape)
    if min(shape, default=0) < 1 or count > MOST_VOXELS:
        raise ScanError(
            f"“{name}” claims {' x '.join(map(str, shape))} voxels, which no scan has. Its header is damaged: "
            "export or copy it again."
        )
    return count


def read_bytes(path: Path, offset: int, count: int, packing: str = PLAIN, packed_offset: int = 0) -> bytearray:
    """`count` bytes from `offset` of a file's content, which is packed from `packed_offset` on.

    Raises `ScanError` for a file that holds fewer bytes, whose packed part is damaged, or that may not be read.
    """
    try:
        with open(path, "rb") as file:
            available = file.seek(0, 2) - packed_offset
            if packing != BZIP2 and offset + count > available * (1 if packing == PLAIN else STRONGEST_PACKING):
                raise EOFError
            file.seek(packed_offset + (offset if packing == PLAIN else 0))
            content = _unpacking(file, packing)
            if packing != PLAIN:
                _skip(content, offset)
            return _exactly(content, count)
    except PermissionError as error:
        raise ScanError(f"“{path.name}” may not be read. Ask for the permission to read it.") from error
    except MemoryError as error:
        raise ScanError(f"There is not enough memory to read “{path.name}”. Close other programs.") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ScanError(DAMAGED.format(path.name)) from error


def first_bytes(path: Path, count: int) -> bytes:
    """At most `count` bytes from the beginning, unpacked if they are gzipped; raises `ScanError` as `read_bytes`."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            return _unpacking(file, GZIP if packed else PLAIN).read(count)
    except PermissionError as error:
        raise ScanError(f"“{path.name}” may not be read. Ask for the permission to read it.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ScanError(DAMAGED.format(path.name)) from error


def data_file(header: Path, file: str) -> Path:
    """The file beside a header that holds its voxels; raises `ScanError` for several files and for a missing one."""
    if file.upper().startswith("LIST") or "%" in file:
        raise ScanError(f"“{header.name}” keeps its voxels in several files. Save it in Slicer as one .nrrd.")
    path = header.parent / file
    if not os.path.isfile(path):  # unlike Path.is_file, no error for impossible names
        raise ScanError(f"“{header.name}” needs “{file[:80]}” beside it, which holds its voxels. Copy both.")
    return path


def as_voxels(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes as an array of native numbers whose first axis runs fastest."""
    voxels = np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order="F")
    return voxels.astype(dtype.newbyteorder("="), copy=False)


def text_voxels(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Numbers written as text, as an array; raises `ScanError` for anything but as many numbers as the shape has."""
    words = bytes(data).split()
    if len(words) != math.prod(shape):
        raise ScanError(DAMAGED.format(name))
    try:
        return np.array(words, dtype=np.float64).astype(dtype.newbyteorder("=")).reshape(shape, order="F")
    except (ValueError, OverflowError) as error:
        raise ScanError(DAMAGED.format(name)) from error


def scaled(voxels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored numbers times `slope` plus `intercept`: whole numbers where all three are whole, else float32."""
    if (slope, intercept) == (1.0, 0.0):
        return voxels
    if slope == 1.0 and intercept == round(intercept) and voxels.dtype.kind in "iu" and abs(intercept) < 2**40:
        return voxels.astype(np.int64) + int(intercept)
    if voxels.dtype == np.float64:
        return voxels * slope + intercept
    return voxels * np.float32(slope) + np.float32(intercept)


class _Readable(Protocol):
    """What bytes are read from, packed or not."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; none at the end."""


def _unpacking(file: BinaryIO, packing: str) -> _Readable:
    if packing == GZIP:
        return gzip.GzipFile(fileobj=file)
    if packing == BZIP2:
        return bz2.BZ2File(file)
    return _Zlib(file) if packing == ZLIB else file


class _Zlib:
    """Reads a zlib stream, as MetaImage packs its voxels, piece by piece."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._unpacker = file, zlib.decompressobj()

    def read(self, count: int) -> bytes:
        """Up to `count` unpacked bytes; none at the end."""
        while not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read(_CHUNK)
            if not packed:
                raise EOFError
            unpacked = self._unpacker.decompress(packed, count)
            if unpacked:
                return unpacked
        return b""


def _skip(content: _Readable, count: int) -> None:
    while count > 0:
        piece = content.read(min(count, _CHUNK))
        if not piece:
            raise EOFError
        count -= len(piece)


def _exactly(content: _Readable, count: int) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        piece = content.read(min(count - filled, _CHUNK))
        if not piece:
            raise EOFError
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    content.read(1)  # at the end of a packed file, its check sum is compared
    return data
