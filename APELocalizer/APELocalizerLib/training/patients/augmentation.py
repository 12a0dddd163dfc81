"""Intensity augmentation of crops: scanners, kernels, doses, windows and contrast differ."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def augment(image: Tensor, outside: Tensor | None, rng: np.random.Generator, generator: torch.Generator) -> Tensor:
    """Augment an image (1, 1, P, L, I), 0 at -1000 HU and 1 at 300 HU, unclipped above; returns values in 0..1.

    outside: voxels out of the body, which become air (tables and blankets vary), or None.
    """
    if rng.random() < 0.5:
        blurred = F.avg_pool3d(image, (3, 3, 1), stride=1, padding=(1, 1, 0), count_include_pad=False)
        image = image + float(rng.uniform(-0.9, 0.9)) * (image - blurred)
    if rng.random() < 0.25:
        thick = F.avg_pool3d(image, (1, 1, 3), stride=1, padding=(0, 0, 1), count_include_pad=False)
        image = torch.lerp(image, thick, float(rng.uniform(0.3, 1.0)))
    if rng.random() < 0.6:
        noise = torch.randn(image.shape, generator=generator, device=generator.device)
        if rng.random() < 0.5:
            noise = F.avg_pool3d(noise, 3, stride=1, padding=1) * 3.0
        image = image + float(rng.exponential(0.025)) * noise
    gain, bias = rng.uniform(0.88, 1.12), rng.uniform(-0.04, 0.04)
    image = (image * float(gain) + float(bias)).clamp_(0.0, 1.0)
    if rng.random() < 0.6:
        image = _soft_tissue_curve(image, rng)
    if rng.random() < 0.5:
        image = image ** float(np.exp(rng.uniform(-0.25, 0.25)))
    if outside is not None:
        image = image.masked_fill(outside, 0.0)
    return image


def random_visibility(
    shape: tuple[int, int, int], chance: float, rng: np.random.Generator, generator: torch.Generator
) -> Tensor | None:
    """Hide a part of an image: (1, P, L, I) with zeros on random blocks, or None (all visible)."""
    if rng.random() >= chance:
        return None
    block = int(rng.integers(8, 25))
    counts = [1, 1, *(-(-n // block) for n in shape)]
    blocks = torch.rand(counts, generator=generator, device=generator.device)
    visible = (blocks > float(rng.uniform(0.1, 0.5))).float()
    visible = F.interpolate(visible, scale_factor=float(block), mode="nearest")[0]
    return visible[:, : shape[0], : shape[1], : shape[2]].contiguous()


def _soft_tissue_curve(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A smooth monotone change of the soft-tissue range, as another contrast phase or tube voltage makes."""
    for center, width in ((rng.uniform(0.70, 0.80), 0.06), (rng.uniform(0.80, 0.95), 0.06)):
        strength = float(rng.uniform(-0.04, 0.04))
        image = image + strength * torch.exp(-0.5 * ((image - float(center)) / width) ** 2)
    return image.clamp_(0.0, 1.0)
