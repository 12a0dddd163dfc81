"""The fast search answers as the plain one, on easy maps and on awkward ones."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled, MapError
from APELocalizerLib.core.embedding import embedding_map as embedding_map_file
from APELocalizerLib.core.embedding.embedding_map import nearest_on_each
from APELocalizerLib.core.embedding.passes import mean_of_passes
from made_up.grids import rotation
from made_up.maps import Patient, smooth_map
from made_up.plain_search import PlainSearch


def everywhere(positions):
    return np.ones(len(positions), bool)


def folded():
    """Left is folded onto right: every query has two answers."""
    plain = smooth_map(body=everywhere)
    return dataclasses.replace(plain, values=np.abs(plain.values) * [1, 0, 0] + plain.values * [0, 1, 1])


def with_a_constant_channel():
    plain = smooth_map(shape=(9, 10, 11))
    return dataclasses.replace(plain, values=plain.values * np.float32([1, 1, 0]))


def of_two_patients():
    """The upper half is another patient: the map jumps."""
    first, second = smooth_map(), smooth_map(Patient((1.3, 0.8, 1.0), (25, -30, 10)))
    values = first.values.copy()
    values[:, :, :12] = second.values[:, :, :12]
    return dataclasses.replace(first, values=values, body=first.body & second.body)


MAPS = {
    "smooth": lambda: smooth_map(),
    "oblique": lambda: smooth_map(turn=rotation(2, 15) @ rotation(0, 7)),
    "rough": lambda: smooth_map(noise_mm=2.0),
    "very rough": lambda: smooth_map(noise_mm=15.0),
    "folded": folded,
    "jumping": of_two_patients,
    "flat": with_a_constant_channel,
    "one slice": lambda: smooth_map(shape=(12, 14, 1), body=everywhere),
    "one row": lambda: smooth_map(shape=(1, 14, 1), body=everywhere),
    "two cells thick": lambda: smooth_map(shape=(2, 15, 2), body=everywhere),
    "six cells": lambda: smooth_map(shape=(1, 2, 3), body=everywhere),
    "one cell": lambda: smooth_map(shape=(3, 3, 3), body=lambda p: np.linalg.norm(p, axis=1) < 1),
    "scattered": lambda: smooth_map(body=lambda p: np.random.default_rng(3).random(len(p)) < 0.2),
    "no air": lambda: smooth_map(body=everywhere),
    "fused": lambda: mean_of_passes(
        [smooth_map(shape=(10, 11, 12), cell_mm=(16.0, 16.0, 24.0)), smooth_map(noise_mm=1.0)]
    ),
}


def queries_for(embedding_map, seed=0):
    """Embeddings that the map holds, of its rim, near what it holds, and of places that it does not show."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(embedding_map.body)
    inside = embedding_map.to_ras(cells[rng.integers(0, len(cells), 16)] + rng.uniform(-0.5, 0.5, (16, 3)))
    held = embedding_map.embedding_at(inside)
    exact = embedding_map.values[tuple(cells[rng.integers(0, len(cells), 6)].T)]
    return np.concatenate([held, exact, held[:8] + rng.normal(0, 5, (8, 3)), rng.uniform(-300, 300, (8, 3))])


@pytest.mark.parametrize("name", MAPS)
def test_the_answer_is_one_that_the_plain_search_finds_and_none_is_nearer(name):
    """Where the map holds the query and tells neighboring places apart, the places agree too.

    Elsewhere equally near places lie along a valley: for queries beyond the body, and across a map of one cell.
    """
    embedding_map = MAPS[name]()
    plain, queries = PlainSearch(embedding_map), queries_for(embedding_map)
    answer = embedding_map.nearest(queries)
    compared = 0
    for query, point, distance in zip(queries, answer.points_ras, answer.distances, strict=True):
        points, distances = plain.answers(query)
        assert distance <= distances.min() * (1 + 1e-5) + 0.002
        if distances.min() < 0.002 and plain.distinguishes(points[distances.argmin()]):
            compared += 1
            assert np.linalg.norm(points[distances < 0.002] - point, axis=1).min() <= 0.1
    assert compared >= 12 or min(embedding_map.body.shape) == 1 or embedding_map.body.sum() == 1 or name == "flat"


@pytest.mark.parametrize("name", ["smooth", "rough", "very rough", "folded", "jumping"])
def test_no_place_near_the_nearest_cells_is_nearer_than_the_answer(name):
    """Against the map read at ten steps per cell, around the nearest cell."""
    embedding_map = MAPS[name]()
    queries = queries_for(embedding_map, seed=1)[:24]
    answer = embedding_map.nearest(queries)
    fine = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    for query, distance in zip(queries, answer.distances, strict=True):
        cell = np.unravel_index(np.argmin(embedding_map.distance_volume(query)), embedding_map.body.shape)
        places = np.clip(np.array(cell) + fine, -0.5, np.array(embedding_map.body.shape) - 0.5)
        sampled = np.linalg.norm(embedding_map.embedding_at(embedding_map.to_ras(places)) - query, axis=1)
        assert distance <= sampled.min() + 0.01


def test_of_two_equal_places_one_is_named_and_always_the_same():
    embedding_map = folded()
    query = np.array([[40.0, 3.0, -20.0]])
    first = embedding_map.nearest(query)
    assert first.distances[0] < 0.002
    again = embedding_map.nearest(np.repeat(query, 300, axis=0))
    np.testing.assert_array_equal(again.points_ras[299], first.points_ras[0])


def test_searches_on_several_maps_together_answer_as_each_alone(monkeypatch):
    monkeypatch.setattr(embedding_map_file, "QUERIES_PER_CHUNK", 17)
    maps = [MAPS[name]() for name in ("smooth", "one slice", "rough", "six cells")]
    searches = [(each, queries_for(each, seed)[seed : 36 - seed]) for seed, each in enumerate(maps)]
    searches.insert(2, (maps[0], np.empty((0, 3))))
    for (each, queries), together in zip(searches, nearest_on_each(searches), strict=True):
        alone = each.nearest(queries)
        assert together.points_ras.shape == queries.shape
        np.testing.assert_allclose(together.points_ras, alone.points_ras, atol=0.01)
        np.testing.assert_allclose(together.distances, alone.distances, atol=0.002)


def test_nothing_to_look_up_has_no_answers(support_map):
    assert nearest_on_each([]) == []
    assert support_map.nearest(np.empty((0, 3))).points_ras.shape == (0, 3)


def test_searches_can_be_cancelled(support_map, monkeypatch):
    monkeypatch.setattr(embedding_map_file, "QUERIES_PER_CHUNK", 10)
    asked = []
    with pytest.raises(Cancelled):
        nearest_on_each([(support_map, np.zeros((100, 3)))], lambda: asked.append(0) or len(asked) > 3)
    assert len(asked) == 4


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e300])
def test_queries_that_are_no_sensible_numbers_are_refused(support_map, odd):
    with pytest.raises(MapError, match="not a sensible number"):
        support_map.nearest([[0.0, odd, 0.0]])


def test_queries_far_beyond_any_body_have_an_answer_on_the_map(support_map):
    answer = support_map.nearest([[1e7, 0, 0], [0, -1e7, 1e7]])
    assert support_map.is_body(answer.points_ras + [[-6, 0, 0], [0, 6, -6]]).all()
    np.testing.assert_allclose(answer.distances, [1e7, np.sqrt(2) * 1e7], rtol=1e-4)
