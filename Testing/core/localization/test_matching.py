"""Places are moved to where the scan looks like the support around the click, and checked by a round trip."""

import dataclasses
import itertools
import threading

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.base.torch_threads import one_thread_each
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.embedding.coordinate_space import CoordinateSpace
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.library.learning import learn_box, learn_points
from APELocalizerLib.core.library.library import LandmarkLibrary
from APELocalizerLib.core.localization import matching, neighborhoods
from APELocalizerLib.core.localization.localize import LocalizationSettings, localize
from APELocalizerLib.core.localization.matching import refine, refine_and_check
from APELocalizerLib.core.localization.neighborhoods import MINIMUM_OVERLAP, Stage, Templates
from APELocalizerLib.core.localization.queries import Shots
from made_up.grids import grid_to_ras
from made_up.maps import map_of
from made_up.scans import body_phantom, phantom_landmarks, reoriented

SHAPE, SPACING = (133, 93, 88), (3.0, 3.0, 3.0)
SHIFT = np.array([12.0, -9.0, 14.0])
NAMES = [name for name in phantom_landmarks() if "apex" not in name]
OFF = np.random.default_rng(3).uniform(-18, 18, (len(NAMES), 3))
"""How wrong the starts are: what another patient's anatomical coordinates leave."""


def phantom(shift=(0, 0, 0), scale=1.0):
    return body_phantom(SHAPE, SPACING, shift=shift, scale=scale)


def places(**patient) -> np.ndarray:
    known = phantom_landmarks(**patient)
    return np.array([known[name] for name in NAMES])


def embedding_map(scan, error_mm=0.0, shift=(0, 0, 0)) -> EmbeddingMap:
    """A map whose coordinates are true but for a constant error along S, with the scan's coarse CT."""
    shape = (18, 18, 18)
    return map_of(
        shape, grid_to_ras(shape, (-22.0, -22.0, -16.0)), lambda positions: positions - shift + (0, 0, error_mm),
        field_of_view=scan.bounds(), scan_name=scan.name, scan_fingerprint=f"{error_mm}{shift}",
        coarse_ct=CoarseCT.of(scan),
    )  # fmt: skip


@pytest.fixture(scope="module")
def support():
    return CoarseCT.of(phantom())


@pytest.fixture(scope="module")
def target():
    return CoarseCT.of(phantom(SHIFT))


def refined(scan, supports, clicks, start):
    """Every click on every support, in a row."""
    n, m = len(start), len(supports)
    place, support = np.tile(np.arange(n), m), np.repeat(np.arange(m), n)
    return refine([scan], np.zeros(n, int), supports, place, support, np.concatenate(clicks), start)[0]


def assert_near(result, wanted):
    errors = np.linalg.norm(result - wanted, axis=1)
    assert errors.max() < 9.5 and np.median(errors) < 3.6


def test_how_places_are_shared_out_changes_nothing(support, target, monkeypatch):
    """Blocks for threads and chunks for the cache, over two scans, against all places at once."""
    clicks, start = places(), places(shift=SHIFT) + OFF
    n = len(start)
    arguments = (
        [target, support], np.arange(n) % 2, [support], np.arange(n), np.zeros(n, int), clicks,
        np.where((np.arange(n) % 2 == 0)[:, None], start, clicks + OFF / 3),
    )  # fmt: skip
    at_once = refine(*arguments)[0]
    monkeypatch.setattr(matching, "QUERIES_PER_BLOCK", (3, 5))
    monkeypatch.setattr(neighborhoods, "QUERIES_PER_CHUNK", 2)
    np.testing.assert_allclose(refine(*arguments)[0], at_once, atol=1e-3)


def test_pytorchs_threads_are_given_back_also_when_two_threads_are_within(support, target):
    usual, within, done = torch.get_num_threads(), threading.Event(), threading.Event()
    counts = []

    def another():
        with one_thread_each():
            counts.append(torch.get_num_threads())
            within.set()
            done.wait(30)
        counts.append(torch.get_num_threads())

    torch.set_num_threads(3)
    try:
        thread = threading.Thread(target=another)
        with one_thread_each():
            thread.start()
            within.wait(30)
        assert torch.get_num_threads() == 3
        done.set()
        thread.join(30)
        assert counts == [1, 3]
        with pytest.raises(Cancelled):
            refine(
                [target], np.zeros(1, int), [support], np.zeros(1, int), np.zeros(1, int), places()[:1], places()[:1],
                cancelled=lambda: True,
            )  # fmt: skip
        assert torch.get_num_threads() == 3
    finally:
        done.set()
        torch.set_num_threads(usual)


