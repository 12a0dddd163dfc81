"""Intensity augmentation and hidden blocks of the published recipes, for a batch of crops on any device.

Images have shape (n, 1, P, L, I); random choices come from `rng` (one per crop), random voxels from `generator`, which
lives on the images' device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

WIDE_WINDOW = (-1350.0, 1000.0)
"""HU that are stored as 0 and 1 for the paper's recipe, which draws its window anew for every crop."""


def released(images: Tensor, spacings: np.ndarray, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """The released code's augmentation of images in 0..1, in its order.

    Each with probability 0.8: in-plane blur (sigma up to 1.5 mm) or sharpening (strength up to 2); noise (up to 0.1);
    brightness times 0.8 to 1.2; contrast about the mean times 0.8 to 1.2; gamma 0.8 to 1.25; clipped to 0..1 after
    each of the last three. spacings: (n, 3) mm.
    """
    n = len(images)
    sigma = rng.uniform(0, 1.5, n)[:, None] / spacings[:, :2]
    strength = np.where(rng.random(n) < 0.5, -1.0, rng.uniform(0, 2, n)) * (rng.random(n) < 0.8)
    images = images + _column(strength, images) * (images - blur_in_plane(images, sigma))
    images = _noisy(images, rng.uniform(0, 0.1, n) * (rng.random(n) < 0.8), generator)
    images = (images * _column(_factor(rng, n, 0.8, 1.2), images)).clamp(0.0, 1.0)
    mean = images.mean(dim=(1, 2, 3, 4), keepdim=True)
    images = ((images - mean) * _column(_factor(rng, n, 0.8, 1.2), images) + mean).clamp(0.0, 1.0)
    return images ** _column(_factor(rng, n, 0.8, 1.25), images)


def paper(images: Tensor, spacings: np.ndarray, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """The paper's augmentation: blur or sharpening, noise, and a random HU window, of images stored in WIDE_WINDOW.

    The paper gives no strengths; these are those of the same authors' vox2vec. With probability 0.5 in-plane blur
    (sigma 0.25 to 1.5 voxels) or sharpening (of a blur of 0.5 to 1 voxels, strength 10 to 30); with 0.5 noise up to
    30 HU; with 0.8 a window from -1350..-1000 to 300..1000 HU, otherwise the whole.
    """
    n, width = len(images), WIDE_WINDOW[1] - WIDE_WINDOW[0]
    sharpen, used = rng.random(n) < 0.5, rng.random(n) < 0.5
    sigma = np.where(sharpen, rng.uniform(0.5, 1.0, n), rng.uniform(0.25, 1.5, n))
    blurred = blur_in_plane(images, np.stack([sigma, sigma], 1))
    twice = blur_in_plane(blurred, np.full((n, 2), 0.5))
    changed = blurred + _column(sharpen * rng.uniform(10, 30, n), images) * (blurred - twice)
    images = torch.lerp(images, changed, _column(used.astype(float), images))
    images = _noisy(images, rng.uniform(0, 30, n) / width * (rng.random(n) < 0.5), generator)
    windowed = rng.random(n) < 0.8
    low = np.where(windowed, rng.uniform(-1350, -1000, n), WIDE_WINDOW[0])
    high = np.where(windowed, rng.uniform(300, 1000, n), WIDE_WINDOW[1])
    low, high = (low - WIDE_WINDOW[0]) / width, (high - WIDE_WINDOW[0]) / width
    return ((images - _column(low, images)) / _column(high - low, images)).clamp(0.0, 1.0)


def hidden_blocks(
    shape: tuple[int, ...],
    block: tuple[int, int, int],
    chance: float,
    share: float,
    rng: np.random.Generator,
    device: torch.device,
) -> Tensor:
    """Visibility (n, P, L, I) for images of `shape` (n, P, L, I): with `chance`, a crop has `share` of its blocks
    hidden (60 % of 64 blocks are 38)."""
    counts = [-(-n // b) for n, b in zip(shape[1:], block, strict=True)]
    visible = np.ones([shape[0], int(np.prod(counts))], np.float32)
    hidden = [rng.random() < chance for _ in range(shape[0])]
    for row, hide in zip(visible, hidden, strict=True):
        if hide:
            row[rng.permutation(len(row))[: int(share * len(row))]] = 0.0
    blocks = torch.from_numpy(visible).to(device).view(-1, *counts)
    for axis in range(3):
        blocks = blocks.repeat_interleave(block[axis], axis + 1)
    return blocks[:, : shape[1], : shape[2], : shape[3]].contiguous()


def blur_in_plane(images: Tensor, sigma: np.ndarray) -> Tensor:
    """Gaussian blur of each image along P and L by its own sigma (n, 2) in voxels; borders are repeated.

    A matrix product per axis, which is several times faster on CPU than convolutions with a kernel per image.
    """
    n, _, rows, columns, slices = images.shape
    along_p, along_l = (
        torch.from_numpy(_blur_matrices(size, sigma[:, axis])).to(images.device)
        for axis, size in enumerate((rows, columns))
    )
    blurred = torch.bmm(along_p, images.reshape(n, rows, columns * slices)).view(n, rows, columns, slices)
    return torch.matmul(along_l[:, None], blurred)[:, None]


def _blur_matrices(size: int, sigma: np.ndarray) -> np.ndarray:
    """(n, size, size), float32: row i holds the weights of the voxels that the blurred voxel i is made of."""
    reach = int(np.ceil(4.0 * sigma.max()))
    steps = np.arange(-reach, reach + 1)
    kernels = np.exp(-0.5 * (steps / np.maximum(sigma[:, None], 1e-3)) ** 2)
    kernels /= kernels.sum(1, keepdims=True)
    out = np.zeros((len(sigma), size, size), np.float32)
    voxels = np.arange(size)
    for step, weights in zip(steps, kernels.T, strict=True):
        out[:, voxels, np.clip(voxels + step, 0, size - 1)] += weights[:, None]
    return out


def _noisy(images: Tensor, strength: np.ndarray, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return torch.addcmul(images, noise, _column(strength, images))


def _factor(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """Factors (n,) between low and high with probability 0.8, otherwise 1."""
    return np.where(rng.random(count) < 0.8, rng.uniform(low, high, count), 1.0)


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """(n,) as a tensor that multiplies images (n, 1, P, L, I)."""
    return torch.from_numpy(np.asarray(values, np.float32)).to(like.device).view(-1, 1, 1, 1, 1)
