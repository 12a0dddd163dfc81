"""Retrieval rules and the round trip."""

import dataclasses

import numpy as np
import pytest
from core.builders import CLICKS, Patient, smooth_map

from APELocalizerLib.core.errors import LocalizationError
from APELocalizerLib.core.geometry import Box
from APELocalizerLib.core.retrieval import RULES, retrieve, round_trip

PLACES = np.array(list(CLICKS.values()))


@pytest.mark.parametrize("rule", RULES)
def test_exact_queries_are_found_by_every_rule(rule):
    patient = Patient((1.08, 0.94, 1.03), (6, -9, 4))
    target = smooth_map(patient, shape=(24, 26, 28))
    positions, distances = retrieve(target, Patient().embedding(PLACES)[None], rule)
    assert positions.shape == (3, 3) and distances.shape == (3,)
    assert np.linalg.norm(positions - patient.place(PLACES), axis=1).max() < 0.5
    assert distances.max() < 1.0


@pytest.mark.parametrize("rule", RULES)
def test_several_equal_shots_are_as_good_as_one(support_map, rule):
    one = Patient().embedding(PLACES)[None]
    alone, _ = retrieve(support_map, one, rule)
    together, _ = retrieve(support_map, np.repeat(one, 4, axis=0), rule)
    np.testing.assert_allclose(together, alone, atol=0.01)


def test_the_papers_rule_averages_what_each_shot_finds(support_map):
    shots = np.stack([Patient().embedding(PLACES + shift) for shift in ([-9, 0, 0], [3, 6, 0], [3, 0, 12])])
    positions, distances = retrieve(support_map, shots, "paper")
    each = [retrieve(support_map, shot[None], "paper") for shot in shots]
    np.testing.assert_allclose(positions, np.mean([p for p, _ in each], axis=0), atol=1e-9)
    np.testing.assert_allclose(distances, np.mean([d for _, d in each], axis=0), atol=1e-9)
    np.testing.assert_allclose(positions, PLACES + [-1, 2, 4], atol=0.5)


def test_the_robust_rule_withstands_one_odd_shot_of_five(support_map):
    rng = np.random.default_rng(2)
    shots = np.stack([Patient().embedding(PLACES + rng.normal(0, 1.5, 3)) for _ in range(5)])
    shots[2] = Patient().embedding(PLACES + np.array([0, 0, 60.0]))
    robust = np.linalg.norm(retrieve(support_map, shots, "robust")[0] - PLACES, axis=1)
    paper = np.linalg.norm(retrieve(support_map, shots, "paper")[0] - PLACES, axis=1)
    assert robust.max() < 5
    assert np.all(robust < paper)


@pytest.mark.parametrize("rule", RULES)
def test_noise_of_single_cells_does_not_carry_the_answer_away(rule):
    noisy = smooth_map(noise_mm=4.0)
    positions, _ = retrieve(noisy, Patient().embedding(PLACES)[None], rule)
    assert np.linalg.norm(positions - PLACES, axis=1).max() < 20


def test_an_unknown_rule_is_refused(support_map):
    with pytest.raises(LocalizationError, match='no retrieval rule "magic". Choose one of: robust, paper'):
        retrieve(support_map, np.zeros((1, 1, 3)), "magic")


def test_a_true_place_comes_back_on_a_round_trip(support_map):
    patient = Patient((1.08, 0.94, 1.03))
    target = smooth_map(patient, shape=(24, 26, 28))
    errors = round_trip(target, patient.place(PLACES), [support_map], PLACES[None])
    assert errors.shape == (3,) and errors.max() < 1.0


def test_the_round_trip_measures_how_far_off_a_place_is(support_map):
    target = smooth_map(name="target")
    errors = round_trip(target, PLACES + [0, 0, -30], [support_map], PLACES[None])
    np.testing.assert_allclose(errors, 30, atol=1.0)


def test_the_round_trip_over_several_supports_withstands_one_odd_support(support_map):
    target, other = smooth_map(name="target"), Patient((1.05, 1.0, 0.97))
    second = smooth_map(other, shape=(22, 24, 26))
    odd = dataclasses.replace(support_map, values=support_map.values + 40)
    clicks = np.stack([PLACES, other.place(PLACES), PLACES])
    errors = round_trip(target, PLACES, [support_map, second, odd], clicks)
    assert errors.max() < 1.0


def test_what_lies_outside_the_field_of_view_fails_the_round_trip(support_map):
    """The target shows S < 0 only; the apex is 97 mm above that."""
    abdomen = smooth_map(shape=(20, 22, 12), center=(0, 0, -72))
    assert abdomen.field_of_view == Box((-88, -80, -144), (88, 80, 0))
    positions, _ = retrieve(abdomen, Patient().embedding(CLICKS["apex"][None])[None], "robust")
    assert round_trip(abdomen, positions, [support_map], CLICKS["apex"][None, None])[0] > 80
