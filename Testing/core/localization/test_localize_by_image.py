"""In a localization, places are moved to where the scan looks like the support, and what does not is said."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.matching import refine_and_check
from APELocalizerLib.core.localization.queries import Shots
from made_up.grids import grid_to_ras
from made_up.maps import map_of
from made_up.phantoms import NAMES, SHIFT, phantom, places
from made_up.scans import phantom_landmarks


def embedding_map(scan, error_mm=0.0, shift=(0, 0, 0)) -> EmbeddingMap:
    """A map whose coordinates are true but for a constant error along S, with the scan's coarse CT."""
    shape = (18, 18, 18)
    return map_of(
        shape, grid_to_ras(shape, (-22.0, -22.0, -16.0)), lambda positions: positions - shift + (0, 0, error_mm),
        field_of_view=scan.bounds(), scan_name=scan.name, scan_fingerprint=f"{error_mm}{shift}",
        coarse_ct=CoarseCT.of(scan),
    )  # fmt: skip


@pytest.fixture(scope="module")
def library():
    scan = phantom()
    support_map = embedding_map(scan)
    points = {name: phantom_landmarks()[name] for name in NAMES}
    return learn_box(learn_points(LandmarkLibrary(), support_map, points), support_map, "liver box", LIVER)


LIVER = Box((-5, -65, -93), (145, 85, 3))


@pytest.fixture(scope="module")
def wrong_map():
    """The other patient, whose coordinates are 24 mm off along the body."""
    return embedding_map(phantom(SHIFT), 24.0, SHIFT)


def test_localize_corrects_what_the_embeddings_get_wrong(library, wrong_map):
    plain = localize(wrong_map, library, LocalizationSettings(refine=False, round_trip_threshold_mm=40))
    refined = localize(wrong_map, library, LocalizationSettings(round_trip_threshold_mm=40))
    wanted = phantom_landmarks(shift=SHIFT)
    for before, after in zip(plain.points, refined.points, strict=True):
        assert np.linalg.norm(before.candidate_ras - wanted[before.name]) == pytest.approx(24.0, abs=1.0)
        assert after.found and np.linalg.norm(after.position_ras - wanted[after.name]) < 14.0
    assert np.median([np.linalg.norm(p.position_ras - wanted[p.name]) for p in refined.points]) < 8.0
    box = Box(tuple(LIVER.minimum + SHIFT), tuple(LIVER.maximum + SHIFT))
    assert refined.organs[0].raw_box.iou(box) > 0.78 > plain.organs[0].raw_box.iou(box) + 0.03  # no texture inside


def test_the_confidence_is_good_where_scans_look_alike_and_bad_where_they_do_not(library, wrong_map):
    """The round trip from a right position ends at the click; from a scan where other tissue lies there it does not."""
    right = localize(wrong_map, library, LocalizationSettings(round_trip_threshold_mm=40))
    noise = np.random.default_rng(0).integers(0, 255, wrong_map.coarse_ct.codes.shape, dtype=np.uint8)
    scrambled = dataclasses.replace(wrong_map, coarse_ct=CoarseCT(noise, wrong_map.coarse_ct.grid_to_ras))
    wrong = localize(scrambled, library, LocalizationSettings(round_trip_threshold_mm=40))
    assert np.median([p.round_trip_mm for p in right.points]) < 0.5 * np.median([p.round_trip_mm for p in wrong.points])


def test_what_does_not_lead_back_stays_nearer_to_aligned_coordinates(library, wrong_map):
    """A place that looks right may be the wrong kidney; but coordinates that are not aligned are worse than that."""
    noise = np.random.default_rng(0).integers(0, 255, wrong_map.coarse_ct.codes.shape, dtype=np.uint8)
    scrambled = dataclasses.replace(wrong_map, coarse_ct=CoarseCT(noise, wrong_map.coarse_ct.grid_to_ras))
    support, clicks, n = library.supports[0].map, places(), len(NAMES)
    shots = Shots(np.arange(n), np.zeros(n, int), clicks, support.embedding_at(clicks))
    start = wrong_map.nearest(shots.embedding).points_ras

    def moved(scan, aligned):
        scan = dataclasses.replace(scan, space=CoordinateSpace(scan.model_id, "reference" if aligned else None))
        refined, _, _ = refine_and_check(scan, [support], shots, start, np.zeros(n), np.ones(n, int))
        return np.linalg.norm(refined - start, axis=1)

    assert moved(wrong_map, True).mean() > 0.9 * moved(wrong_map, False).mean() > 12
    assert moved(scrambled, True).mean() < 0.75 * moved(scrambled, False).mean()


def test_nothing_is_moved_out_of_the_field_of_view(library, wrong_map):
    view = Box((-150, -100, -40), (150, 100, 60))
    cut = dataclasses.replace(wrong_map, field_of_view=view)
    before = localize(cut, library, LocalizationSettings(refine=False))
    for was, point in zip(before.points, localize(cut, library).points, strict=True):
        assert view.contains(point.candidate_ras)[0] or point.candidate_ras == was.candidate_ras


def test_it_is_said_when_there_is_nothing_to_compare(library, wrong_map):
    bare = localize(dataclasses.replace(wrong_map, coarse_ct=None), library)
    assert any("refinement was skipped" in note for note in bare.notes)
    assert not any("refinement was skipped" in note for note in localize(wrong_map, library).notes)
    unwanted = localize(wrong_map, library, LocalizationSettings(refine=False))
    assert not any("refinement was skipped" in note for note in unwanted.notes)


@pytest.mark.parametrize("bare_first", [False, True])
def test_a_support_without_coarse_ct_does_not_spoil_the_confidence(library, wrong_map, bare_first):
    """In a library of both kinds, the round trip visits those supports only that have a coarse CT."""
    bare = dataclasses.replace(embedding_map(phantom()), coarse_ct=None, scan_name="bare", scan_fingerprint="bare")
    points = {name: phantom_landmarks()[name] for name in NAMES}
    other = learn_box(learn_points(LandmarkLibrary(), bare, points), bare, "liver box", LIVER)
    both = other.merged(library) if bare_first else library.merged(other)
    settings = LocalizationSettings(round_trip_threshold_mm=40)
    alone, mixed = localize(wrong_map, library, settings), localize(wrong_map, both, settings)
    for one, two in zip((*alone.points, *alone.organs), (*mixed.points, *mixed.organs), strict=True):
        assert two.round_trip_mm == pytest.approx(one.round_trip_mm, abs=1.0), one.name
    assert any("no coarse CT of bare" in note for note in mixed.notes) and not alone.notes
