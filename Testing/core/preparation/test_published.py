"""Preparation equals the published pipeline, as made with scipy and scikit-image."""

import itertools

import numpy as np
import pytest

from APELocalizerLib.core.base.geometry import apply_affine, spacing_of
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.orientation import to_canonical
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import bounding_box
from made_up.paths import SAMPLES
from made_up.scans import body_phantom

CTS = sorted(SAMPLES.glob("*_ct.nii.gz"))


STANDARD = (2.0, 2.0, 3.0)


def published_reference(scan: Scan):
    """(image, body mask) as the published network's training data were made, with scipy and scikit-image."""
    ndimage = pytest.importorskip("scipy.ndimage")
    pytest.importorskip("skimage")
    from skimage.exposure import equalize_adapthist
    from skimage.measure import block_reduce
    from skimage.segmentation import flood

    image, grid = to_canonical(scan)
    spacing = spacing_of(grid)
    block = tuple(np.ceil(5 / spacing).astype(int))
    box = bounding_box(block_reduce(image >= -500, block, np.min))
    image = image[tuple(slice(s.start * b, s.stop * b) for s, b in zip(box, block, strict=True))].astype(np.float32)
    image = ndimage.zoom(image, spacing / (1.0, 1.0, 1.5), order=1, mode="constant", cval=image.min())
    image = image[bounding_box(image > image.min())]
    air = np.pad(image < -500, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    mask = ~flood(air, (0, 0, 0))[1:-1, 1:-1]
    image = np.clip((image + np.float32(1000)) / np.float32(1300), 0, 1)
    return equalize_adapthist(image, clip_limit=0.05), mask


CASES = {
    "thick slices": lambda: body_phantom((60, 42, 15), (6.1, 5.3, 8.0)),
    "coarse": lambda: body_phantom((40, 44, 30), (4.9, 4.9, 4.0), noise=30),
    "padding": lambda: padded(body_phantom((60, 42, 20), (6.0, 5.5, 5.0))),
    "short": lambda: body_phantom((50, 40, 8), (8.0, 8.0, 5.0)),
} | {path.name: lambda path=path: cropped(read_scan(path)) for path in CTS[:1]}


def padded(scan: Scan) -> Scan:
    voxels = scan.voxels.copy()
    voxels[:, :, :3] = -2048
    return Scan(voxels, scan.ijk_to_ras)


def cropped(scan: Scan) -> Scan:
    """At most 40 slices from the middle, to keep the reference fast."""
    start = max(0, (scan.voxels.shape[2] - 40) // 2)
    affine = scan.ijk_to_ras.copy()
    affine[:3, 3] += affine[:3, 2] * start
    return Scan(scan.voxels[:, :, start : start + 40], affine)


LOCKED = PreparationConfig.on_fixed_lattice()


@pytest.mark.parametrize("case", CASES)
def test_published_preparation_equals_scipy_and_scikit_image(case):
    scan = CASES[case]()
    expected, expected_mask = published_reference(scan)
    prepared = prepare(scan, PreparationConfig.published(), (1.0, 1.0, 1.5))
    assert prepared.image.shape == expected.shape and prepared.image.dtype == np.float32
    assert np.abs(prepared.image - expected).max() <= 2e-3
    assert np.array_equal(prepared.body_mask, expected_mask)


def test_published_preparation_at_another_spacing_is_a_second_corner_aligned_zoom():
    ndimage = pytest.importorskip("scipy.ndimage")
    scan = body_phantom((60, 42, 30), (6.0, 6.0, 5.0))
    base = prepare(scan, PreparationConfig.published(), (1.0, 1.0, 1.5))
    coarse = prepare(scan, PreparationConfig.published(), STANDARD)
    expected = ndimage.zoom(base.image, (1 / 2, 1 / 2, 1 / 2), order=1, mode="nearest")
    assert coarse.image.shape == expected.shape
    assert np.abs(coarse.image - expected).max() < 1e-5
    for corner in itertools.product((0, 1), repeat=3):
        ends = [apply_affine(p.grid_to_ras, np.array(corner) * (np.array(p.image.shape) - 1)) for p in (base, coarse)]
        assert np.allclose(*ends, atol=1e-6)
    to_base = np.linalg.inv(base.grid_to_ras) @ coarse.grid_to_ras
    nearest = np.round(apply_affine(to_base, [[20, 30, 10]])[0]).astype(int)
    assert coarse.body_mask[20, 30, 10] == base.body_mask[tuple(nearest)]
