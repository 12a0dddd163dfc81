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


def test_a_locked_grid_reads_a_cropped_copy_at_the_same_places():
    """Sides cropped by odd amounts, as other scans of the same patient are: the voxels in common are the same."""
    scan = body_phantom((96, 70, 60), (4, 4, 4))
    start = np.array([13, 7, 0])
    affine = scan.ijk_to_ras.copy()
    affine[:3, 3] = apply_affine(affine, start[None])[0]
    cropped = Scan(scan.voxels[start[0] : 90, start[1] : 65], affine, "cropped")
    whole, part = prepare(scan, LOCKED, (8.0, 8.0, 12.0)), prepare(cropped, LOCKED, (8.0, 8.0, 12.0))
    offset = apply_affine(np.linalg.inv(whole.grid_to_ras), part.grid_to_ras[:3, 3][None])[0]
    assert np.allclose(offset, np.round(offset), atol=1e-6), "the two grids share one lattice"
    inner = np.argwhere(part.body_mask)
    inner = inner[((inner > 1) & (inner < np.array(part.body_mask.shape) - 2)).all(axis=1)]
    there = inner + np.round(offset).astype(int)
    known = ((there >= 0) & (there < whole.image.shape)).all(axis=1)
    same = np.abs(part.image[tuple(inner[known].T)] - whole.image[tuple(there[known].T)]) < 1e-4
    assert same.mean() > 0.9
    plain = [prepare(copy, PreparationConfig.plain(), (8.0, 8.0, 12.0)).grid_to_ras for copy in (scan, cropped)]
    shift = apply_affine(np.linalg.inv(plain[0]), plain[1][:3, 3][None])[0]
    assert np.abs(shift - np.round(shift)).max() > 0.05, "without the lattice they do not"


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
