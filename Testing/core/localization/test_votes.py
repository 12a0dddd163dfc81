"""Retrieval rules and the round trip."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import LocalizationError
from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.localization import votes as retrieval
from APELocalizerLib.core.localization.queries import Shots
from APELocalizerLib.core.localization.votes import (
    NEIGHBORHOOD,
    RULES,
    Votes,
    collect_votes,
    decide,
    geometric_median,
    geometric_medians,
    round_trip,
)
from made_up.maps import CLICKS, Patient, smooth_map

PLACES = np.array(list(CLICKS.values()))


def shots_of(supports, clicks) -> Shots:
    """Every place clicked once on every support: clicks (supports, places, 3)."""
    clicks = np.asarray(clicks, float)
    count, places = clicks.shape[:2]
    return Shots(
        query=np.tile(np.arange(places), count),
        support=np.repeat(np.arange(count), places),
        click=clicks.reshape(-1, 3),
        embedding=np.concatenate(list(map(EmbeddingMap.embedding_at, supports, clicks))),
    )


def find(scan_map, supports, clicks, rule):
    """Positions (places, 3) and distances of places clicked on the supports."""
    shots = shots_of(supports, clicks)
    return decide(collect_votes(scan_map, supports, shots, rule), shots, rule)


def check(scan_map, supports, clicks, positions):
    """Round-trip errors (places,) of positions on the scan."""
    return round_trip(scan_map, supports, shots_of(supports, clicks), np.asarray(positions, float))


@pytest.mark.parametrize("rule", RULES)
def test_exact_queries_are_found_by_every_rule(support_map, rule):
    patient = Patient((1.08, 0.94, 1.03), (6, -9, 4))
    target = smooth_map(patient, shape=(24, 26, 28))
    positions, distances = find(target, [support_map], PLACES[None], rule)
    assert positions.shape == (3, 3) and distances.shape == (3,)
    assert np.linalg.norm(positions - patient.place(PLACES), axis=1).max() < 0.5
    assert distances.max() < 1.0


@pytest.mark.parametrize("rule", RULES)
def test_several_equal_shots_are_as_good_as_one(support_map, rule):
    alone, _ = find(support_map, [support_map], PLACES[None], rule)
    together, _ = find(support_map, [support_map] * 4, np.repeat(PLACES[None], 4, axis=0), rule)
    np.testing.assert_allclose(together, alone, atol=0.01)


def test_the_papers_rule_averages_what_each_shot_finds(support_map):
    clicks = np.stack([PLACES + np.array(shift, float) for shift in ([-9, 0, 0], [3, 6, 0], [3, 0, 12])])
    positions, _ = find(support_map, [support_map] * 3, clicks, "paper")
    np.testing.assert_allclose(positions, PLACES + [-1, 2, 4], atol=0.5)


def test_the_robust_rule_withstands_one_odd_shot_of_five(support_map):
    rng = np.random.default_rng(2)
    clicks = np.stack([PLACES + rng.normal(0, 1.5, 3) for _ in range(5)])
    clicks[2] = PLACES + np.array([0, 0, 40.0])
    robust = np.linalg.norm(find(support_map, [support_map] * 5, clicks, "robust")[0] - PLACES, axis=1)
    paper = np.linalg.norm(find(support_map, [support_map] * 5, clicks, "paper")[0] - PLACES, axis=1)
    assert robust.max() < 5
    assert np.all(robust < paper)


def test_the_robust_rule_withstands_one_odd_pass_of_three(support_map):
    """The coarse pass of the scan is off by 40 mm: the mean map follows it by a third, the votes do not."""
    odd = dataclasses.replace(support_map, values=support_map.values + np.float32([0, 0, 40]))
    scan = mean_of_passes([support_map, odd, support_map])
    support = mean_of_passes([support_map] * 3)
    robust, _ = find(scan, [support], PLACES[None], "robust")
    paper, _ = find(scan, [support], PLACES[None], "paper")
    assert np.linalg.norm(robust - PLACES, axis=1).max() < 2
    assert np.linalg.norm(paper - PLACES, axis=1).min() > 8


@pytest.mark.parametrize("rule", RULES)
def test_noise_of_single_cells_does_not_carry_the_answer_away(support_map, rule):
    noisy = smooth_map(noise_mm=4.0)
    positions, _ = find(noisy, [support_map], PLACES[None], rule)
    assert np.linalg.norm(positions - PLACES, axis=1).max() < 20


def test_an_unknown_rule_is_refused(support_map):
    with pytest.raises(LocalizationError, match='no retrieval rule "magic". Choose one of: robust, paper'):
        find(support_map, [support_map], PLACES[None], "magic")


def test_geometric_median_stays_with_the_majority():
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [300.0, 300, 300]])
    assert np.linalg.norm(geometric_median(points)) < 1
    np.testing.assert_allclose(geometric_median(np.array([[3.0, 4, 5]])), [3, 4, 5])


def test_a_true_place_comes_back_on_a_round_trip(support_map):
    """Another patient's size differs by up to 8 %, so that places 25 mm around it come back up to 2 mm apart."""
    patient = Patient((1.08, 0.94, 1.03))
    target = smooth_map(patient, shape=(24, 26, 28))
    errors = check(target, [support_map], PLACES[None], patient.place(PLACES))
    assert errors.shape == (3,) and errors.max() < 2.0
    assert check(support_map, [support_map], PLACES[None], PLACES).max() < 0.01


