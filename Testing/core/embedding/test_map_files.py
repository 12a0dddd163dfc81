"""Maps as .nrrd files and in the compact form of libraries."""

import base64
import dataclasses
import json
import zlib

import numpy as np
import pytest
import SimpleITK as sitk

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import RAS_LPS, spacing_of
from APELocalizerLib.core.embedding import map_files
from APELocalizerLib.core.embedding.coordinate_space import UNKNOWN_REFERENCE, CoordinateSpace
from APELocalizerLib.core.embedding.map_files import HEADER_KEY, from_compact, load_map, save_map, to_compact
from made_up.grids import rotation
from made_up.maps import smooth_map

OBLIQUE = rotation(2, 15) @ rotation(0, -8)


def assert_same_map(first, second, tolerance=0.0):
    assert np.array_equal(first.body, second.body)
    np.testing.assert_allclose(first.values[first.body], second.values[second.body], rtol=0, atol=tolerance)
    assert np.array_equal(first.grid_to_ras, second.grid_to_ras)
    for name in ("spacing", "field_of_view", "scan_name", "scan_fingerprint", "notes", "space"):
        assert getattr(first, name) == getattr(second, name), name


@pytest.mark.parametrize("turn", [None, OBLIQUE], ids=["straight", "oblique"])
def test_a_saved_map_comes_back_exactly(tmp_path, turn):
    saved = smooth_map(turn=turn, shape=(9, 11, 13))
    save_map(saved, tmp_path / "new folder" / "map.nrrd")
    assert_same_map(saved, load_map(tmp_path / "new folder" / "map.nrrd"))


@pytest.mark.parametrize("turn", [None, OBLIQUE], ids=["straight", "oblique"])
def test_other_programs_read_the_same_geometry(tmp_path, turn):
    """SimpleITK, and so Slicer, must show the map where it belongs, with the model id in the header."""
    saved = smooth_map(turn=turn, shape=(9, 11, 13), center=(30.0, -20.0, 400.0), body=lambda p: p[:, 2] > 400)
    save_map(saved, tmp_path / "map.nrrd")
    image = sitk.ReadImage(str(tmp_path / "map.nrrd"))
    assert image.GetNumberOfComponentsPerPixel() == 3
    assert image.GetSize() == (9, 11, 13)
    np.testing.assert_allclose(image.GetSpacing(), spacing_of(saved.grid_to_ras), atol=1e-6)
    index = (5, 7, 3)
    lps = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose((RAS_LPS @ [*lps, 1.0])[:3], saved.to_ras([index])[0], atol=1e-4)
    np.testing.assert_array_equal(image.GetPixel(index), saved.values[index])
    assert np.isnan(image.GetPixel((5, 7, 10))).all(), "air is not a number"
    assert json.loads(image.GetMetaData(HEADER_KEY))["checkpoint_id"] == saved.model_id


def test_a_map_that_cannot_be_written_is_said_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "map.nrrd"
    save_map(smooth_map(shape=(9, 11, 13)), path)
    before = path.read_bytes()

    def full(*_arguments, **_keywords):
        raise RuntimeError("ITK ERROR: no space left")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(MapError, match="cannot be written to .*map.nrrd"):
        save_map(smooth_map(shape=(9, 11, 12)), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ['say "CT" \\ 3', "Müller – Thorax", "a\nb", "{1: [2]}", ""])
def test_any_scan_name_survives(tmp_path, name):
    saved = smooth_map(shape=(5, 5, 5), name=name)
    save_map(saved, tmp_path / "map.nrrd")
    assert load_map(tmp_path / "map.nrrd").scan_name == name
    assert from_compact(to_compact(saved)).scan_name == name


def test_notes_survive(tmp_path):

    saved = dataclasses.replace(smooth_map(shape=(5, 5, 5)), notes=("Memory ran out.", "The CPU was used."))
    save_map(saved, tmp_path / "map.nrrd")
    assert load_map(tmp_path / "map.nrrd").notes == saved.notes


@pytest.mark.parametrize("reference", [None, "0123456789abcdef", UNKNOWN_REFERENCE])
def test_what_a_map_is_aligned_with_survives(tmp_path, reference):
    space = CoordinateSpace("made-up@1", reference)
    saved = dataclasses.replace(smooth_map(shape=(5, 5, 5)), space=space)
    save_map(saved, tmp_path / "map.nrrd")
    assert load_map(tmp_path / "map.nrrd").space == from_compact(to_compact(saved)).space == space


