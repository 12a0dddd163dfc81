"""Where the frames of a multi-frame DICOM file lie: its functional groups (DICOM PS3.3 C.7.6.16), read here because ITK
does not hand them out. Only little-endian files are read, explicit or implicit, as all multi-frame CT is stored."""

import mmap
import struct
import zlib
from pathlib import Path

Dataset = dict[int, "bytes | list[Dataset]"]
"""Tag (group << 16 | element) → value, or the items of a sequence."""

SHARED, PER_FRAME = 0x52009229, 0x52009230
POSITION, ORIENTATION = (0x00209113, 0x00200032), (0x00209116, 0x00200037)
SPACING, SLOPE, INTERCEPT = (0x00289110, 0x00280030), (0x00289145, 0x00281053), (0x00289145, 0x00281052)
"""(sequence, tag in its item) of what a frame says of itself."""

TRANSFER_SYNTAX, STORAGE_CLASS, PIXEL_DATA = 0x00020010, 0x00020002, 0x7FE00010
CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
"""What the classes of all CT images begin with; other objects, such as reports and plans, have no pixels."""

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
SEQUENCES = {SHARED, PER_FRAME, POSITION[0], ORIENTATION[0], SPACING[0], SLOPE[0]}
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Kinds of values whose length takes four bytes."""

UNDEFINED = 0xFFFFFFFF
IMPLICIT, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
DEEPEST = 16


class Broken(Exception):
    """The file is no DICOM file that can be followed to its pixels."""


def frames_of(path: Path) -> list[dict[tuple[int, int], str]]:
    """What each frame says, in the order stored: texts by (sequence, tag). Raises `Broken`; [] if there are none."""
    dataset = read_dataset(path)
    shared, frames = dataset.get(SHARED, []), dataset.get(PER_FRAME, [])
    if not isinstance(shared, list) or not isinstance(frames, list):
        raise Broken
    return [{key: _text(frame, key) or _text(shared[0] if shared else {}, key) for key in KEYS} for frame in frames]


KEYS = (POSITION, ORIENTATION, SPACING, SLOPE, INTERCEPT)
"""All that is asked of a frame."""


def is_damaged_image(path: Path) -> bool:
    """Whether a DICOM file that could not be read as an image should be one: it has pixels, is a CT, or breaks off."""
    try:
        dataset = read_dataset(path)
    except Broken:
        return True
    storage = dataset.get(STORAGE_CLASS, b"")
    return PIXEL_DATA in dataset or isinstance(storage, bytes) and storage.startswith(CT_STORAGE.encode())


def read_dataset(path: Path) -> Dataset:
    """The elements of a file before its pixels, sequences of functional groups included. Raises `Broken`."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = 132 if data[128:132] == b"DICM" else 0
            if not start:
                raise Broken
            meta, position = _parse(data, start, len(data), True, meta=True)
            value = meta.get(TRANSFER_SYNTAX, b"")
            syntax = value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else ""
            if syntax in (DEFLATED, BIG_ENDIAN):
                raise Broken
            dataset = _parse(data, position, len(data), syntax != IMPLICIT)[0]
            return {**meta, **dataset}
    except (OSError, ValueError, struct.error, IndexError, zlib.error) as error:
        raise Broken from error


def _parse(
    data: mmap.mmap, position: int, end: int, explicit: bool, meta: bool = False, depth: int = 0
) -> tuple[Dataset, int]:
    """(elements, where they end); stops at the pixels, at the end of an item, and after group 2 for `meta`."""
    dataset: Dataset = {}
    if depth > DEEPEST:
        raise Broken
    while position + 8 <= end:
        group, element = struct.unpack_from("<HH", data, position)
        tag = group << 16 | element
        if tag in (ITEM_END, SEQUENCE_END):
            return dataset, position + 8
        if tag == PIXEL_DATA:
            dataset[tag] = b""
        if tag == PIXEL_DATA or meta and group != 2:
            return dataset, position
        kind, length, position = _element_head(data, position, explicit)
        if length == UNDEFINED or tag in SEQUENCES or kind == b"SQ" and tag in SEQUENCES:
            dataset[tag], position = _items(data, position, length, end, explicit and kind != b"UN", depth)
        else:
            if position + length > end:
                raise Broken
            dataset[tag] = data[position : position + length]
            position += length
    return dataset, position


def _element_head(data: mmap.mmap, position: int, explicit: bool) -> tuple[bytes, int, int]:
    """(kind of value, length, where the value begins) of the element at a position."""
    if not explicit:
        return b"", struct.unpack_from("<I", data, position + 4)[0], position + 8
    kind = data[position + 4 : position + 6]
    if kind in LONG:
        return kind, struct.unpack_from("<I", data, position + 8)[0], position + 12
    return kind, struct.unpack_from("<H", data, position + 6)[0], position + 8


def _items(
    data: mmap.mmap, position: int, length: int, end: int, explicit: bool, depth: int
) -> tuple[list[Dataset], int]:
    """(items of a sequence, where it ends)."""
    last = end if length == UNDEFINED else position + length
    if last > end:
        raise Broken
    items: list[Dataset] = []
    while position + 8 <= last:
        group, element, size = struct.unpack_from("<HHI", data, position)
        position += 8
        if (group << 16 | element) == SEQUENCE_END:
            return items, position
        if (group << 16 | element) != ITEM:
            raise Broken
        item, after = _parse(data, position, last if size == UNDEFINED else position + size, explicit, depth=depth + 1)
        items.append(item)
        position = after if size == UNDEFINED else position + size
    return items, position


def _text(dataset: Dataset, key: tuple[int, int]) -> str:
    items = dataset.get(key[0], [])
    value = items[0].get(key[1], b"") if isinstance(items, list) and items else b""
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else ""
