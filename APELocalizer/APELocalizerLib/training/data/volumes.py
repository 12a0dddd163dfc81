"""Scans on the device that trains, ready to be sampled by virtual patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from APELocalizerLib.training.data.cache import PreparedFile
from APELocalizerLib.training.data.scans import LEVEL_SPACING, TrainingScan


@dataclass(eq=False)
class Level:
    """An image (P, L, I), float32 or float16, good for sampling at about `suits` mm in the plane.

    spacing (3,) and origin (3,): mm between voxels, and from the scan's first voxel to the image's.
    """

    image: Tensor
    suits: float
    spacing: np.ndarray
    origin: np.ndarray


@dataclass(eq=False)
class Volume:
    """A scan on a device.

    levels: the image, increasingly smooth. body: (P, L, I), 0 in the air around the patient. spacing: mm along P, L,
    I. unit: stored value that means 1. low, high: (3,) mm from the first voxel's center, the box that crops are drawn
    from.
    """

    levels: tuple[Level, ...]
    body: Tensor
    spacing: np.ndarray
    unit: float
    low: np.ndarray
    high: np.ndarray

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.body.device

    def image_at(self, places: Tensor, level: int) -> Tensor:
        """Image (n, 1, P, L, I) at places (n, 3, P, L, I) mm, trilinear; beyond its border the image is repeated."""
        source = self.levels[level]
        half = 0.5 * (np.array(source.image.shape) - 1) * source.spacing
        shape = places.shape
        grid = torch.empty(*shape[:1], *shape[2:], 3, device=places.device)
        for axis in range(3):  # grid_sample wants the last axis first, from -1 to 1
            middle = float(1.0 + source.origin[axis] / half[axis])
            torch.sub(places[:, axis] / float(half[axis]), middle, out=grid[..., 2 - axis])
        grid = grid.view(1, shape[0] * shape[2], *shape[3:], 3)  # all crops in one go
        image = source.image[None, None].float()
        sampled = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)
        return sampled.view(shape[0], 1, *shape[2:]) / self.unit

    def level_for(self, spacing: float) -> int:
        """The level that suits an in-plane spacing in mm."""
        return int(np.argmin([abs(level.suits - spacing) for level in self.levels]))

    def is_body(self, places: Tensor) -> Tensor:
        """Whether the scan's nearest voxel to places (n, 3) mm is in the patient; False outside of the scan."""
        spacing = torch.as_tensor(self.spacing, dtype=places.dtype, device=places.device)
        last = torch.tensor(self.body.shape, device=places.device) - 1
        index = (places / spacing).round().long()
        inside = ((index >= 0) & (index <= last)).all(1)
        index = torch.minimum(index.clamp_min(0), last)
        return (self.body[index[:, 0], index[:, 1], index[:, 2]] > 0) & inside


class VolumeSource(Protocol):
    """What a volume is loaded from."""

    @property
    def name(self) -> str:
        """The scan's name."""
        ...

    @property
    def share(self) -> float:
        """How often it is drawn, relative to the others."""
        ...

    @property
    def grid_to_ras(self) -> np.ndarray:
        """4x4, from voxel index (P, L, I) to RAS mm."""
        ...

    def load(self, device: torch.device) -> Volume:
        """Bring it to the device."""
        ...


@dataclass(eq=False)
class PreparedSource:
    """A scan of the cache, read from its mapped file at every use; the operating system keeps what is used often.

    smooth: coarse crops are sampled from an image averaged over 2 x 2 x 2 voxels.
    """

    file: PreparedFile
    share: float = 1.0
    smooth: bool = False

    @property
    def name(self) -> str:
        """The scan's name."""
        return self.file.name

    @property
    def grid_to_ras(self) -> np.ndarray:
        """4x4, from voxel index to RAS mm."""
        return self.file.grid_to_ras

    @property
    def nbytes(self) -> float:
        """Memory while it is in use: the image in float32, with a smooth one of an eighth, and the body."""
        return float(np.prod(self.file.shape)) * (4 * (1.125 if self.smooth else 1) + 1)

    def load(self, device: torch.device) -> Volume:
        """Bring the stored image to the device, and there to float32."""
        image, body = (torch.from_numpy(np.array(mapped)) for mapped in (self.file.image(), self.file.body()))
        last = (np.array(self.file.shape) - 1) * self.file.spacing
        spacing = self.file.spacing
        levels = [Level(image.to(device, non_blocking=True).float(), spacing[:2].mean(), spacing, np.zeros(3))]
        if self.smooth and min(image.shape) >= 4:
            halved = F.avg_pool3d(levels[0].image[None, None], 2)[0, 0]
            levels.append(Level(halved, 2 * levels[0].suits, 2 * spacing, 0.5 * spacing))
        return Volume(
            levels=tuple(levels),
            body=body.to(device, non_blocking=True),
            spacing=spacing,
            unit=self.file.unit,
            low=np.zeros(3),
            high=last,
        )


@dataclass(eq=False)
class AnchoredSource:
    """A scan that anchored training holds in memory, with its canonical targets."""

    scan: TrainingScan

    @property
    def name(self) -> str:
        """The scan's name."""
        return self.scan.name

    @property
    def grid_to_ras(self) -> np.ndarray:
        """4x4, from voxel index to RAS mm."""
        return self.scan.grid_to_ras

    @property
    def share(self) -> float:
        """How often it is drawn."""
        return self.scan.share

    def load(self, device: torch.device) -> Volume:
        """Its levels, and the body's box in the plane; along the body the whole scan."""
        scan = self.scan
        last = (np.array(scan.shape) - 1) * scan.spacing
        extent = np.array(scan.body_extent, float) * scan.spacing[:, None]
        extent[2] = 0.0, last[2]
        return Volume(
            levels=tuple(
                Level(level[0, 0].to(device), suits, scan.spacing, np.zeros(3))
                for level, suits in zip(scan.levels, LEVEL_SPACING, strict=True)
            ),
            body=scan.body[0, 0].to(device),
            spacing=scan.spacing,
            unit=1.0,
            low=np.maximum(extent[:, 0] - 5.0, 0.0),
            high=np.minimum(extent[:, 1] + 5.0, last),
        )
