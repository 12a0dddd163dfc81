"""The mean of several passes."""

import copy
import dataclasses
import pickle

import numpy as np

from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.map_files import from_compact, to_compact
from APELocalizerLib.core.embedding.passes import fuse
from made_up.maps import smooth_map


def two_passes():
    coarse = dataclasses.replace(smooth_map(shape=(10, 11, 12), cell_mm=(16.0, 16.0, 24.0)), notes=("coarse", "both"))
    return coarse, dataclasses.replace(smooth_map(noise_mm=3.0), notes=("both", "fine"))


def test_the_mean_is_taken_at_the_cells_of_the_finest():
    coarse, fine = two_passes()
    fused = fuse([coarse, fine])
    assert isinstance(fused, EmbeddingMap) and fused.passes == (coarse, fine)
    assert fused.values.dtype == np.float32
    np.testing.assert_array_equal(fused.body, fine.body)
    np.testing.assert_array_equal(fused.grid_to_ras, fine.grid_to_ras)
    cells = np.argwhere(fine.body)
    expected = (coarse.embedding_at(fine.to_ras(cells)) + fine.values[fine.body]) / 2
    np.testing.assert_allclose(fused.values[fused.body], expected, atol=1e-3)
    assert np.all(fused.values[~fused.body] == 0)
    assert fused.notes == ("coarse", "both", "fine")


def test_one_pass_is_its_own_mean():
    fine = two_passes()[1]
    assert fuse([fine]) is fine


def test_the_mean_is_not_taken_before_it_is_asked_for():
    """Checks against a library of many supports look at their passes alone."""
    fused = from_compact(to_compact(fuse(list(two_passes()))))
    fused.is_body(np.zeros((1, 3)))
    fused.passes[0].nearest(np.zeros((1, 3)))
    fused.with_coarse_ct(None)
    assert "values" not in vars(fused)
    assert np.isfinite(fused.embedding_at(np.zeros((1, 3)))).all()


def test_a_mean_that_was_not_asked_for_yet_can_be_changed_copied_and_stored():
    point = np.array([[10.0, -20.0, 30.0]])
    expected = fuse(list(two_passes())).embedding_at(point)
    renamed = dataclasses.replace(fuse(list(two_passes())), scan_name="renamed")
    assert renamed.scan_name == "renamed"
    shifted = dataclasses.replace(fuse(list(two_passes())), values=renamed.values + 1)
    for other, shift in (
        (renamed, 0),
        (shifted, 1),
        (copy.copy(fuse(list(two_passes()))), 0),
        (pickle.loads(pickle.dumps(fuse(list(two_passes())))), 0),
    ):
        np.testing.assert_allclose(other.embedding_at(point), expected + shift, atol=1e-3)