def test_costs_are_the_weighted_squared_differences():
    """Against plain loops, with neighborhoods that leave the support and cells that lie outside the scan."""
    rng, stage = np.random.default_rng(0), Stage(level=0, radius=2, reach=1, width=0.6)
    scan, *supports = (
        CoarseCT(rng.integers(0, 256, shape).astype(np.uint8), np.diag([-5.0, -5.0, 5.0, 1.0]))
        for shape in [(9, 8, 7), (8, 9, 9), (7, 7, 7)]
    )
    cells = np.array([[4, 4, 3], [0, 4, 6], [-3, -3, -3]])
    place, support = np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1])
    clicked = np.array([[4, 4, 4], [0, 3, 5], [7, 8, 4], [3, 3, 3]])
    templates = Templates(supports, 3, place, support, clicked * np.array([-5.0, -5.0, 5.0]), stage)
    features = scan.level(0)[0]
    result = templates.costs(np.arange(3), torch.from_numpy(features), torch.from_numpy(cells).double()).numpy()
    profile = np.exp(-0.5 * ((np.arange(5) - 2) / 1.2) ** 2)
    for number, step in itertools.product(range(3), itertools.product((-1, 0, 1), repeat=3)):
        total = share = clicks = 0.0
        for row in np.flatnonzero(place == number):
            look = supports[support[row]].level(0)[0]
            terms = [
                (weight, seen, ((compared - known) ** 2).sum())
                for weight, known, compared, seen in neighborhood(
                    look, clicked[row], features, cells[number] + step, profile
                )
            ]
            whole = sum(weight for weight, _, _ in terms)
            total += sum(weight * seen * squared for weight, seen, squared in terms) / whole
            share += sum(weight * seen for weight, seen, _ in terms) / whole
            clicks += 1
        expected = total / share if share >= MINIMUM_OVERLAP * clicks else np.inf
        np.testing.assert_allclose(result[number][tuple(np.array(step) + 1)], expected, rtol=2e-4)
    assert np.isinf(result[2]).all() and np.isinf(result[1]).any() and np.isfinite(result[:2]).sum() > 30


def neighborhood(support, click, scan, cell, profile):
    """Weight, features at the click, features of the scan, and whether these are inside, for all 125 cells inside."""
    for offset in itertools.product(range(5), repeat=3):
        there, here = click + np.array(offset) - 2, cell + np.array(offset) - 2
        if inside(there, support):
            seen = inside(here, scan)
            compared = scan[(slice(None), *here)] if seen else np.zeros(3)
            yield np.prod(profile[list(offset)]), support[(slice(None), *there)], compared, seen


def inside(cell, features) -> bool:
    return bool(np.all(cell >= 0) and np.all(cell < features.shape[1:]))


def test_places_move_to_where_they_look_like_the_clicks(support, target):
    """Starts are off by 24 mm on average; the same body elsewhere is found to about half a cell, drawn to the start."""
    result = refined(target, [support], [places()], places(shift=SHIFT) + OFF)
    assert_near(result, places(shift=SHIFT))
    assert np.linalg.norm(OFF, axis=1).mean() > 14


@pytest.mark.parametrize(("order", "flips"), [((2, 1, 0), (1, 0, 1)), ((1, 2, 0), (0, 1, 1))])
def test_it_does_not_matter_how_the_scans_are_stored(support, order, flips):
    target = CoarseCT.of(reoriented(phantom(SHIFT), order, flips))
    result = refined(target, [support], [places()], places(shift=SHIFT) + OFF)
    assert_near(result, places(shift=SHIFT))


def test_an_oblique_copy_gives_the_same_places(support):
    angle = np.radians(15)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    grid = grid_to_ras((150, 130, 88), SPACING, rotation=turn)
    oblique = CoarseCT.of(body_phantom((150, 130, 88), ijk_to_ras=grid, shift=SHIFT))
    result = refined(oblique, [support], [places()], places(shift=SHIFT) + OFF)
    assert_near(result, places(shift=SHIFT))


def test_a_larger_patient_is_matched_better_than_the_start(support):
    larger = CoarseCT.of(phantom(scale=1.08))
    wanted = places(scale=1.08)
    result = refined(larger, [support], [places()], wanted + OFF)
    errors = np.linalg.norm(result - wanted, axis=1)
    assert np.median(errors) < 8 and np.median(errors) < 0.4 * np.median(np.linalg.norm(OFF, axis=1))


def test_several_supports_agree_on_one_place_each(support, target):
    other = CoarseCT.of(phantom(scale=0.95))
    result = refined(target, [support, other], [places(), places(scale=0.95)], places(shift=SHIFT) + OFF)
    assert result.shape == OFF.shape
    assert np.linalg.norm(result - places(shift=SHIFT), axis=1).max() < 9.5


def test_without_a_coarse_ct_positions_stay(target):
    start = places() + OFF
    np.testing.assert_array_equal(refined(target, [None], [places()], start), start)


def test_a_place_far_from_everything_comparable_stays(support, target):
    start = np.array([[0.0, 0.0, 900.0]])
    np.testing.assert_array_equal(refined(target, [support], [np.zeros((1, 3))], start), start)


# In a localization ----------------------------------------------------------------------------------------------------


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
