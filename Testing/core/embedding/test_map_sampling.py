"""The map on a scan's own grid."""

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import Cancelled
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding import map_sampling
from APELocalizerLib.core.embedding.map_sampling import sample_on_grid
from made_up.grids import rotation
from made_up.maps import smooth_map

SHAPE = (30, 26, 20)


def scan_grid(spacing=(7.0, 7.0, 15.0), turn=None) -> np.ndarray:
    """A scan grid of SHAPE around the origin whose axes run along L, A, S."""
    affine = np.diag([-spacing[0], spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine if turn is None else turn @ affine


@pytest.mark.parametrize("turn", [None, rotation(1, 12) @ rotation(2, 20)], ids=["straight", "oblique"])
def test_every_voxel_reads_what_the_map_says_there(support_map, turn):
    affine = scan_grid(turn=turn)
    volume = sample_on_grid(support_map, SHAPE, affine)
    assert volume.shape == (*SHAPE, 3) and volume.dtype == np.float32
    indices = np.argwhere(np.isfinite(volume[..., 0]))
    assert len(indices) > 1000
    expected = support_map.embedding_at(apply_affine(affine, indices))
    assert np.abs(volume[tuple(indices.T)] - expected).max() < 0.01


def test_air_is_not_a_number_and_the_body_is_whole(support_map):
    volume = sample_on_grid(support_map, SHAPE, scan_grid())
    indices = np.indices(SHAPE).reshape(3, -1).T
    painted = np.isfinite(volume).all(axis=-1).ravel()
    cells = np.round(support_map.to_index(apply_affine(scan_grid(), indices))).astype(int)
    on_map = np.all((cells >= 0) & (cells < support_map.body.shape), axis=1)
    in_body = on_map & support_map.body[tuple(np.clip(cells, 0, np.array(support_map.body.shape) - 1).T)]
    assert np.mean(painted[in_body]) > 0.95
    assert np.mean(painted[on_map & ~in_body]) < 0.1
    assert np.isnan(volume).all(axis=-1).sum() == np.isnan(volume).any(axis=-1).sum()


def test_the_body_does_not_smear_beyond_the_map():
    """A prepared scan is cropped to the body, so body cells touch the map's faces; the scan goes on, in air."""
    cropped = smooth_map(shape=(10, 12, 14), body=lambda p: np.ones(len(p), bool))
    affine = scan_grid((15.0, 15.0, 25.0))
    volume = sample_on_grid(cropped, SHAPE, affine)
    painted = apply_affine(affine, np.argwhere(np.isfinite(volume[..., 0])))
    assert len(painted) > 100
    cell = np.array([8.0, 8.0, 12.0])
    assert np.all(np.abs(painted) <= cropped.field_of_view.size / 2 + cell / 2)


def test_slabs_do_not_change_the_result(support_map, monkeypatch):
    whole = sample_on_grid(support_map, SHAPE, scan_grid())
    monkeypatch.setattr(map_sampling, "POINTS_PER_SLAB", 7 * SHAPE[1] * SHAPE[2])
    np.testing.assert_array_equal(sample_on_grid(support_map, SHAPE, scan_grid()), whole)


def test_progress_and_cancel(support_map, monkeypatch):
    monkeypatch.setattr(map_sampling, "POINTS_PER_SLAB", SHAPE[1] * SHAPE[2])
    fractions = []
    sample_on_grid(support_map, SHAPE, scan_grid(), lambda fraction, text: fractions.append(fraction))
    assert fractions == sorted(fractions) and len(fractions) == SHAPE[0] and fractions[-1] == 1.0
    seen = []
    with pytest.raises(Cancelled):
        sample_on_grid(
            support_map, SHAPE, scan_grid(), lambda fraction, text: seen.append(fraction), lambda: len(seen) >= 3
        )
    assert len(seen) == 3