@pytest.mark.parametrize(
    ("missing", "expected"),
    [({"aligned_with"}, UNKNOWN_REFERENCE), ({"aligned_with", "aligned"}, None)],
    ids=["only whether", "neither"],
)
def test_older_maps_do_not_say_what_they_are_aligned_with(tmp_path, monkeypatch, missing, expected):
    aligned = dataclasses.replace(smooth_map(shape=(5, 5, 5)), space=CoordinateSpace("made-up@1", "0123456789abcdef"))
    now = map_files._header
    monkeypatch.setattr(map_files, "_header", lambda saved: {k: v for k, v in now(saved).items() if k not in missing})
    save_map(aligned, tmp_path / "old.nrrd")
    assert load_map(tmp_path / "old.nrrd").space == CoordinateSpace("made-up@1", expected)


def test_compact_form_keeps_the_map_to_a_fiftieth_of_a_millimeter(support_map):
    text = to_compact(support_map)
    assert_same_map(support_map, from_compact(text), tolerance=0.02)
    assert len(text) < support_map.body.sum() * 3 * 4 / 2, "compact means less than half of the floats' size"


def test_compact_form_of_a_compact_map_is_the_same_text():
    """So that opening and saving a library over and over changes nothing."""
    for embedding_map in (smooth_map(), smooth_map(noise_mm=20.0)):
        text = to_compact(embedding_map)
        assert to_compact(from_compact(text)) == text


def test_compact_form_of_a_constant_channel():

    flat = smooth_map(shape=(5, 6, 7))
    values = flat.values.copy()
    values[..., 1] = 3.25
    back = from_compact(to_compact(dataclasses.replace(flat, values=values)))
    np.testing.assert_allclose(back.values[back.body][:, 1], 3.25)


def test_damaged_compact_maps_are_refused_in_words():
    text = to_compact(smooth_map(shape=(5, 6, 7)))
    payload = zlib.decompress(base64.b64decode(text))
    head, _, data = payload.partition(b"\n")

    def repacked(header: bytes, rest: bytes) -> str:
        return base64.b64encode(zlib.compress(header + b"\n" + rest)).decode()

    without_affine = json.dumps({k: v for k, v in json.loads(head).items() if k != "grid_to_ras"}).encode()
    for damaged in (
        text[: len(text) // 2],
        "not base64!",
        "",
        repacked(head, data[:-4]),
        repacked(b"{", data),
        repacked(b"[1]", data),
        repacked(without_affine, data),
        repacked(head.replace(b'"shape": [5', b'"shape": [4'), data),
    ):
        with pytest.raises(MapError, match="damaged|not an embedding map"):
            from_compact(damaged)


def test_a_newer_map_is_refused(tmp_path):
    save_map(smooth_map(shape=(5, 5, 5)), tmp_path / "map.nrrd")
    image = sitk.ReadImage(str(tmp_path / "map.nrrd"))
    image.SetMetaData(HEADER_KEY, json.dumps({**json.loads(image.GetMetaData(HEADER_KEY)), "version": 99}))
    sitk.WriteImage(image, str(tmp_path / "new.nrrd"))
    with pytest.raises(MapError, match="newer APELocalizer. Update"):
        load_map(tmp_path / "new.nrrd")


def test_files_that_are_no_maps_are_refused_in_words(tmp_path):
    with pytest.raises(MapError, match="does not exist"):
        load_map(tmp_path / "absent.nrrd")
    (tmp_path / "text.nrrd").write_text("hello")
    with pytest.raises(MapError, match="cannot be read"):
        load_map(tmp_path / "text.nrrd")
    sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(tmp_path / "plain.nrrd"))
    with pytest.raises(MapError, match="not an embedding map"):
        load_map(tmp_path / "plain.nrrd")
    for header in ("{", "[]", '{"format": "APELocalizer embedding map", "version": 1}', '{"format": "else"}'):
        image = sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3)
        image.SetMetaData(HEADER_KEY, header)
        sitk.WriteImage(image, str(tmp_path / "broken.nrrd"))
        with pytest.raises(MapError):
            load_map(tmp_path / "broken.nrrd")
    with pytest.raises(MapError, match="saved as .nrrd"):
        save_map(smooth_map(shape=(5, 5, 5)), tmp_path / "map.nii.gz")
