"""Intensity augmentation and hidden blocks of the published recipes."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from APELocalizerLib.training.patients import intensities
from APELocalizerLib.training.patients.intensities import WIDE_WINDOW, blur_in_plane, hidden_blocks


def images(count=4, shape=(20, 18, 16)):
    return torch.rand(count, 1, *shape, generator=torch.Generator().manual_seed(0))


def test_blur_is_gaussian_in_the_plane_with_a_sigma_per_image():
    given = images(2)
    sigma = np.array([[0.8, 1.3], [0.0, 0.5]])
    blurred = blur_in_plane(given, sigma)
    for image, out, (p, q) in zip(given, blurred, sigma, strict=True):
        expected = ndimage.gaussian_filter(image[0].numpy(), (p, q, 0), mode="nearest", truncate=8)
        np.testing.assert_allclose(out[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", ["released", "paper"])
def test_augmentation_stays_in_range_repeats_and_differs_between_crops(name):
    augment = getattr(intensities, name)
    given = images(1).expand(6, -1, -1, -1, -1).clone()
    spacings = np.full((6, 3), 2.0)
    runs = [augment(given, spacings, np.random.default_rng(3), torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].min() >= 0 and runs[0].max() <= 1 and torch.isfinite(runs[0]).all()
    assert min((a - b).abs().mean() for n, a in enumerate(runs[0]) for b in runs[0][:n]) > 0.005


def test_the_papers_window_keeps_what_lies_in_it():
    """Muscle and air keep their order and never leave the image; bone above the window's top becomes white."""
    hu = torch.tensor([-1400.0, -1000.0, 40.0, 290.0, 1000.0])
    stored = ((hu - WIDE_WINDOW[0]) / (WIDE_WINDOW[1] - WIDE_WINDOW[0])).clamp(0, 1)
    given = stored.view(1, 1, 1, 1, -1).expand(200, 1, 3, 3, -1).clone()
    out = intensities.paper(given, np.ones((200, 3)), np.random.default_rng(0), torch.Generator().manual_seed(0))
    quiet = out.mean(dim=(1, 2, 3))
    assert (quiet[:, 2] > quiet[:, 1]).float().mean() > 0.95
    assert quiet[:, 0].max() < 0.1 and quiet[:, 4].min() > 0.9
    assert 0.05 < quiet[:, 3].std()  # the same bone is darker or brighter from crop to crop


def test_hidden_blocks_are_38_of_64_in_half_of_the_crops():
    visible = hidden_blocks((200, 96, 96, 64), (24, 24, 16), 0.5, 0.6, np.random.default_rng(0), torch.device("cpu"))
    blocks = visible[:, ::24, ::24, ::16].reshape(200, 64)
    assert set(blocks.sum(1).tolist()) == {64.0, 26.0}
    assert 75 < (blocks.sum(1) == 26).sum() < 125
    whole = blocks.view(200, 4, 4, 4).repeat_interleave(24, 1).repeat_interleave(24, 2).repeat_interleave(16, 3)
    assert torch.equal(whole, visible)


def test_hidden_blocks_of_an_odd_shape_cover_it():
    visible = hidden_blocks((3, 40, 36, 33), (24, 24, 16), 1.0, 0.6, np.random.default_rng(0), torch.device("cpu"))
    assert visible.shape == (3, 40, 36, 33) and 0.1 < visible.mean() < 0.9
