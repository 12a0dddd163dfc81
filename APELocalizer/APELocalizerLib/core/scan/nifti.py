"""NIfTI-1 and NIfTI-2 files in one piece (.nii, .nii.gz), read by their own header. Positions in NIfTI are RAS mm.

ITK is not asked: it opens `ct.nii` where `ct.nii.gz` was named, takes a spacing of zero for 1 mm, NaN for 0, mirrors at
a negative spacing, and refuses sheared grids. The rules here, the same for scans and label maps:

- where the sform is set (code above 0) it gives the positions, shear included; else the qform does; a file without
  either is refused, because it does not tell right from left;
- what contradicts the form taken (the other form, the spacings) becomes a warning;
- the file must hold every voxel that its header promises.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import grid_corners, shape_of, spacing_of
from APELocalizerLib.core.scan.volume import (
    DAMAGED,
    GZIP,
    NO_ORIENTATION,
    NO_SPACING,
    PLAIN,
    Volume,
    as_voxels,
    first_bytes,
    read_bytes,
    scaled,
    voxel_count,
)

DATA_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
"""NIfTI datatype code → numpy type."""

UNIT_MM = {1: 1000.0, 3: 0.001}
"""xyzt_units code of meters and micrometers → mm; everything else is mm."""

FORMS_DIFFER_MM = 1.0
"""Distance between the places that sform and qform give a corner, above which the user is told."""

SPACINGS_DIFFER = 0.01
"""Relative difference between the spacings of the form and of pixdim, above which the user is told."""

FIELDS = {
    348: {
        "dim": (40, "8h"), "datatype": (70, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl": (112, "2f"),
        "units": (123, "B"), "codes": (252, "2h"), "quatern": (256, "3f"), "qoffset": (268, "3f"), "srow": (280, "12f"),
        "magic": (344, "4s"),
    },
    540: {
        "magic": (4, "4s"), "datatype": (12, "h"), "dim": (16, "8q"), "pixdim": (104, "8d"), "vox_offset": (168, "q"),
        "scl": (176, "2d"), "codes": (344, "2i"), "quatern": (352, "3d"), "qoffset": (376, "3d"), "srow": (400, "12d"),
        "units": (500, "i"),
    },
}  # fmt: skip
"""Size of the header in bytes (NIfTI-1, NIfTI-2) → its fields: byte and format."""


@dataclass(frozen=True)
class Header:
    """The header of a file. `fields` hold tuples of numbers; `order` is "<" or ">"."""

    name: str
    size: int
    order: str
    fields: dict[str, tuple]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels per axis, without trailing ones beyond three axes."""
        dimensions = self.fields["dim"]
        if not 1 <= dimensions[0] <= 7:
            raise ScanError(DAMAGED.format(self.name))
        shape = list(dimensions[1 : 1 + dimensions[0]])
        while len(shape) > 3 and shape[-1] in (0, 1):
            shape.pop()
        return tuple(shape)

    @property
    def dtype(self) -> np.dtype:
        """Type of the stored numbers."""
        code = self.fields["datatype"][0]
        if code not in DATA_TYPES:
            raise ScanError(
                f"“{self.name}” holds a kind of values (NIfTI datatype {code}) that no CT has. Choose the CT."
            )
        return np.dtype(self.order + DATA_TYPES[code])

    @property
    def offset(self) -> int:
        """Byte of the first voxel; 0 in the header stands for the first one possible."""
        offset, first = self.fields["vox_offset"][0], self.size + 4
        if offset == 0:
            return first
        if not np.isfinite(offset) or offset != int(offset) or not first <= offset < 2**40:
            raise ScanError(
                f"The header of “{self.name}” says that its voxels begin at byte {offset:g}, which cannot be. "
                "Export it again."
            )
        return int(offset)

    def scale(self) -> tuple[float, float, tuple[str, ...]]:
        """(slope, intercept, warnings) of the stored numbers; a slope of 0 or NaN means that there is no scale."""
        slope, intercept = self.fields["scl"]
        if np.isinf(slope) or not (np.isfinite(intercept) or slope == 0 or np.isnan(slope)):
            raise ScanError(
                f"“{self.name}” has a scale of {slope:g} and an intercept of {intercept:g}, which are no numbers to "
                "compute with. Export it again."
            )
        if slope != 0 and not np.isnan(slope):
            return slope, intercept, ()
        if intercept != 0 and np.isfinite(intercept):
            note = (
                f"“{self.name}” has an intercept of {intercept:g} but no scale. By the NIfTI standard neither is "
                "applied; check that its values are Hounsfield units."
            )
            return 1.0, 0.0, (note,)
        return 1.0, 0.0, ()


def read_nifti(path: Path) -> Volume:
    """The volume of a file; raises `ScanError` naming what is wrong with it."""
    header = read_header(path)
    shape, dtype, offset = header.shape, header.dtype, header.offset
    count = voxel_count(shape, path.name)
    slope, intercept, notes = header.scale()
    ijk_to_ras, geometry_notes = geometry(header) if len(shape) >= 3 else (np.eye(4), ())
    packing = GZIP if _is_gzipped(path) else PLAIN
    voxels = as_voxels(read_bytes(path, offset, count * dtype.itemsize, packing), dtype, shape)
    level = abs(slope) if dtype.kind in "iu" else 0.0
    return Volume(scaled(voxels, slope, intercept), ijk_to_ras, level=level, warnings=geometry_notes + notes)


