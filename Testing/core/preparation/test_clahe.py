"""Equalization equals scikit-image's."""

import numpy as np
import pytest

from APELocalizerLib.core.preparation import clahe
from APELocalizerLib.core.preparation.clahe import Quantization, clip_histograms, equalize_adapthist

exposure = pytest.importorskip("skimage.exposure")


def textured(shape, seed=0):
    """An image with flat areas, gradients and noise, so that histograms are clipped in some tiles only."""
    rng = np.random.default_rng(seed)
    ramp = sum(np.ix_(*[np.linspace(0, 1, n) for n in shape])) / len(shape)
    image = ramp * 0.6 + rng.random(shape) * 0.3
    image[tuple(slice(0, n // 3) for n in shape)] = 0.0
    return np.clip(image, 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    "shape",
    [(64, 56, 48), (65, 47, 33), (40, 90, 17), (15, 16, 7), (9, 50, 50), (3, 40, 40), (1, 60, 60), (83, 70), (200,)],
)
@pytest.mark.parametrize("clip_limit", [0.05, 0.01, 0.0])
def test_equals_scikit_image(shape, clip_limit):
    image = textured(shape)
    expected = exposure.equalize_adapthist(image, clip_limit=clip_limit)
    result = equalize_adapthist(image, clip_limit)
    assert result.dtype == np.float32 and result.shape == shape
    assert np.abs(result - expected).max() <= 2e-4


def test_low_contrast_is_stretched_to_the_full_range_as_in_scikit_image():
    image = (0.4 + 0.1 * textured((40, 40, 24))).astype(np.float32)
    result = equalize_adapthist(image, 0.05)
    assert result.min() == 0 and result.max() == 1
    assert np.abs(result - exposure.equalize_adapthist(image, clip_limit=0.05)).max() <= 2e-4


def test_a_constant_image_stays_constant_and_finite():
    result = equalize_adapthist(np.full((20, 20, 20), 0.3, np.float32), 0.05)
    assert np.all(result == result[0, 0, 0]) and np.isfinite(result[0, 0, 0])


@pytest.mark.parametrize(
    "image", [np.zeros((0, 3)), np.full((4, 4), 2.0), np.full((4, 4), -1.0), np.zeros((2, 2, 2, 2))]
)
def test_impossible_images_are_refused(image):
    with pytest.raises(ValueError, match="equalize_adapthist"):
        equalize_adapthist(image)


@pytest.mark.parametrize("limit", [1, 3, 17, 60, 500])
def test_histograms_are_clipped_as_by_scikit_image(limit):
    reference = pytest.importorskip("skimage.exposure._adapthist").clip_histogram
    histograms = np.random.default_rng(0).geometric(0.02, (40, clahe.BINS)) - 1
    histograms[0], histograms[1, 7], histograms[2, 3:] = 0, 5000, 0
    expected = [reference(row.copy(), limit) for row in histograms]
    assert np.array_equal(clip_histograms(histograms, limit), expected)


def test_levels_from_the_table_equal_exact_levels_except_where_marked_unsure():
    quantization = Quantization(-1024.0, 900.0, (-1000.0, 300.0), -500.0)
    hu = np.random.default_rng(0).uniform(-1100, 400, 200_000).astype(np.float32)
    levels, unsure = quantization(hu)
    exact = quantization.exactly(hu)
    assert len(unsure) < 0.02 * len(hu)
    sure = np.setdiff1d(np.arange(len(hu)), unsure)
    assert np.array_equal(levels[sure], exact[sure])
    # A rounding error of a thousandth HU never changes a level that is not marked.
    for error in (-1e-3, 1e-3):
        assert np.array_equal(quantization.exactly(hu + np.float32(error))[sure], exact[sure])
        assert np.array_equal((hu + error < -500)[sure], (hu < -500)[sure])
