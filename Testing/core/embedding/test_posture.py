"""A body that lies turned in its scan is noticed and read upright; an upright one is never touched."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from APELocalizerLib.app.engine import Engine
from APELocalizerLib.core import embedder
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedder import embed_scan
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.map_files import load_map, save_map
from APELocalizerLib.core.embedding.posture import (
    STRAIGHT,
    Pose,
    better_pose,
    misfit_mm,
    nod_degrees,
    sentence,
    spine_turn,
    suspected_pose,
)
from APELocalizerLib.core.embedding.runner import InferenceSettings
from APELocalizerLib.core.embedding.symmetry import turn_of
from APELocalizerLib.core.localization.answers import Localization
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import rotation
from made_up.maps import smooth_map
from made_up.models import tiny_model
from made_up.paths import SAMPLES
from made_up.scans import body_phantom, phantom_landmarks

ON_CPU = InferenceSettings(device="cpu", one_pass=True)


def turned(scan: Scan, degrees: float, axis: int = 2) -> tuple[Scan, np.ndarray]:
    """The scan with its body turned about an axis through its middle, and the turn (4, 4).

    About S, from the back toward the left.
    """
    about = np.eye(4)
    about[:3, 3] = scan.bounds().center
    turn = about @ rotation(axis, -degrees) @ np.linalg.inv(about)
    return Scan(scan.voxels, turn @ scan.ijk_to_ras, scan.name), turn


@pytest.mark.parametrize("degrees", [-135, -90, -45, 30, 90, 150])
def test_the_spine_tells_how_far_a_body_is_turned(degrees):
    assert spine_turn(CoarseCT.of(turned(body_phantom(), degrees)[0])) == pytest.approx(degrees, abs=8)


@pytest.mark.parametrize(
    ("degrees", "axis"), [(-160, 2), (-90, 2), (-20, 2), (12, 2), (90, 2), (180, 2), (-25, 1), (40, 1)]
)
def test_a_turned_body_is_suspected_and_turned_upright_to_within_4_degrees(degrees, axis):
    pose = suspected_pose(CoarseCT.of(turned(body_phantom(), degrees, axis)[0]))
    left = Pose(pose.rotation @ rotation(axis, -degrees)[:3, :3])
    assert pose is not STRAIGHT and left.degrees < 4


@pytest.mark.parametrize(("degrees", "axis"), [(-5, 2), (0, 2), (5, 2), (-5, 1), (5, 1)])
def test_a_body_that_is_hardly_turned_is_not_suspected(degrees, axis):
    assert suspected_pose(CoarseCT.of(turned(body_phantom(), degrees, axis)[0])) is STRAIGHT


@pytest.mark.parametrize("name", ["support_ct", "target_ct"])
def test_the_sample_scans_are_not_suspected(name):
    assert suspected_pose(CoarseCT.of(read_scan(SAMPLES / f"{name}.nii.gz"))) is STRAIGHT


def test_a_body_without_a_spine_has_no_turn():
    codes = np.zeros((30, 40, 20), np.uint8)
    codes[5:25, 5:35] = 133
    assert spine_turn(CoarseCT(codes, np.eye(4))) == 0
    assert spine_turn(CoarseCT(codes[:6], np.eye(4))) == 0


def test_coordinates_that_follow_the_body_fit_better():
    assert misfit_mm(smooth_map()) < misfit_mm(smooth_map(noise_mm=20.0))


@pytest.mark.parametrize("degrees", [-12, 7])
def test_a_nod_is_read_from_the_coordinates(degrees):
    """A patient who nods by so much, whose coordinates follow the body in full."""
    straight = smooth_map()
    nodding = replace(straight, grid_to_ras=rotation(0, degrees) @ straight.grid_to_ras)
    assert nod_degrees(nodding) - nod_degrees(straight) == pytest.approx(-degrees, abs=0.1)


class Reader:
    """Reads a body in poses: the nearer to the right one, the better the coordinates follow it."""

    def __init__(self, turn: np.ndarray, worst_mm: float = 20.0):
        self.turn, self.worst_mm, self.poses = turn, worst_mm, []

    def __call__(self, pose: Pose):
        self.poses.append(pose)
        left = Pose(pose.rotation @ self.turn)
        nod = np.degrees(np.arctan2(left.rotation[2, 1], left.rotation[1, 1])) / 3
        seen = smooth_map(noise_mm=0.01 + self.worst_mm * left.degrees / 45)
        return replace(seen, grid_to_ras=rotation(0, nod) @ seen.grid_to_ras)


FLAT = CoarseCT(np.zeros((30, 40, 20), np.uint8), np.eye(4))


@pytest.mark.parametrize("degrees", [-30, -18, 20, 40])
def test_a_nod_is_taken_back_until_little_is_left(degrees):
    turn = rotation(0, degrees)[:3, :3]
    reader = Reader(turn)
    pose = better_pose(FLAT, reader(STRAIGHT), reader)
    assert Pose(pose.rotation @ turn).degrees < 8 and len(reader.poses) <= 10


def test_a_body_that_lies_straight_is_read_once():
    reader = Reader(np.eye(3))
    assert better_pose(FLAT, reader(STRAIGHT), reader) is STRAIGHT and len(reader.poses) == 1


def test_what_reads_worse_upright_stays_as_it_is():
    """A body that is suspected, by its mirror plane, though its coordinates follow it well as it lies."""
    scan, _ = turned(body_phantom(), 30)
    reader = Reader(np.eye(3))
    assert better_pose(CoarseCT.of(scan), reader(STRAIGHT), reader) is STRAIGHT and len(reader.poses) > 1


def test_the_sentence_says_how_the_body_lies():
    said = {roll: sentence(Pose(turn_of(roll, tilt).T, roll)) for roll, tilt in ((180, 0), (-90, 5), (20, 3), (0, -30))}
    for roll, how in ((180, "prone"), (-90, "lying on its side"), (20, "rolled to one side"), (0, "lying askew")):
        assert how in said[roll]
    assert "about 30°" in said[0] and "about 180°" in said[180]


@functools.cache
def tiny():
    return tiny_model()


def test_the_map_of_a_turned_body_lies_where_the_scan_shows_it(monkeypatch, tmp_path):
    scan, turn = turned(body_phantom(), 90)
    monkeypatch.setattr(embedder, "better_pose", lambda *_: Pose(turn_of(90, 0).T, 90.0))
    made = embed_scan(scan, tiny(), settings=ON_CPU)
    places = apply_affine(turn, np.array(list(phantom_landmarks().values())))
    assert made.is_body(places).all()
    assert made.field_of_view == scan.bounds() and made.scan_fingerprint == scan.fingerprint
    (note,) = made.notes
    assert "turned by about 90°" in note and "lying on its side" in note
    monkeypatch.setattr(embedder, "better_pose", lambda *_: STRAIGHT)
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


@pytest.mark.parametrize(("degrees", "axis", "median_mm"), [(-35, 2, 4), (180, 2, 4), (25, 1, 5), (-40, 0, 5)])
def test_landmarks_of_a_turned_patient_are_found_where_the_scan_shows_them(degrees, axis, median_mm):
    """180 degrees: as a prone patient under a supine header, where right and left were exchanged without a word."""
    engine, scan, straight = sample()
    copy, turn = turned(scan, degrees, axis)
    answer = engine.localize(copy, engine.library("built-in"), spacing="fast")
    pairs = [(a, b) for a, b in zip(straight.points, answer.points, strict=True) if a.found and b.found]
    wanted = apply_affine(turn, np.array([a.position_ras for a, _ in pairs]))
    errors = np.linalg.norm(wanted - np.array([b.position_ras for _, b in pairs]), axis=1)
    assert len(pairs) >= 8 and np.median(errors) <= median_mm and errors.max() <= 20.0, np.round(errors, 1)
    assert ["appears turned" in " ".join(one.notes) for one in (straight, answer)] == [False, True]
