"""Reading a map and searching in it."""

import dataclasses

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import Box
from made_up.grids import rotation
from made_up.maps import CLICKS, Patient, smooth_map


def places_in_the_body(embedding_map, count, seed=0, margin=1.0):
    """Random RAS places (count, 3) whose eight neighboring cells are all body."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        index = rng.uniform(margin, np.array(embedding_map.body.shape) - 1 - margin)
        corner = np.floor(index).astype(int)
        if embedding_map.body[tuple(slice(c, c + 2) for c in corner)].all():
            found.append(embedding_map.to_ras(index)[0])
    return np.array(found)


def test_every_click_comes_back_on_its_own_map_within_a_tenth_of_a_millimeter(support_map):
    clicks = places_in_the_body(support_map, 200)
    answer = support_map.nearest(support_map.embedding_at(clicks))
    assert np.linalg.norm(answer.points_ras - clicks, axis=1).max() <= 0.1
    assert answer.distances.max() <= 0.05


def test_clicks_come_back_on_an_oblique_map_too():
    turned = smooth_map(turn=rotation(2, 15) @ rotation(0, 7), body=lambda p: np.ones(len(p), bool))
    clicks = places_in_the_body(turned, 50)
    answer = turned.nearest(turned.embedding_at(clicks))
    assert np.linalg.norm(answer.points_ras - clicks, axis=1).max() <= 0.1


def test_clicks_come_back_where_the_map_is_rough():
    """Between the cells of a noisy map the way to the answer bends; one straight step is not enough."""
    rough = smooth_map(noise_mm=1.2)
    clicks = places_in_the_body(rough, 100, seed=7)
    answer = rough.nearest(rough.embedding_at(clicks))
    assert np.linalg.norm(answer.points_ras - clicks, axis=1).max() <= 0.1


def test_clicks_on_the_skin_and_on_the_last_slice_come_back(support_map):
    """Beside air and at the scan's end there is no neighbor on one side."""
    cells = np.argwhere(support_map.body)
    on_the_rim = [c for c in cells if c[2] == 0][:20] + [c for c in cells if c[2] == support_map.body.shape[2] - 1][:20]
    toward_the_end = np.where(np.array(on_the_rim)[:, 2:] == 0, -0.3, 0.3) * [0, 0, 1]
    clicks = support_map.to_ras(np.array(on_the_rim) + toward_the_end)
    answer = support_map.nearest(support_map.embedding_at(clicks))
    assert np.linalg.norm(answer.points_ras - clicks, axis=1).max() <= 0.1


def test_the_refined_answer_is_never_worse_than_the_nearest_cell(support_map):
    noisy = smooth_map(noise_mm=8.0)
    queries = Patient((1.1, 0.9, 1.05)).embedding(places_in_the_body(noisy, 60))
    nearest_cells = np.array([noisy.distance_volume(query).min() for query in queries])
    assert np.all(noisy.nearest(queries).distances <= nearest_cells + 1e-3)


def test_answers_lie_in_the_body_or_at_most_one_cell_beside_it(support_map):
    queries = np.random.default_rng(1).uniform(-300, 300, (100, 3))
    answers = support_map.to_index(support_map.nearest(queries).points_ras)
    cells = np.argwhere(support_map.body)
    steps_away = [np.abs(cells - answer).max(axis=1).min() for answer in answers]
    assert max(steps_away) <= 1.0 + 1e-6


def test_a_landmark_is_found_on_another_patient():
    patient = Patient((1.1, 0.95, 1.05), (12.0, -8.0, 20.0))
    other = smooth_map(patient, shape=(26, 28, 30))
    places = np.array(list(CLICKS.values()))
    answer = other.nearest(Patient().embedding(places))
    assert np.linalg.norm(answer.points_ras - patient.place(places), axis=1).max() < 0.5


def test_many_queries_give_the_same_answers_as_each_alone(support_map):
    queries = support_map.embedding_at(places_in_the_body(support_map, 300, seed=3)) + 2.0
    together = support_map.nearest(queries)
    for row in (0, 255, 256, 299):
        np.testing.assert_allclose(together.points_ras[row], support_map.nearest(queries[row]).points_ras[0], atol=1e-6)


def test_a_map_with_a_single_body_cell_answers():
    lonely = smooth_map(shape=(3, 3, 3), body=lambda p: np.linalg.norm(p, axis=1) < 1)
    assert lonely.body.sum() == 1
    assert np.isfinite(lonely.nearest(np.zeros((1, 3))).points_ras).all()