def test_the_round_trip_measures_how_far_off_a_place_is(support_map):
    target = smooth_map(name="target")
    errors = check(target, [support_map], PLACES[None], PLACES + [0, 0, -30])
    np.testing.assert_allclose(errors, 30, atol=1.5)


def test_the_round_trip_shows_that_the_passes_disagree(support_map):
    """A retrieval inverts its own map exactly; only the other spacings can tell that the answer is uncertain."""
    odd = dataclasses.replace(support_map, values=support_map.values + np.float32([0, 30, 0]))
    scan, support = mean_of_passes([support_map, odd]), mean_of_passes([support_map, support_map])
    positions, _ = find(scan, [support], PLACES[None], "paper")
    assert check(scan, [support], PLACES[None], positions).min() > 10
    assert check(support, [support], PLACES[None], PLACES).max() < 0.01


def test_the_round_trip_over_several_supports_withstands_one_odd_support(support_map):
    target, other = smooth_map(name="target"), Patient((1.05, 1.0, 0.97))
    second = smooth_map(other, shape=(22, 24, 26))
    odd = dataclasses.replace(support_map, values=support_map.values + 40)
    clicks = np.stack([PLACES, other.place(PLACES), PLACES])
    assert check(target, [support_map, second, odd], clicks, PLACES).max() < 2.0


def test_what_lies_outside_the_field_of_view_fails_the_round_trip(support_map):
    """The target shows S < 0 only; the apex is 97 mm above that."""
    abdomen = smooth_map(shape=(20, 22, 12), center=(0, 0, -72))
    assert abdomen.field_of_view == Box((-88, -80, -144), (88, 80, 0))
    apex = CLICKS["apex"][None, None]
    positions, _ = find(abdomen, [support_map], apex, "robust")
    assert check(abdomen, [support_map], apex, positions)[0] > 80


def uneven_shots() -> Shots:
    """Places with one to four shots, in no order, on three supports."""
    rng = np.random.default_rng(4)
    place = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 5, 12)))
    click = PLACES[place % 3] + rng.normal(0, 8, (len(place), 3))
    return Shots(place, rng.integers(0, 3, len(place)), click, np.zeros_like(click))


def test_places_with_different_numbers_of_shots_are_decided_each_by_itself():
    shots = uneven_shots()
    rng = np.random.default_rng(5)
    votes = Votes(rng.normal(0, 50, (len(shots.query), 3, 3)), rng.uniform(0, 9, (len(shots.query), 3)))
    means, distances = decide(votes, shots, "paper")
    medians, _ = decide(votes, shots, "robust")
    for place in range(12):
        mine = shots.query == place
        points = votes.points_ras[mine].reshape(-1, 3)
        np.testing.assert_allclose(means[place], points.mean(axis=0))
        np.testing.assert_allclose(distances[place], votes.distances[mine].mean())

        def total(center, points=points):
            return np.linalg.norm(points - center, axis=1).sum()

        steps = 0.5 * np.concatenate([np.eye(3), -np.eye(3)])
        assert total(medians[place]) <= min(total(medians[place] + step) for step in steps)


def test_geometric_medians_of_groups_are_those_of_each_alone():
    points, starts = np.random.default_rng(6).normal(0, 10, (20, 3)), np.array([0, 1, 3, 12])
    alone = [geometric_median(group) for group in np.split(points, starts[1:])]
    np.testing.assert_allclose(geometric_medians(points, starts), alone, atol=1e-9)


@pytest.mark.parametrize("block", [1, 5, 4096])
def test_round_trips_together_are_those_of_each_shot_alone(support_map, block, monkeypatch):
    """Written out shot by shot and pass by pass; blocks of shots change nothing."""
    monkeypatch.setattr(retrieval, "SHOTS_PER_BLOCK", block)
    patient = Patient((1.06, 0.95, 1.02), (5, -3, 8))
    scan = mean_of_passes([smooth_map(patient, noise_mm=1.0), smooth_map(patient, shape=(24, 26, 28))])
    supports = [mean_of_passes([support_map, smooth_map(noise_mm=2.0)]), smooth_map(shape=(15, 18, 20)), support_map]
    shots = uneven_shots()
    positions = patient.place(PLACES)[np.arange(12) % 3]
    positions[0] += [0, 0, 400]  # not on the map: only the place itself counts, not its neighbors
    alone = []
    for place, number, click in zip(shots.query, shots.support, shots.click, strict=True):
        support = supports[number]
        pairs = list(zip(scan.passes, support.passes, strict=True)) if support.passes else [(scan, support)]
        squared = []
        for neighbor in NEIGHBORHOOD:
            there, here = positions[place] + neighbor, click + neighbor
            if not neighbor.any() or (scan.is_body(there[None])[0] and support.is_body(here[None])[0]):
                for seen, clicked in pairs:
                    back = clicked.nearest(seen.embedding_at(there[None])).points_ras[0]
                    squared.append(((back - here) ** 2).sum())
        alone.append(np.sqrt(np.mean(squared)))
    expected = [np.median(np.array(alone)[shots.query == place]) for place in range(12)]
    np.testing.assert_allclose(round_trip(scan, supports, shots, positions), expected, atol=0.05)
