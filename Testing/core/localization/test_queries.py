"""What is looked up for a library, in which order, and from which clicks."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import Box
from APELocalizerLib.core.library.learning import learn_box
from APELocalizerLib.core.localization.boxes import INNER_POINTS
from APELocalizerLib.core.localization.queries import (
    EXTREME_POINT,
    INNER_POINT,
    LANDMARK,
    Click,
    Query,
    Shots,
    queries_of,
)
from made_up.maps import CLICKS, Patient, library_of, smooth_map

FIRST, SECOND = Box((-40, -30, -60), (50, 30, 40)), Box((-30, -20, -50), (60, 40, 50))


@pytest.fixture(scope="module")
def supports(support_map):
    return [support_map, smooth_map(name="second")]


@pytest.fixture(scope="module")
def library(supports):
    """Three landmarks and a liver, clicked on both supports; a heart on the second alone."""
    both = library_of(*((Patient(), one_map) for one_map in supports))
    both = learn_box(learn_box(both, supports[0], "liver", FIRST), supports[1], "liver", SECOND)
    return learn_box(both, supports[1], "heart", SECOND)


def test_a_landmark_is_one_query_and_an_organ_six(library):
    queries = queries_of(library, inner=False)
    names = [(query.name, query.kind) for query in queries]
    assert (
        names == [(name, LANDMARK) for name in CLICKS] + [("liver", EXTREME_POINT)] * 6 + [("heart", EXTREME_POINT)] * 6
    )
    assert [len(query.clicks) for query in queries] == [2] * 9 + [1] * 6
    assert [click.support for click in queries[0].clicks] == [0, 1]
    assert [click.support for click in queries[-1].clicks] == [1]


def test_round_trips_are_repeated_for_three_shots_of_a_landmark_and_one_of_an_extreme_point(library):
    queries = queries_of(library, inner=True)
    assert {query.kind: query.round_trips for query in queries} == {LANDMARK: 3, EXTREME_POINT: 1, INNER_POINT: 0}


def test_extreme_points_keep_their_order_and_each_its_clicks(library, supports):
    queries = [query for query in queries_of(library, inner=False) if query.name == "liver"]
    for number, query in enumerate(queries):
        side, axis = number % 2, number // 2
        for click, box, one_map in zip(query.clicks, (FIRST, SECOND), supports, strict=True):
            assert click.position[axis] == (box.maximum if side else box.minimum)[axis]
            np.testing.assert_allclose(click.embedding, one_map.embedding_at(np.array([click.position]))[0])
        assert query.in_box is None


def test_positions_inside_are_looked_up_where_each_support_has_them(library, supports):
    queries = [query for query in queries_of(library, inner=True) if query.kind == INNER_POINT]
    assert [query.name for query in queries] == ["liver"] * 9 + ["heart"] * 9
    np.testing.assert_array_equal([query.in_box for query in queries[:9]], INNER_POINTS)
    for query in queries[:9]:
        for click, box, one_map in zip(query.clicks, (FIRST, SECOND), supports, strict=True):
            position = np.array(box.center) + query.in_box * np.array(box.size) / 2
            np.testing.assert_allclose(click.position, position)
            np.testing.assert_allclose(click.embedding, one_map.embedding_at(position[None])[0], atol=0.01)
    assert [click.support for click in queries[-1].clicks] == [1]


def test_a_support_is_numbered_as_in_its_library_also_where_shots_are_in_another_order(library):
    landmark = dataclasses.replace(library.landmarks[0], shots=library.landmarks[0].shots[::-1])
    turned = dataclasses.replace(library, landmarks=(landmark,), organs=())
    assert [click.support for click in queries_of(turned, False)[0].clicks] == [1, 0]


# Shots


def query(name: str, *clicks: Click) -> Query:
    return Query(name, LANDMARK, clicks, 3)


def test_shots_stand_in_a_row_query_by_query():
    clicks = [Click(support, (support, 0, 0), (0, 0, support)) for support in (2, 0, 1, 5)]
    shots = Shots.of([query("a", clicks[0]), query("b", *clicks[1:3]), query("c", clicks[3])])
    np.testing.assert_array_equal(shots.query, [0, 1, 1, 2])
    np.testing.assert_array_equal(shots.support, [2, 0, 1, 5])
    np.testing.assert_array_equal(shots.click[:, 0], [2, 0, 1, 5])
    np.testing.assert_array_equal(shots.embedding[:, 2], [2, 0, 1, 5])
    assert shots.queries == 3
    assert [list(shots.rows_of(number)) for number in range(3)] == [[0], [1, 2], [3]]


def test_shots_in_any_order_belong_to_their_query():
    shots = Shots(np.array([1, 0, 2, 0, 2, 2]), np.zeros(6, int), np.zeros((6, 3)), np.zeros((6, 3)))
    assert [list(shots.rows_of(number)) for number in range(3)] == [[1, 3], [0], [2, 4, 5]]
    np.testing.assert_array_equal(shots.starts, [0, 2, 3])
    assert shots.queries == 3
