"""The coarse CT that goes with a map: it shows the right tissue at the right place, and survives a library file."""

import base64
import dataclasses
import json
import zlib

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LibraryError, MapError
from APELocalizerLib.core.base.geometry import apply_affine, spacing_of
from APELocalizerLib.core.embedding.coarse_ct import SPACING_MM, WINDOW_HU, CoarseCT
from APELocalizerLib.core.library.files import from_json, to_json
from made_up.grids import grid_to_ras
from made_up.maps import CLICKS, Patient, library_of, smooth_map
from made_up.scans import BONE, LIVER, LUNG, body_phantom, reoriented

PLACES = {"liver": ((90, 15, -50), LIVER), "lung": ((75, 5, 60), LUNG), "spine": ((0, -70, 20), BONE)}


@pytest.fixture(scope="module")
def scan():
    return body_phantom(shape=(133, 93, 80), spacing=(3.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def coarse_ct(scan):
    return CoarseCT.of(scan)


def hu_at(coarse_ct, point) -> float:
    index = np.rint(apply_affine(np.linalg.inv(coarse_ct.grid_to_ras), np.array([point], float))[0]).astype(int)
    low, high = WINDOW_HU
    return low + (high - low) * coarse_ct.codes[tuple(index)] / 255


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize(("order", "flips"), [((0, 1, 2), (0, 0, 0)), ((2, 0, 1), (1, 0, 1)), ((1, 0, 2), (1, 1, 1))])
def test_tissue_is_where_the_scan_has_it_however_it_is_stored(scan, name, order, flips):
    place, hu = PLACES[name]
    assert hu_at(CoarseCT.of(reoriented(scan, order, flips)), place) == pytest.approx(hu, abs=25)


def test_cells_are_five_millimeters_and_air_outside_is_zero(coarse_ct):
    np.testing.assert_allclose(spacing_of(coarse_ct.grid_to_ras), SPACING_MM)
    corners = [(r, a, s) for r in (-150, 150) for a in (-90, 90) for s in (-60, 60)]
    assert all(hu_at(coarse_ct, corner) == WINDOW_HU[0] for corner in corners)


def test_the_coarse_level_shows_the_same_places(coarse_ct):
    """A feature read at the same world position differs between the levels only by the averaging."""
    (fine, fine_grid), (coarse, coarse_grid) = coarse_ct.level(0), coarse_ct.level(1)
    np.testing.assert_allclose(spacing_of(coarse_grid), 2 * SPACING_MM)
    for place, _ in PLACES.values():
        near = [
            features[
                (slice(None), *np.rint(apply_affine(np.linalg.inv(grid), np.array([place], float))[0]).astype(int))
            ]
            for features, grid in ((fine, fine_grid), (coarse, coarse_grid))
        ]
        np.testing.assert_allclose(*near, atol=0.25)


@pytest.mark.parametrize("shape", [(6, 8, 4), (7, 5, 9), (1, 2, 3)])
def test_the_coarse_level_is_the_mean_of_eight_cells_and_odd_ends_are_repeated(shape):
    codes = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    look = CoarseCT(codes, np.diag([-5.0, -5.0, 5.0, 1.0]))
    fine, coarse = look.level(0)[0], look.level(1)[0]
    assert coarse.shape == (3, *(-(-n // 2) for n in shape)) and coarse.dtype == np.float32
    for cell in np.ndindex(coarse.shape[1:]):
        ends = [[min(2 * c + o, n - 1) for o in (0, 1)] for c, n in zip(cell, shape, strict=True)]
        eight = fine[np.ix_(range(3), *ends)]
        np.testing.assert_allclose(coarse[(slice(None), *cell)], eight.mean(axis=(1, 2, 3)), atol=1e-6)


def test_text_gives_the_same_coarse_ct_back(coarse_ct):
    back = CoarseCT.from_text(coarse_ct.to_text())
    np.testing.assert_array_equal(back.codes, coarse_ct.codes)
    np.testing.assert_array_equal(back.grid_to_ras, coarse_ct.grid_to_ras)


@pytest.mark.parametrize("damage", ["", "x", base64.b64encode(zlib.compress(b"{}\n1")).decode()])
def test_damaged_text_is_refused_in_words(damage):
    with pytest.raises(MapError, match="coarse CT inside the library is damaged"):
        CoarseCT.from_text(damage)


@pytest.fixture(scope="module")
def library(coarse_ct):
    return library_of((Patient(), dataclasses.replace(smooth_map(), coarse_ct=coarse_ct)))


@pytest.mark.parametrize(
    "header", [{"shape": [0, 2, 2]}, {"grid_to_ras": [1]}, {"grid_to_ras": np.zeros((4, 4)).tolist()}]
)
def test_a_coarse_ct_without_cells_or_places_is_refused(header):
    whole = {"shape": [1, 1, 1], "grid_to_ras": np.eye(4).tolist(), **header}
    cells = bytes(int(np.prod(whole["shape"])))
    text = base64.b64encode(zlib.compress(json.dumps(whole).encode() + b"\n" + cells)).decode()
    with pytest.raises(MapError, match="damaged"):
        CoarseCT.from_text(text)


def test_a_library_file_keeps_the_coarse_ct(library, coarse_ct):
    back = from_json(to_json(library))
    assert back == library
    np.testing.assert_array_equal(back.supports[0].map.coarse_ct.codes, coarse_ct.codes)


def test_a_library_written_before_there_was_a_coarse_ct_opens(library):
    text = to_json(library).replace(f'"coarse_ct": "{library.supports[0].coarse_ct}"', '"other": 0')
    old = from_json(text)
    assert [entry.name for entry in old.landmarks] == list(CLICKS)
    assert old.supports[0].map.coarse_ct is None


def test_a_damaged_coarse_ct_is_refused_when_the_library_is_opened(library):
    text = to_json(library).replace(library.supports[0].coarse_ct, "AAAA")
    with pytest.raises(LibraryError, match="damaged"):
        from_json(text)


def test_an_oblique_scan_shows_the_same_tissue(scan):
    angle = np.radians(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    oblique = body_phantom((133, 110, 80), ijk_to_ras=grid_to_ras((133, 110, 80), (3.2, 3.2, 3.0), rotation=turn))
    found = CoarseCT.of(oblique)
    for place, hu in PLACES.values():
        assert hu_at(found, place) == pytest.approx(hu, abs=30)
