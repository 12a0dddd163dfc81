"""Preparation on a fixed lattice: scans of one patient are read at the same places."""

import numpy as np
import pytest

from APELocalizerLib.core.base.errors import PreparationError
from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.scan import Scan
from made_up.scans import body_phantom, phantom_hu, phantom_landmarks

LOCKED = PreparationConfig.on_fixed_lattice()


@pytest.mark.parametrize("shift", [(0.0, 0.0, 3.0), (17.3, -250.9, 1234.5), (-0.4, 11.1, -6.6)])
def test_the_same_voxels_are_read_at_the_same_places_wherever_the_origin_lies(shift):
    scan = body_phantom((96, 70, 60), (4, 4, 4))
    affine = scan.ijk_to_ras.copy()
    affine[:3, 3] += shift
    here, there = (prepare(copy, LOCKED, (8.0, 8.0, 12.0)) for copy in (scan, Scan(scan.voxels, affine, "moved")))
    assert np.array_equal(here.image, there.image) and np.array_equal(here.body_mask, there.body_mask)
    moved = here.grid_to_ras.copy()
    moved[:3, 3] += shift
    assert np.allclose(there.grid_to_ras, moved, atol=1e-9)


def test_a_copy_of_coarser_voxels_is_read_at_the_same_anatomy():
    """Voxels merged two by two by two, whose borders fall elsewhere: within half a millimeter of the same lattice."""
    fine = body_phantom((160, 112, 96), (2.5, 2.5, 2.5))
    merged = fine.voxels.reshape(80, 2, 56, 2, 48, 2).mean(axis=(1, 3, 5)).astype(np.float32)
    affine = fine.ijk_to_ras @ np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = apply_affine(fine.ijk_to_ras, np.full((1, 3), 0.5))[0]
    first, second = (prepare(scan, LOCKED, (8.0, 8.0, 12.0)).grid_to_ras for scan in (fine, Scan(merged, affine)))
    cells = apply_affine(np.linalg.inv(first), second[:3, 3][None])[0]
    assert np.abs((cells - np.round(cells)) * (8.0, 8.0, 12.0)).max() < 0.5, cells


def test_a_locked_grid_holds_no_body_beyond_the_scan_and_shows_the_same_anatomy():
    scan = body_phantom((80, 56, 48), (5, 5, 5), noise=0)
    prepared = prepare(scan, LOCKED, (3.0, 3.0, 4.5))
    cells = np.argwhere(prepared.body_mask)
    assert scan.bounds().contains(apply_affine(prepared.grid_to_ras, cells), margin=0.1).all()
    points = np.array([p for name, p in phantom_landmarks().items() if name not in ("carina", "right dome")])
    index = np.round(apply_affine(np.linalg.inv(prepared.grid_to_ras), points)).astype(int)
    assert np.allclose(prepared.image[tuple(index.T)], np.clip((phantom_hu(points) + 1000) / 1300, 0, 1), atol=0.02)


def test_thick_slices_are_not_trimmed_away():
    thick = body_phantom((80, 56, 9), (5, 5, 25), noise=0)
    prepared = prepare(thick, LOCKED, (4.0, 4.0, 6.0))
    heights = apply_affine(prepared.grid_to_ras, np.argwhere(prepared.body_mask))[:, 2]
    assert heights.min() < thick.bounds().minimum[2] + 15 and heights.max() > thick.bounds().maximum[2] - 15


def test_a_lattice_that_is_no_three_numbers_is_refused():
    with pytest.raises(PreparationError, match="three whole numbers"):
        PreparationConfig.from_dict({**PreparationConfig.on_fixed_lattice().to_dict(), "lattice": 8})
