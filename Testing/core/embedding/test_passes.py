"""The mean of several passes."""

import copy
import dataclasses
import pickle

import numpy as np

from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_files import from_compact, to_compact
from APELocalizerLib.core.embedding.passes import mean_of_passes
from made_up.maps import smooth_map


def two_passes():
    coarse = dataclasses.replace(smooth_map(shape=(10, 11, 12), cell_mm=(16.0, 16.0, 24.0)), notes=("coarse", "both"))
    return coarse, dataclasses.replace(smooth_map(noise_mm=3.0), notes=("both", "fine"))


def test_the_mean_is_taken_at_the_cells_of_the_finest():
    coarse, fine = two_passes()
    mean_map = mean_of_passes([coarse, fine])
    assert isinstance(mean_map, EmbeddingMap) and mean_map.passes == (coarse, fine)
    assert mean_map.values.dtype == np.float32
    np.testing.assert_array_equal(mean_map.body, fine.body)
    np.testing.assert_array_equal(mean_map.grid_to_ras, fine.grid_to_ras)
    cells = np.argwhere(fine.body)
    expected = (coarse.embedding_at(fine.to_ras(cells)) + fine.values[fine.body]) / 2
    np.testing.assert_allclose(mean_map.values[mean_map.body], expected, atol=1e-3)
    assert np.all(mean_map.values[~mean_map.body] == 0)
    assert mean_map.notes == ("coarse", "both", "fine")


def test_one_pass_is_its_own_mean():
    fine = two_passes()[1]
    assert mean_of_passes([fine]) is fine


def test_the_mean_is_not_taken_before_it_is_asked_for():
    """Checks against a library of many supports look at their passes alone."""
    mean_map = from_compact(to_compact(mean_of_passes(list(two_passes()))))
    mean_map.is_body(np.zeros((1, 3)))
    mean_map.passes[0].nearest(np.zeros((1, 3)))
    mean_map.with_coarse_ct(None)
    assert "values" not in vars(mean_map)
    assert np.isfinite(mean_map.embedding_at(np.zeros((1, 3)))).all()


def test_a_mean_that_was_not_asked_for_yet_can_be_changed_copied_and_stored():
    point = np.array([[10.0, -20.0, 30.0]])
    expected = mean_of_passes(list(two_passes())).embedding_at(point)
    renamed = dataclasses.replace(mean_of_passes(list(two_passes())), scan_name="renamed")
    assert renamed.scan_name == "renamed"
    shifted = dataclasses.replace(mean_of_passes(list(two_passes())), values=renamed.values + 1)
    for other, shift in (
        (renamed, 0),
        (shifted, 1),
        (copy.copy(mean_of_passes(list(two_passes()))), 0),
        (pickle.loads(pickle.dumps(mean_of_passes(list(two_passes())))), 0),
    ):
        np.testing.assert_allclose(other.embedding_at(point), expected + shift, atol=1e-3)
