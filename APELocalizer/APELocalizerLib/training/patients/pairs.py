"""Crops of one virtual patient, and the places that are compared in them.

Positions are mm along posterior, left, inferior in the virtual patient, that is, measured in the deformed body; two
overlapping crops of it therefore agree on the position of every voxel exactly. CropPoints are drawn as points, not as
voxels, and only where the network's output can be interpolated: between the centers of a crop's outermost cells.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.training.data.volumes import Volume, VolumeSource
from APELocalizerLib.training.patients import intensities
from APELocalizerLib.training.patients.augmentation import augment
from APELocalizerLib.training.patients.settings import PairSettings
from APELocalizerLib.training.patients.virtual_patients import STRIDE, Deformation
from APELocalizerLib.training.patients.warps import Warp

_TRIES = 4
"""Points drawn for each one that is wanted, since some lie in the air."""


@dataclass(eq=False)
class CropPoints:
    """Points in crops: index of the crop (n,), cell of its output (n, 3), fractional, and position (n, 3) in mm."""

    crop: Tensor
    cell: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.crop)

    @classmethod
    def joined(cls, *parts: CropPoints) -> CropPoints:
        """All points of several."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in ("crop", "cell", "position")))

    def read(self, embedding: Tensor) -> Tensor:
        """Embedding (n, 3) of the points in maps (crops, 3, p, l, i), trilinear between cells."""
        sizes = torch.tensor(embedding.shape[2:], device=embedding.device)
        table = embedding.permute(0, 2, 3, 4, 1).reshape(-1, embedding.shape[1])
        cell = torch.minimum(self.cell.clamp_min(0.0), (sizes - 1).float())
        lower = torch.minimum(cell.floor().long(), (sizes - 2).clamp_min(0))
        above = cell - lower
        total = torch.zeros(len(self), embedding.shape[1], device=embedding.device)
        for corner in range(8):
            step = torch.tensor([(corner >> axis) & 1 for axis in (2, 1, 0)], device=cell.device)
            weight = torch.where(step > 0, above, 1.0 - above).prod(1, keepdim=True)
            p, q, r = torch.minimum(lower + step, sizes - 1).unbind(1)
            row = ((self.crop * sizes[0] + p) * sizes[1] + q) * sizes[2] + r
            total = total + weight * table[row]
        return total


@dataclass(eq=False)
class PatientCrops:
    """What one virtual patient adds to a step.

    images: (n, 1, P, L, I) in 0..1, the first views of all pairs and then the second ones. visible: (n, P, L, I).
    first, second: places compared; the first `shared` rows of both are the same voxels. second is None for single
    crops. seconds: time spent on loading ("data") and on all else ("augmentation").
    """

    images: Tensor
    visible: Tensor
    first: CropPoints
    second: CropPoints | None
    shared: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Voxels of a batch of crops: centers of their first voxels (n, 3) and spacings (n, 3), mm; one shape; and how many
    of them there are along a cell of the network's output."""

    first: np.ndarray
    spacing: np.ndarray
    shape: tuple[int, int, int]
    stride: int = STRIDE

    @property
    def low(self) -> np.ndarray:
        """Centers (n, 3) of the first cells in mm."""
        return self.first + 0.5 * (self.stride - 1) * self.spacing

    @property
    def high(self) -> np.ndarray:
        """Centers (n, 3) of the last cells in mm."""
        cells = np.array(self.shape) // self.stride
        return self.low + (cells - 1) * self.stride * self.spacing

    def places(self, crop: Tensor, position: Tensor) -> CropPoints:
        """Points of crops (n,) at positions (n, 3) mm."""
        first, spacing = (torch.from_numpy(values).to(position) for values in (self.first, self.spacing))
        voxel = (position - first[crop]) / spacing[crop]
        return CropPoints(crop, (voxel + 0.5) / self.stride - 0.5, position)


def draw_patient(
    source: VolumeSource,
    settings: PairSettings,
    deformation: Deformation,
    rng: np.random.Generator,
    generator: torch.Generator,
    stride: int = STRIDE,
) -> PatientCrops:
    """Crops of a new virtual patient made from a scan; everything random comes from rng and generator."""
    begun = time.perf_counter()
    device = generator.device
    volume = source.load(device)
    loaded = time.perf_counter()
    warp = Warp.random(volume.low, volume.high, deformation if settings.virtual else None, rng, generator)
    lattice = draw_lattice(warp.low, warp.high, settings, rng, stride)
    inside = torch.stack([warp.on_lattice(f, s, lattice.shape, device) for f, s in _rows(lattice)])
    images = _images(volume, inside, lattice.spacing, settings, rng, generator)
    visible = intensities.hidden_blocks(
        (len(images), *lattice.shape), settings.hidden_block, settings.hidden_chance, settings.hidden_share, rng, device
    )
    first, second, shared = draw_places(volume, warp, lattice, settings, generator)
    done = time.perf_counter()
    seconds = {"data": loaded - begun, "augmentation": done - loaded}
    return PatientCrops(images, visible, first, second, shared, seconds)