def test_embedding_between_cells_is_trilinear(support_map):
    index = np.array([[9.25, 10.5, 11.75]])
    expected = np.zeros(3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(corner, [0.25, 0.5, 0.75], [0.75, 0.5, 0.25]))
        expected += weight * support_map.values[tuple(np.array([9, 10, 11]) + corner)]
    np.testing.assert_allclose(support_map.embedding_at(support_map.to_ras(index))[0], expected, atol=1e-4)


def test_air_does_not_leak_into_a_reading_at_the_skin(support_map):
    """Air cells hold -900 in this map; a place half a cell outside the skin must still read like the skin."""
    row = support_map.body[:, 11, 12]
    first = int(np.argmax(row))
    skin, outside = support_map.embedding_at(support_map.to_ras([[first, 11, 12], [first - 0.5, 11, 12]]))
    assert np.linalg.norm(skin - outside) < 10


def test_top_k_answers_are_separated_and_sorted(support_map):
    query = support_map.embedding_at(CLICKS["carina"][None])[0]
    answer = support_map.top_k(query, 5, min_separation_mm=30)
    assert len(answer.points_ras) == 5
    gaps = [np.linalg.norm(p - q) for i, p in enumerate(answer.points_ras) for q in answer.points_ras[:i]]
    assert min(gaps) >= 30
    assert np.all(np.diff(answer.distances) >= 0)
    assert np.linalg.norm(answer.points_ras[0] - CLICKS["carina"]) <= 0.1


def test_top_k_finds_both_of_two_equal_places():
    """A map that folds left onto right: a query has one answer on each side."""
    plain = smooth_map(body=lambda p: np.ones(len(p), bool))
    values = plain.values.copy()
    values[..., 0] = np.abs(values[..., 0])
    folded = dataclasses.replace(plain, values=values)
    query = np.array([40.0, 0.0, 0.0])
    answer = folded.top_k(query, 2, min_separation_mm=40)
    assert np.linalg.norm(folded.embedding_at(answer.points_ras) - query, axis=1).max() < 0.5
    assert answer.points_ras[0, 0] * answer.points_ras[1, 0] < 0


def test_top_k_may_return_fewer_than_asked(support_map):
    assert len(support_map.top_k(np.zeros(3), 50, min_separation_mm=150).points_ras) < 50


def test_similarity_is_one_at_the_query_and_zero_in_air(support_map):
    cell = (10, 11, 12)
    similarity = support_map.similarity(support_map.values[cell])
    assert similarity[cell] == pytest.approx(1.0, abs=1e-6)
    assert similarity[support_map.body].min() < 0.5 < similarity.max() <= 1.0
    assert np.all(similarity[~support_map.body] == 0)
    assert np.isinf(support_map.distance_volume(np.zeros(3))[~support_map.body]).all()


def test_is_body_ends_at_the_skin_and_at_the_map(support_map):
    assert support_map.is_body(np.zeros((1, 3)))[0]
    half = support_map.field_of_view.size / 2
    assert not support_map.is_body(np.array([[half[0] - 4, half[1] - 4, 0.0]]))[0]
    above = np.array([[0.0, 0.0, half[2] + 100]])
    assert not support_map.is_body(above)[0], "10 cm above the map there is nothing to click on"


def test_impossible_maps_are_refused(support_map):
    with pytest.raises(MapError, match="no body"):
        dataclasses.replace(support_map, body=np.zeros_like(support_map.body))
    with pytest.raises(MapError, match="not numbers"):
        values = support_map.values.copy()
        values[10, 11, 12] = np.nan
        dataclasses.replace(support_map, values=values)
    with pytest.raises(MapError, match="body mask"):
        dataclasses.replace(support_map, body=support_map.body[:-1])
    with pytest.raises(MapError, match="values"):
        dataclasses.replace(support_map, values=support_map.values[..., :0])


def test_maps_can_be_compared_and_put_into_sets(support_map):
    """Panels and caches compare what they hold with `==`; a map is equal to itself only."""
    other = smooth_map(name="other")
    assert support_map == support_map
    assert support_map != other
    assert len({support_map, other, support_map}) == 2


def test_box_is_exported_with_the_map(support_map):
    assert isinstance(support_map.field_of_view, Box)
    np.testing.assert_allclose(support_map.field_of_view.size, [22 * 8, 20 * 8, 24 * 12])
