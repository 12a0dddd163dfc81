"""Votes and round trips in numbers that can be counted on fingers."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.embedding.passes import mean_of_passes
from APELocalizerLib.core.localization.queries import Shots
from APELocalizerLib.core.localization.votes import (
    NEIGHBORHOOD,
    Votes,
    collect_votes,
    decide,
    find_by_coordinates,
    geometric_median,
    medians,
    round_trip,
)
from made_up.grids import grid_to_ras
from made_up.maps import map_of

SHAPE = (24, 24, 24)


def a_map(off=(0.0, 0.0, 0.0), body=None, **changes):
    """Cells of 8 mm, 192 mm wide; coordinates are positions, off by a constant."""
    grid = grid_to_ras(SHAPE, (8.0, 8.0, 8.0))
    return map_of(SHAPE, grid, lambda positions: positions + np.array(off), body, **changes)


def one_shot(*supports, click=(0.0, 0.0, 0.0)) -> Shots:
    """One query, clicked at the same place on every support."""
    n, clicks = len(supports), np.tile(np.array(click, float), (len(supports), 1))
    embedding = np.concatenate([one_map.embedding_at(clicks[:1]) for one_map in supports])
    return Shots(np.zeros(n, int), np.arange(n), clicks, embedding)


def trip(scan, *supports, click=(0.0, 0.0, 0.0), position=(0.0, 0.0, 0.0)) -> float:
    return round_trip(scan, supports, one_shot(*supports, click=click), np.array([position], float))[0]


def test_the_position_and_six_around_it_at_25_mm_are_checked():
    wanted = {(0, 0, 0), (25, 0, 0), (-25, 0, 0), (0, 25, 0), (0, -25, 0), (0, 0, 25), (0, 0, -25)}
    assert {tuple(map(int, step)) for step in NEIGHBORHOOD} == wanted and len(NEIGHBORHOOD) == 7
    assert not NEIGHBORHOOD[0].any()


@pytest.mark.parametrize("off", [(12.0, 0.0, 0.0), (0.0, 3.0, 4.0)])
def test_a_position_that_is_off_comes_back_by_as_much(off):
    assert trip(a_map(), a_map(), position=off) == pytest.approx(np.linalg.norm(off), abs=0.01)


def test_distances_of_passes_are_averaged_by_their_squares():
    """One pass is exact, the other 20 mm off: the root of (0 + 400) / 2."""
    scan = mean_of_passes([a_map(), a_map((20.0, 0.0, 0.0))])
    support = mean_of_passes([a_map(), a_map()])
    assert trip(scan, support) == pytest.approx(np.sqrt(200), abs=0.01)


def test_passes_are_compared_only_where_both_have_the_same():
    """Another number of passes, or another spacing: the maps as a whole, which are 10 mm off here."""
    scan = mean_of_passes([a_map(), a_map((20.0, 0.0, 0.0))])
    three = mean_of_passes([a_map()] * 3)
    other = dataclasses.replace(mean_of_passes([a_map()] * 2), spacing="fast")
    for support in (three, other, a_map()):
        assert trip(scan, support) == pytest.approx(10.0, abs=0.01)


def test_neighbors_in_the_air_of_either_scan_do_not_count():
    """The map is shifted by 14 mm in a part that lies in the air on the scan, and in another of the support."""
    half = a_map(body=lambda positions: positions[:, 0] < 12)
    whole = a_map()
    bent = dataclasses.replace(whole, values=whole.values.copy())
    positions = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij"), -1) @ whole.grid_to_ras[:3, :3].T
    outer = (positions + whole.grid_to_ras[:3, 3])[..., 0] > 12
    bent.values[outer] += (0.0, 14.0, 0.0)
    assert trip(half, bent) == pytest.approx(0.0, abs=0.01)
    assert trip(bent, half) == pytest.approx(0.0, abs=0.01)
    assert trip(a_map(), bent) == pytest.approx(14 / np.sqrt(7), abs=0.3), "one of seven is 14 mm off"


def test_the_trip_of_several_shots_is_the_one_in_the_middle():
    """Supports whose coordinates are 0, 6 and 40 mm off: 6; of the first two: 3."""
    supports = [a_map((0.0, 0.0, off)) for off in (0, 6, 40)]
    assert trip(a_map(), *supports) == pytest.approx(6.0, abs=0.01)
    assert trip(a_map(), *supports[:2]) == pytest.approx(3.0, abs=0.01)


def test_medians_of_groups():
    values, starts = np.array([5.0, 1, 9, 4, 2, 7, 7, 1]), np.array([0, 3, 5])
    np.testing.assert_array_equal(medians(values, starts), [5, 3, 7])
    np.testing.assert_array_equal(medians(values, np.array([0])), [4.5])


def test_the_geometric_median_of_a_triangle_is_its_fermat_point():
    """Of an equilateral triangle its center; of a wide one, whose angle is above 120 degrees, the corner."""
    equal = np.array([[0, 0, 0], [2, 0, 0], [1, np.sqrt(3), 0]])
    np.testing.assert_allclose(geometric_median(equal), [1, 1 / np.sqrt(3), 0], atol=1e-6)
    wide = np.array([[-10, 0, 0], [10, 0, 0], [0, 1, 0.0]])
    np.testing.assert_allclose(geometric_median(wide), [0, 1, 0], atol=1e-3)
    right = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]])  # worked out: its Fermat point is at (3 - sqrt 3) / 6
    np.testing.assert_allclose(geometric_median(right), [(3 - np.sqrt(3)) / 6] * 2 + [0], atol=1e-5)


# Votes


def test_by_the_papers_rule_a_shot_votes_once_with_its_embedding():
    scan, support = a_map((5.0, 0.0, 0.0)), a_map()
    votes = collect_votes(scan, [support], one_shot(support, click=(10, 20, 30)), "paper")
    np.testing.assert_allclose(votes.points_ras, [[[5, 20, 30]]], atol=0.01)
    assert votes.distances.shape == (1, 1) and votes.distances[0, 0] < 0.01


def test_by_the_robust_rule_a_shot_votes_once_a_pass_with_what_its_support_has_there():
    scan = mean_of_passes([a_map((5.0, 0.0, 0.0)), a_map((0.0, 8.0, 0.0))])
    support = mean_of_passes([a_map(), a_map()])
    shots = one_shot(support, a_map(), click=(10, 20, 30))
    votes = collect_votes(scan, [support, a_map()], shots, "robust")
    np.testing.assert_allclose(votes.points_ras[0], [[5, 20, 30], [10, 12, 30]], atol=0.01)
    mean = [10 - 2.5, 20 - 4, 30]
    np.testing.assert_allclose(votes.points_ras[1], [mean, mean], atol=0.01, err_msg="one pass stands for two votes")


def test_what_the_scan_lacks_is_met_at_a_distance():
    """The coordinates end at 96 mm: those of 116 mm are met at the border, 20 mm away from what was looked for."""
    scan, support = a_map(), a_map((40.0, 0.0, 0.0))
    located = find_by_coordinates(scan, [support], one_shot(support, click=(76, 0, 0)), "paper")
    assert located.distances[0] == pytest.approx(116 - 92, abs=4.5)
    assert located.positions[0, 0] == pytest.approx(94, abs=3)
    np.testing.assert_allclose(located.votes_of(0), located.positions)
    assert located.signals is None and located.round_trip_mm[0] > 15


def test_decisions_average_distances_and_take_positions_by_the_rule():
    points = np.array([[[0.0, 0, 0], [3, 0, 0]], [[0, 0, 0], [90, 0, 0]], [[7, 7, 7], [9, 9, 9]]])
    votes = Votes(points, np.array([[1.0, 2], [3, 6], [4, 8]]))
    shots = Shots(np.array([0, 0, 1]), np.zeros(3, int), np.zeros((3, 3)), np.zeros((3, 3)))
    positions, distances = decide(votes, shots, "paper")
    np.testing.assert_allclose(positions, [[93 / 4, 0, 0], [8, 8, 8]])
    np.testing.assert_allclose(distances, [3, 6])
    positions, distances = decide(votes, shots, "robust")
    assert 0 <= positions[0, 0] <= 3.0, "any place between the two in the middle"
    np.testing.assert_allclose(distances, [3, 6])


def test_looking_up_can_be_cancelled_at_every_step():
    scan = a_map()
    for last in (0, 1, 2):
        answers = iter([False] * last + [True] * 9)
        with pytest.raises(Cancelled):
            find_by_coordinates(scan, [scan], one_shot(scan), "robust", cancelled=lambda answers=answers: next(answers))
