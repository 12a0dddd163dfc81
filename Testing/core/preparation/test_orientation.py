"""Any stored orientation becomes the same posterior-left-inferior grid, with every position kept."""

import itertools

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.preparation.orientation import canonical_view, to_canonical
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.scans import body_phantom, phantom_hu, reoriented

ALL_48 = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))


def rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = [n for n in range(3) if n != axis]
    matrix[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
    return matrix


def test_left_anterior_superior_lands_at_first_row_last_column_first_slice():
    scan = body_phantom(shape=(40, 30, 20), spacing=(10, 10, 10))
    voxels = scan.voxels.copy()
    voxels[0, -1, -1] = 2000
    for order, flips in ALL_48:
        canonical, _ = to_canonical(reoriented(Scan(voxels, scan.ijk_to_ras), order, flips))
        assert canonical.shape == (30, 40, 20)
        assert np.argwhere(canonical == 2000).tolist() == [[0, 39, 0]]


def test_all_48_flips_and_permutations_give_the_same_array_and_grid():
    scan = body_phantom(shape=(20, 16, 12), spacing=(16, 14, 20))
    expected, expected_grid = to_canonical(scan)
    assert len({(order, flips) for order, flips in ALL_48}) == 48
    for order, flips in ALL_48:
        canonical, grid = to_canonical(reoriented(scan, order, flips))
        assert np.array_equal(canonical, expected) and np.allclose(grid, expected_grid, atol=1e-9)
        assert canonical.flags.c_contiguous


def test_grid_directions_are_posterior_left_inferior():
    _, grid = to_canonical(body_phantom(shape=(20, 16, 12), spacing=(16, 14, 20)))
    assert np.allclose(grid[:3, :3], [[0, -16, 0], [-14, 0, 0], [0, 0, -20]])


def test_flips_do_not_copy_the_voxels():
    scan = body_phantom(shape=(20, 16, 12), spacing=(16, 14, 20))
    assert np.shares_memory(canonical_view(scan)[0], scan.voxels)


def test_axes_within_half_a_degree_keep_their_true_directions():
    affine = grid_to_ras((20, 16, 12), (16, 14, 20), rotation=rotation(0, 0.4) @ rotation(2, -0.2))
    scan = body_phantom((20, 16, 12), ijk_to_ras=affine)
    canonical, grid = to_canonical(scan)
    ijk = np.array([[0, 0, 0], [19, 3, 7], [5, 15, 11]])
    pli = np.array([[15 - j, 19 - i, 11 - k] for i, j, k in ijk])
    assert np.allclose(apply_affine(grid, pli), apply_affine(affine, ijk), atol=1e-9)
    assert np.array_equal(canonical[tuple(pli.T)], scan.voxels[tuple(ijk.T)])


OBLIQUE = {
    "turned about S": rotation(2, 15),
    "turned about all axes": rotation(0, 12) @ rotation(1, -20) @ rotation(2, 33),
    "left-handed": rotation(1, 10) @ np.diag([-1.0, 1.0, 1.0]),
    "gantry tilt": np.array([[1.0, 0, 0], [0, 1, -0.3], [0, 0, 1]]),
    "gantry tilt, flipped": np.diag([-1.0, -1, 1]) @ np.array([[1.0, 0, 0], [0, 1, 0.35], [0, 0, 1]]),
}


@pytest.mark.parametrize("kind", OBLIQUE)
def test_oblique_and_sheared_grids_agree_in_world_coordinates(kind):
    """A ramp along each world axis, sampled on the tilted grid, is the same ramp on the canonical grid."""
    shape, gradient = (30, 26, 24), np.array([1.5, -2.0, 2.5])
    affine = grid_to_ras(shape, (6, 7, 8), (20, -30, 40), OBLIQUE[kind])
    points = apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    values = -200 + (points - [20, -30, 40]) @ gradient
    canonical, grid = to_canonical(Scan(values.reshape(shape).astype(np.float32), affine))
    assert np.allclose(grid[:3, :3] / np.linalg.norm(grid[:3, :3], axis=0), [[0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    index = np.indices(canonical.shape).reshape(3, -1).T
    world = apply_affine(grid, index)
    source = apply_affine(np.linalg.inv(affine), world)
    inside = np.all((source > 0.01) & (source < np.array(shape) - 1.01), axis=1)
    assert inside.sum() > 0.2 * len(inside)
    error_hu = np.abs(canonical.ravel() - (-200 + (world - [20, -30, 40]) @ gradient))[inside]
    assert error_hu.max() / 1.5 < 0.01
    outside = np.any((source < -0.51) | (source > np.array(shape) - 0.49), axis=1)
    assert np.all(canonical.ravel()[outside] == -1024)


@pytest.mark.parametrize("kind", OBLIQUE)
def test_the_resampled_grid_covers_every_voxel_at_about_the_same_spacing(kind):
    affine = grid_to_ras((30, 26, 24), (6, 7, 8), rotation=OBLIQUE[kind])
    canonical, grid = to_canonical(body_phantom((30, 26, 24), ijk_to_ras=affine))
    corners = np.array(list(itertools.product((0, 29), (0, 25), (0, 23))))
    index = apply_affine(np.linalg.inv(grid), apply_affine(affine, corners))
    assert index.min() > -1 and np.all(index < np.array(canonical.shape))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    assert np.allclose(np.sort(np.linalg.norm(grid[:3, :3], axis=0)), np.sort(spacing))


def test_a_tilted_scan_shows_the_anatomy_in_its_place():
    affine = grid_to_ras((90, 64, 40), (4, 4, 6), rotation=OBLIQUE["gantry tilt"])
    canonical, grid = to_canonical(body_phantom((90, 64, 40), ijk_to_ras=affine, noise=0))
    index = np.round(apply_affine(np.linalg.inv(grid), [[70, 10, -45], [-35, 30, 25], [0, -70, 20]])).astype(int)
    assert np.allclose(canonical[tuple(index.T)], phantom_hu([[70, 10, -45], [-35, 30, 25], [0, -70, 20]]), atol=1)