def draw_lattice(
    low: np.ndarray, high: np.ndarray, settings: PairSettings, rng: np.random.Generator, stride: int = STRIDE
) -> Lattice:
    """Random crops of a virtual patient that spans low to high (3,) mm.

    Spacings are uniform between finest and coarsest, less where the patient is too small for the crop. The two crops
    of a pair contain a common point, uniform in the patient; each is placed uniformly among the boxes that do.
    """
    extent = high - low
    shape = draw_shape(extent, settings, rng)
    finest = np.array(settings.finest)
    most = np.clip(extent / (np.array(shape) - 1), finest, settings.coarsest)
    count = settings.pairs * settings.views
    spacing = rng.uniform(finest, np.maximum(most, finest), (count, 3))
    length = (np.array(shape) - 1) * spacing
    anchor = np.tile(rng.uniform(low, high, (settings.pairs, 3)), (settings.views, 1))
    begin, end = np.maximum(low, anchor - length), np.minimum(anchor, high - length)
    fits = length <= extent + 1e-6
    begin, end = np.where(fits, begin, high - length), np.where(fits, np.maximum(begin, end), low)
    return Lattice(rng.uniform(begin, end), spacing, shape, stride)


def draw_shape(extent: np.ndarray, settings: PairSettings, rng: np.random.Generator) -> tuple[int, int, int]:
    """Voxels of the crops: multiples of the stride; of random aspect at equal volume; fewer where the patient (mm) is
    smaller than the crop at its finest spacing."""
    logs = rng.uniform(0.0, np.log(settings.aspect), 3) if settings.aspect > 1 else np.zeros(3)
    wanted = np.array(settings.shape) * np.exp(logs - logs.mean())
    smallest = np.minimum(32, settings.shape)
    wanted = np.minimum(wanted, np.maximum(extent / settings.finest + 1, smallest))
    rounded = np.maximum(np.round(wanted / STRIDE) * STRIDE, smallest)
    return shape_of(rounded)


def draw_places(
    volume: Volume, warp: Warp, lattice: Lattice, settings: PairSettings, generator: torch.Generator
) -> tuple[CropPoints, CropPoints | None, int]:
    """Points in the body that both views of each pair show, and points outside of it that one view shows."""
    half = len(lattice.first) // settings.views
    low, high = lattice.low, lattice.high
    common_low = np.maximum(low[:half], low[-half:])
    common_high = np.minimum(high[:half], high[-half:])
    crop, position = _points(volume, warp, common_low, common_high, settings.positives, True, generator)
    sides = []
    for view in range(settings.views):
        parts = [lattice.places(crop + view * half, position)]
        if settings.background:
            rows = slice(view * half, (view + 1) * half)
            air = _points(volume, warp, low[rows], high[rows], settings.background, False, generator)
            parts.append(lattice.places(air[0] + view * half, air[1]))
        sides.append(CropPoints.joined(*parts))
    return sides[0], sides[1] if settings.views == 2 else None, len(crop)


def _points(
    volume: Volume,
    warp: Warp,
    low: np.ndarray,
    high: np.ndarray,
    count: int,
    in_body: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """At most `count` random points per box (n, 3), inside or outside the body: box (m,) and position (m, 3)."""
    device = generator.device
    first, last = (torch.as_tensor(a, dtype=torch.float32, device=device)[:, None] for a in (low, high))
    draws = torch.rand([len(first), _TRIES * count, 3], generator=generator, device=device)
    points = first + draws * (last - first)
    good = volume.is_body(warp.at(points.view(-1, 3))).view(points.shape[:2]) == in_body
    good &= (last > first).all(2)
    good &= good.cumsum(1) <= count
    box, number = good.nonzero(as_tuple=True)
    return box, points[box, number]


def _images(
    volume: Volume,
    inside: Tensor,
    spacings: np.ndarray,
    settings: PairSettings,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Tensor:
    """Sampled and augmented images (n, 1, P, L, I) at scan positions (n, 3, P, L, I) mm."""
    levels = np.array([volume.level_for(mm) for mm in spacings[:, :2].mean(1)])
    images = torch.empty(len(inside), 1, *inside.shape[2:], device=inside.device)
    for level in np.unique(levels):
        rows = torch.from_numpy(np.flatnonzero(levels == level)).to(inside.device)
        images[rows] = volume.image_at(inside[rows], int(level))
    if settings.intensity == "anchored":
        return torch.cat([augment(image[None], None, rng, generator) for image in images])
    return getattr(intensities, settings.intensity)(images, spacings, rng, generator)


def _rows(lattice: Lattice) -> zip:
    return zip(lattice.first, lattice.spacing, strict=True)
