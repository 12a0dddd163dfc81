"""A body that lies turned in its scan is noticed and read upright; an upright one is never touched."""

import functools

import numpy as np
import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core import embedder
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.map_files import load_map, save_map
from APELocalizerLib.core.embedding.posture import is_better, misfit_mm, suspected_turn
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.localization.answers import Localization
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import rotation
from made_up.maps import smooth_map
from made_up.models import tiny_model
from made_up.paths import SAMPLES
from made_up.scans import body_phantom, phantom_landmarks

ON_CPU = InferenceSettings(device="cpu", one_pass=True)


def turned(scan: Scan, degrees: float) -> tuple[Scan, np.ndarray]:
    """The scan with its body turned about the S axis through its middle, from back toward left, and the turn (4, 4)."""
    about = np.eye(4)
    about[:3, 3] = scan.bounds().center
    turn = about @ rotation(2, -degrees) @ np.linalg.inv(about)
    return Scan(scan.voxels, turn @ scan.ijk_to_ras, scan.name), turn


@pytest.mark.parametrize("degrees", [-135, -90, -45, 30, 90, 150])
def test_the_spine_tells_how_far_a_body_is_turned(degrees):
    suspected = suspected_turn(CoarseCT.of(turned(body_phantom(), degrees)[0]))
    assert suspected == pytest.approx(degrees, abs=8)


@pytest.mark.parametrize("degrees", [-8, 0, 8])
def test_a_body_that_is_hardly_turned_is_not_suspected(degrees):
    assert suspected_turn(CoarseCT.of(turned(body_phantom(), degrees)[0])) == 0


@pytest.mark.parametrize("name", ["support_ct", "target_ct"])
def test_the_sample_scans_are_not_suspected(name):
    assert suspected_turn(CoarseCT.of(read_scan(SAMPLES / f"{name}.nii.gz"))) == 0


def test_a_body_without_a_spine_is_not_suspected():
    codes = np.zeros((30, 40, 20), np.uint8)
    codes[5:25, 5:35] = 133
    assert suspected_turn(CoarseCT(codes, np.eye(4))) == 0
    assert suspected_turn(CoarseCT(codes[:6], np.eye(4))) == 0


def test_coordinates_that_follow_the_body_fit_better():
    straight, rough = smooth_map(), smooth_map(noise_mm=20.0)
    assert misfit_mm(straight) < misfit_mm(rough)
    assert is_better(straight, rough) and not is_better(rough, straight) and not is_better(straight, straight)


@functools.cache
def tiny():
    return tiny_model()


def test_what_reads_no_better_upright_stays_as_it_is(monkeypatch):
    scan, _ = turned(body_phantom(), 90)
    monkeypatch.setattr(embedder, "is_better", lambda upright_map, as_scanned: False)
    tried = embed_scan(scan, tiny(), settings=ON_CPU)
    monkeypatch.setattr(embedder, "suspected_turn", lambda coarse_ct: 0.0)
    plain = embed_scan(scan, tiny(), settings=ON_CPU)
    np.testing.assert_array_equal(tried.values, plain.values)
    assert tried.notes == () and np.array_equal(tried.grid_to_ras, plain.grid_to_ras)


def test_the_map_of_a_turned_body_lies_where_the_scan_shows_it(monkeypatch, tmp_path):
    scan, turn = turned(body_phantom(), 90)
    monkeypatch.setattr(embedder, "is_better", lambda upright_map, as_scanned: True)
    made = embed_scan(scan, tiny(), settings=ON_CPU)
    places = apply_affine(turn, np.array(list(phantom_landmarks().values())))
    assert made.is_body(places).all()
    assert made.field_of_view == scan.bounds() and made.scan_fingerprint == scan.fingerprint
    (note,) = made.notes
    assert "turned by about 90°" in note and "lying on its side" in note
    upright = embed_scan(body_phantom(), tiny(), settings=ON_CPU)
    inner = list(phantom_landmarks().values())[:4]
    np.testing.assert_allclose(
        made.embedding_at(apply_affine(turn, np.array(inner))), upright.embedding_at(np.array(inner)), atol=6
    )
    save_map(made, tmp_path / "map.nrrd")
    np.testing.assert_allclose(load_map(tmp_path / "map.nrrd").grid_to_ras, made.grid_to_ras, atol=1e-6)


@functools.cache
def sample() -> tuple[Engine, Scan, Localization]:
    engine, scan = Engine(device="cpu"), read_scan(SAMPLES / "target_ct.nii.gz")
    return engine, scan, engine.localize(scan, engine.library("built-in"), spacing="fast")


@pytest.mark.parametrize("degrees", [-35, 180])
def test_landmarks_of_a_turned_patient_are_found_within_5_mm(degrees):
    """180 degrees: as a prone patient under a supine header, where right and left were exchanged without a word."""
    engine, scan, straight = sample()
    copy, turn = turned(scan, degrees)
    answer = engine.localize(copy, engine.library("built-in"), spacing="fast")
    pairs = [(a, b) for a, b in zip(straight.points, answer.points, strict=True) if a.found and b.found]
    wanted = apply_affine(turn, np.array([a.position_ras for a, _ in pairs]))
    errors = np.linalg.norm(wanted - np.array([b.position_ras for _, b in pairs]), axis=1)
    assert len(pairs) >= 8 and errors.max() <= 5.0
    assert ["appears turned" in " ".join(one.notes) for one in (straight, answer)] == [False, True]
