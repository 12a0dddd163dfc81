"""Preparation with tensors on a device gives what preparation with arrays gives; here the device is the CPU."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import Cancelled, PreparationError
from APELocalizerLib.core.preparation import body, clahe
from APELocalizerLib.core.preparation import gpu_body as torch_body
from APELocalizerLib.core.preparation import gpu_clahe as torch_clahe
from APELocalizerLib.core.preparation import sampling as interpolation
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.core.preparation.gpu import zoom
from APELocalizerLib.core.preparation.prepare import prepare, prepare_all
from APELocalizerLib.core.scan.read import read_scan
from APELocalizerLib.core.scan.scan import Scan
from made_up.grids import grid_to_ras
from made_up.paths import SAMPLES
from made_up.scans import body_phantom, reoriented

SAMPLE = sorted(SAMPLES.glob("*_ct.nii.gz"))[0]
CONFIGS = {
    "published": PreparationConfig.published(),
    "plain": PreparationConfig.plain(),
    "locked": PreparationConfig.on_fixed_lattice(),
    "base grid without equalization": PreparationConfig((1.5, 1.5, 2.5), clahe_clip_limit=0.0),
    "antialiased and equalized": PreparationConfig((3.0, 3.0, 4.0), antialias=True),
}
SCANS = {
    "thick slices": lambda: body_phantom((60, 42, 15), (6.1, 5.3, 8.0)),
    "stored feet first, backward": lambda: reoriented(body_phantom((50, 40, 30), (7, 7, 9)), (2, 0, 1), (True,) * 3),
    "oblique, in float": lambda: body_phantom(
        (60, 50, 40),
        ijk_to_ras=grid_to_ras((60, 50, 40), (6, 6, 7), rotation=np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])),
    ),
}


def assert_same(made, expected):
    """Same grid, same mask, and the same image to the last bit."""
    assert isinstance(made.image, torch.Tensor) and made.image.dtype == torch.float32
    assert np.array_equal(made.grid_to_ras, expected.grid_to_ras)
    assert np.array_equal(made.body_mask.numpy(), expected.body_mask)
    assert np.array_equal(made.image.numpy(), expected.image)
    assert made.field_of_view == expected.field_of_view and made.scan_fingerprint == expected.scan_fingerprint


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("scan", SCANS)
def test_a_device_prepares_like_the_host(scan, config):
    scan, views = SCANS[scan](), [(CONFIGS[config], (4.0, 4.0, 6.0)), (CONFIGS[config], (3.0, 3.0, 4.0))]
    for mine, expected in zip(prepare_all(scan, views, device="cpu"), prepare_all(scan, views), strict=True):
        assert_same(mine, expected)


def test_a_real_scan_is_equalized_on_a_device_as_on_the_host():
    scan = read_scan(SAMPLE)
    voxels = scan.voxels[:, :, scan.voxels.shape[2] // 2 :][:, :, :25]
    scan = Scan(voxels, scan.ijk_to_ras)
    config = PreparationConfig.published()
    assert_same(prepare(scan, config, (2.0, 2.0, 3.0), device="cpu"), prepare(scan, config, (2.0, 2.0, 3.0)))


def test_several_views_at_once_are_the_single_ones():
    scan = body_phantom((60, 42, 40), (5, 5, 6))
    spacings = ((4.0, 4.0, 6.0), (2.5, 2.5, 3.75), (3.0, 3.0, 4.0))
    views = [*itertools.product(CONFIGS.values(), spacings), (CONFIGS["locked"], (8.0, 8.0, 12.0))]
    for made, view in zip(prepare_all(scan, views), views, strict=True):
        alone = prepare(scan, *view)
        assert np.array_equal(made.grid_to_ras, alone.grid_to_ras)
        assert np.array_equal(made.body_mask, alone.body_mask)
        np.testing.assert_allclose(made.image, alone.image, atol=1e-6)


def test_antialiased_preparation_equals_resampling_tap_by_tap(monkeypatch):
    scan = body_phantom((90, 64, 60), (3.1, 3.3, 4))
    views = [(CONFIGS[name], (n, n, 1.5 * n)) for name in ("locked", "plain") for n in (4.0, 8.0)]
    made = prepare_all(scan, views)

    def plainly(stack, grids, limits, progress, cancelled):
        return [torch.from_numpy(interpolation.resample(stack, grid, limits, progress, cancelled)) for grid in grids]

    monkeypatch.setattr("APELocalizerLib.core.preparation.gpu_sampling.resample_all", plainly)
    for mine, expected in zip(made, prepare_all(scan, views), strict=True):
        np.testing.assert_allclose(mine.image, expected.image, atol=1e-6)
        assert (mine.body_mask != expected.body_mask).mean() < 1e-4


@pytest.mark.parametrize("shape", [(21, 13, 17), (5, 9, 130), (9, 70, 65), (2, 3, 64), (1, 1, 1), (12, 40, 128)])
@pytest.mark.parametrize("share", [0.0, 0.12, 0.2, 0.3, 0.5, 0.9, 1.0])
def test_the_body_mask_is_the_same_flood(shape, share):
    air = np.random.default_rng(2).random(shape) < share
    assert np.array_equal(torch_body.body_mask(torch.from_numpy(air)).numpy(), body.body_mask(air))


def test_air_in_a_winding_passage_is_flooded_to_its_end():
    air = np.zeros((30, 41, 70), bool)
    for n in range(1, 40, 2):
        air[15, n, 1:69] = True
        air[15, n + 1, 68 if n % 4 == 1 else 1] = True
    air[10, 20, 20:50] = True
    mask = torch_body.body_mask(torch.from_numpy(air)).numpy()
    assert np.array_equal(mask, body.body_mask(air))
    assert not mask[15, 21, 30] and mask[10, 20, 30]


@pytest.mark.parametrize("shape", [(37, 41, 45), (150, 160, 170)])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_the_body_center_is_the_same(shape, kind):
    stack = np.random.default_rng(4).integers(-1024, 1500, shape).astype(kind)
    assert np.array_equal(torch_body.body_center(torch.from_numpy(stack)), body.body_center(stack))


@pytest.mark.parametrize("spacing", [(5.0, 5.0, 5.0), (3.0, 2.2, 1.7), (1.0, 0.9, 8.0), (0.1, 0.1, 0.1)])
@pytest.mark.parametrize("margins", [(0, 0, 0), (0, 1, 1), (2, 0, 3)])
def test_the_body_box_is_the_same(spacing, margins):
    stack = np.full((37, 41, 45), -1000, np.int16)
    stack[5:36, 9:33, 2:44] = np.random.default_rng(3).integers(-400, 100, (31, 24, 42))
    for each in (stack, np.full_like(stack, -1000)):
        expected = body.body_box(each, np.array(spacing), -500, margins)
        assert torch_body.body_box(torch.from_numpy(each), np.array(spacing), -500, margins) == expected


@pytest.mark.parametrize("shape", [(40, 90, 17), (15, 16, 7), (9, 50, 50), (1, 60, 60), (33, 47, 65)])
def test_equalization_gives_the_same_floats(shape):
    levels = np.random.default_rng(0).integers(0, 253, shape).astype(np.uint8)
    levels[: shape[0] // 2] //= 4
    for limit in (0.05, 0.0):
        made = torch_clahe.equalize_levels(torch.from_numpy(levels), limit).numpy()
        assert np.array_equal(made, clahe.equalize_levels(levels, limit))
    assert torch_clahe.equalize_levels(torch.zeros(20, 20, 20, dtype=torch.uint8), 0.05).isfinite().all()


def test_zooming_gives_the_same_floats():
    stack = np.random.default_rng(0).normal(0, 500, (150, 20, 30)).astype(np.float32)
    samplings = tuple(interpolation.zoomed(n, f) for n, f in zip(stack.shape, (0.8, 1.7, 0.33), strict=True))
    assert np.array_equal(zoom(torch.from_numpy(stack), samplings).numpy(), interpolation.resample(stack, samplings))


def test_air_is_refused_and_cancelling_stops_on_a_device_too():
    air = np.random.default_rng(0).integers(-1024, -900, (20, 20, 20)).astype(np.int16)
    scan = body_phantom((40, 30, 30), (9, 8, 8))
    for config in (PreparationConfig.plain(), PreparationConfig.published()):
        with pytest.raises(PreparationError, match="No body was found in “Air”"):
            prepare(Scan(air, np.diag([5.0, 5, 5, 1]), "Air"), config, (2.0, 2.0, 3.0), device="cpu")
        asked = itertools.count()
        with pytest.raises(Cancelled):
            prepare(scan, config, (2.0, 2.0, 3.0), None, lambda asked=asked: next(asked) >= 3, "cpu")
        told = []
        prepare(scan, config, (2.0, 2.0, 3.0), lambda fraction, text, told=told: told.append(fraction), device="cpu")
        assert told == sorted(told) and told[-1] == 1


def test_without_a_body_threshold_everything_is_body_on_a_device_too():
    config = dataclasses.replace(CONFIGS["plain"], body_threshold=-3000.0)
    prepared = prepare(body_phantom((40, 30, 30), (9, 8, 8)), config, (4.0, 4.0, 6.0), device="cpu")
    assert prepared.body_mask.all()
