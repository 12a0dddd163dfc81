"""Damaged and malicious files end in a sentence: never a traceback, a hang, or memory for what is not there.

The seeds are fixed. `make fuzz` tries more: FUZZ_EXAMPLES is the number of inputs of each kind.
"""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from APELocalizerLib.core.annotations.marks import read_boxes, read_labels, read_points
from APELocalizerLib.core.scan.label_map import read_label_map
from APELocalizerLib.core.scan.read import VOLUME_SUFFIXES, read_scan
from APELocalizerLib.core.scan.volume import MOST_VOXELS
from made_up.fuzz import FUZZ, tried
from made_up.scans import body_phantom

SCAN = body_phantom((12, 10, 8), (30.0, 24.0, 30.0))
ODD = st.sampled_from(
    ["", "0", "-1", "1e9", "1e400", "nan", "inf", "-inf", "2147483648", "9" * 400, "abc", "none", "1 2 3", "\x00", "é",
     '"', ",", ";", "\n", "\ufeff", "{", "[", "null", "true"]
)  # fmt: skip
ODD_NUMBERS = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, -1.0, 1e9, 32767.0, 348.0, 352.0, float("nan"), float("inf")])
)


def check_scan(path) -> None:
    scan = tried(read_scan, path)
    if scan is not None:
        assert np.isfinite(scan.ijk_to_ras).all() and scan.voxels.size < MOST_VOXELS
        assert scan.spacing.min() > 0 and np.isfinite(scan.voxels).all()
    label_map = tried(read_label_map, path)
    assert label_map is None or label_map.labels.dtype == np.int32


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("files")
    contents = {}
    for suffix in VOLUME_SUFFIXES:
        if suffix not in (".nhdr", ".mhd"):
            sitk.WriteImage(SCAN.to_sitk(), str(folder / f"ct{suffix}"))
            contents[suffix] = (folder / f"ct{suffix}").read_bytes()
    return contents


@FUZZ
@given(data=st.data())
def test_nifti_headers(files, tmp_path, data):
    content = bytearray(files[".nii"])
    for _ in range(data.draw(st.integers(1, 3))):
        byte = data.draw(st.sampled_from([0, 40, 42, 44, 46, 48, 70, 72, 76, 80, 84, 88, 108, 112, 116, 252, 254, 256,
                                          260, 264, 268, 280, 284, 300, 320, 344]))  # fmt: skip
        if data.draw(st.booleans()):
            struct.pack_into("<f", content, byte, data.draw(ODD_NUMBERS))
        else:
            struct.pack_into("<h", content, byte, data.draw(st.integers(-(2**15), 2**15 - 1)))
    length = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    packed = data.draw(st.booleans())
    path = tmp_path / ("ct.nii.gz" if packed else "ct.nii")
    path.write_bytes(gzip.compress(content[:length], 1) if packed else content[:length])
    check_scan(path)


@FUZZ
@given(data=st.data())
def test_text_headers(files, tmp_path, data):
    suffix = data.draw(st.sampled_from([".nrrd", ".mha"]))
    content = files[suffix]
    end = content.index(b"\n\n" if suffix == ".nrrd" else b"LOCAL\n") + 6
    lines = content[:end].split(b"\n")
    for _ in range(data.draw(st.integers(1, 2))):
        line = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["value", "word", "drop", "double"]))
        separator = b":" if suffix == ".nrrd" else b"="
        key, _, value = lines[line].partition(separator)
        odd = data.draw(ODD).encode()
        words = value.split(b" ")
        words[data.draw(st.integers(0, len(words) - 1))] = odd
        lines[line] = {
            "value": key + separator + b" " + odd, "word": key + separator + b" ".join(words), "drop": b"",
            "double": lines[line] + b"\n" + lines[line],
        }[change]  # fmt: skip
    path = tmp_path / f"ct{suffix}"
    path.write_bytes(b"\n".join(lines) + content[end:])
    check_scan(path)


@FUZZ
@given(suffix=st.sampled_from(VOLUME_SUFFIXES), content=st.binary(max_size=700), data=st.data())
def test_any_bytes(files, tmp_path, suffix, content, data):
    whole = files.get(suffix, b"")
    start = data.draw(st.integers(0, min(len(whole), 400)))
    path = tmp_path / f"ct{suffix}"
    path.write_bytes(whole[:start] + content + whole[start + len(content) :])
    check_scan(path)


def cells(data, columns: int) -> tuple[str, str]:
    number = st.one_of(st.floats(-1e4, 1e4).map(str), ODD)
    rows = data.draw(st.lists(st.lists(st.one_of(st.text(max_size=5), number), max_size=columns + 1), max_size=5))
    separator = data.draw(st.sampled_from(",;\t"))
    return "\n".join(separator.join(row) for row in rows), separator


@FUZZ
@given(data=st.data())
def test_tables(tmp_path, data):
    for reader, columns in ((read_points, "name,r_mm,a_mm,s_mm"), (read_boxes, "name,rmin,rmax,amin,amax,smin,smax")):
        text, separator = cells(data, columns.count(",") + 1)
        path = tmp_path / "table.csv"
        path.write_bytes((columns.replace(",", separator) + "\n" + text).encode("utf-8", "surrogatepass"))
        marks = tried(reader, path)
        for name, mark in (marks or {}).items():
            assert name == name.strip() and name
            assert reader is read_boxes or np.isfinite(mark).all()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["markups", "controlPoints", "position", "label", "coordinateSystem", "coordinateUnits",
                             "type", "center", "size", "orientation", "1"]), inner, max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip


@FUZZ
@given(content=JSON, point=JSON, depth=st.sampled_from([0, 0, 0, 2000]))
def test_json(tmp_path, content, point, depth):
    import json

    path = tmp_path / "marks.mrk.json"
    for value in (content, {"markups": content}, {"markups": [{"controlPoints": [point]}]}, {"markups": [point]}):
        path.write_text("[" * depth + json.dumps(value) + "]" * depth, encoding="utf-8")
        for reader in (read_points, read_boxes, read_labels):
            tried(reader, path)


@FUZZ
@given(text=st.text(max_size=60), system=ODD, x=ODD)
def test_point_lists(tmp_path, text, system, x):
    path = tmp_path / "list.fcsv"
    content = f"# CoordinateSystem = {system}\n# columns = id,x,y,z,label\n1,{x},2,3,a\n{text}"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    tried(read_points, path)