def read_header(path: Path) -> Header:
    """The header of a NIfTI-1 or NIfTI-2 file in one piece; raises `ScanError` for anything else."""
    data = first_bytes(path, 540)
    for order in "<>":
        size = struct.unpack_from(order + "i", data)[0] if len(data) >= 4 else 0
        if size in FIELDS and len(data) >= size:
            fields = {key: struct.unpack_from(order + kind, data, at) for key, (at, kind) in FIELDS[size].items()}
            magic = fields["magic"][0][:3]
            if magic == b"n+1" and size == 348 or magic == b"n+2" and size == 540:
                return Header(path.name, size, order, fields)
            kind = "the header of a pair of files (.hdr and .img)" if magic in (b"ni1", b"ni2") else "an Analyze file"
            raise ScanError(f"“{path.name}” is {kind}, not a NIfTI file in one piece. Save it as .nii.gz.")
    raise ScanError(DAMAGED.format(path.name))


def geometry(header: Header) -> tuple[np.ndarray, tuple[str, ...]]:
    """(4x4 index→RAS mm, warnings); raises `ScanError` if the file does not say where its voxels lie."""
    name, pixdim = header.name, np.array(header.fields["pixdim"], dtype=np.float64)
    qform_code, sform_code = header.fields["codes"]
    lengths = np.abs(pixdim[1:4])
    if not np.isfinite(lengths).all() or (lengths == 0).any():
        raise ScanError(NO_SPACING.format(name))
    notes = []
    if sform_code > 0:
        affine = np.vstack([np.reshape(header.fields["srow"], (3, 4)), [0, 0, 0, 1]]).astype(np.float64)
        notes += _spacing_notes(name, affine, lengths)
        notes += _form_notes(header, affine, lengths) if qform_code > 0 else ()
    elif qform_code > 0:
        affine = _qform(header, lengths)
    else:
        raise ScanError(NO_ORIENTATION.format(name))
    if (pixdim[1:4] < 0).any() and sform_code <= 0:
        notes.append(f"“{name}” has a negative voxel spacing; its sign was ignored. Check that right is right.")
    unit = header.fields["units"][0] & 7
    if unit > 3:
        notes.append(f"“{name}” has an unknown unit of length (code {unit}); its lengths were taken as mm.")
    affine[:3] *= UNIT_MM.get(unit, 1.0)
    return affine + 0.0, tuple(notes)


def _spacing_notes(name: str, affine: np.ndarray, lengths: np.ndarray) -> list[str]:
    spacing = spacing_of(affine)
    if not np.isfinite(affine).all():
        raise ScanError(
            f"“{name}” has no valid position in space (its geometry is not a finite 4x4 matrix). Export it again."
        )
    if spacing.min() == 0:
        raise ScanError(NO_SPACING.format(name))
    if np.all(np.abs(spacing - lengths) <= SPACINGS_DIFFER * spacing):
        return []
    return [
        f"“{name}” names two voxel spacings: {_times(spacing)} (sform, used here) and {_times(lengths)} (pixdim). "
        "If distances look wrong, export it again."
    ]


def _form_notes(header: Header, sform: np.ndarray, lengths: np.ndarray) -> list[str]:
    try:
        qform = _qform(header, lengths)
    except ScanError:
        return [f"“{header.name}” has a damaged qform; its sform was used."]
    corners = [grid_corners(shape_of(header.shape[:3]), affine) for affine in (sform, qform)]
    distance = float(np.linalg.norm(corners[0] - corners[1], axis=1).max()) * UNIT_MM.get(
        header.fields["units"][0] & 7, 1.0
    )
    if distance <= FORMS_DIFFER_MM:
        return []
    return [
        f"“{header.name}” gives two positions that lie up to {distance:.0f} mm apart (sform and qform); the sform was "
        "used. Other programs may show the scan elsewhere."
    ]


def _qform(header: Header, lengths: np.ndarray) -> np.ndarray:
    """4x4 index→RAS of the quaternion; raises `ScanError` if it is none."""
    b, c, d = header.fields["quatern"]
    offset = np.array(header.fields["qoffset"], dtype=np.float64)
    length = b * b + c * c + d * d
    if not np.isfinite(length) or length > 1.01 or not np.isfinite(offset).all():
        raise ScanError(f"“{header.name}” has no valid position in space (its qform is no rotation). Export it again.")
    a = np.sqrt(max(0.0, 1.0 - length))
    if length > 1.0:
        b, c, d = (value / np.sqrt(length) for value in (b, c, d))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * lengths * [1, 1, -1 if header.fields["pixdim"][0] < 0 else 1]
    affine[:3, 3] = offset
    return affine


def _is_gzipped(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _times(values: np.ndarray) -> str:
    return " x ".join(f"{float(value):.4g}" for value in values)
