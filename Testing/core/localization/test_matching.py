"""Places are moved to where the scan looks like the support around the click, and checked by a round trip."""

import itertools
import threading

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.torch_threads import one_thread_each
from APELocalizerLib.core.embedding.coarse_ct import CoarseCT
from APELocalizerLib.core.localization import matching, neighborhoods
from APELocalizerLib.core.localization.matching import refine
from APELocalizerLib.core.localization.neighborhoods import MINIMUM_OVERLAP, Stage, Templates
from made_up.grids import grid_to_ras
from made_up.phantoms import NAMES, SHIFT, SPACING, phantom, places
from made_up.scans import body_phantom, reoriented

OFF = np.random.default_rng(3).uniform(-18, 18, (len(NAMES), 3))
"""How wrong the starts are: what another patient's anatomical coordinates leave."""


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
