"""Random crops of randomly deformed scans, with the canonical coordinates of their cells.

A crop is a small image of a virtual patient: positions u (mm, axes P, L, I, from the crop's center) are taken from the
scan at x = c + M u + D(u), with M a rotation and an anisotropic scale, and D a smooth random field. Anatomy goes with
the deformation: the target at u is the scan's canonical coordinate at x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.training.data.scans import LEVEL_SPACING, TrainingScan

STRIDE = 4
"""Voxels along a cell of the network's output, unless said otherwise."""


@dataclass(frozen=True)
class CropKind:
    """A family of crops: spacing (mm, P, L, I), its jitter, the range of sizes in voxels, and how often it is drawn."""

    spacing: tuple[float, float, float]
    share: float
    most_voxels: int
    largest: tuple[int, int, int] = (128, 128, 96)
    jitter: float = 0.18
    shortest_mm: float = 120.0


@dataclass(frozen=True)
class Deformation:
    """Strength of the virtual patients."""

    rotation_degrees: float = 8.0
    scale: float = 0.15
    isotropic: float = 0.10
    coarse_mm: float = 12.0
    coarse_knot_mm: float = 100.0
    fine_mm: float = 4.0
    fine_knot_mm: float = 45.0


@dataclass
class Crop:
    """An image (1, 1, P, L, I) in the training unit, and per cell target and weight (3, p, l, i)."""

    image: Tensor
    target: Tensor
    weight: Tensor
    spacing: np.ndarray
    outside: Tensor | None
    label_names: Mapping[int, str] | None
    visible: Tensor | None = None
    seconds: dict[str, float] | None = None


def _rotation(angles: np.ndarray) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def random_affine(deformation: Deformation, rng: np.random.Generator) -> np.ndarray:
    """(3, 3) from crop mm to scan mm. Rotation is smaller about the axes that tilt the slices."""
    angles = np.deg2rad(np.clip(rng.normal(0, 0.5, 3), -1, 1) * deformation.rotation_degrees) * (0.6, 0.6, 1.0)
    scale = np.exp(rng.uniform(-1, 1, 3) * deformation.scale * 0.7 + rng.uniform(-1, 1) * deformation.isotropic)
    return _rotation(angles) @ np.diag(scale)


def random_field(
    shape: tuple[int, ...], spacing: np.ndarray, scales: Sequence[tuple[float, float]], generator: torch.Generator
) -> Tensor:
    """A smooth displacement (1, 3, *shape) in mm: the sum of fields of (knot distance mm, standard deviation mm)."""
    middle = [max(4, int(np.ceil(n / 4))) for n in shape]
    total = torch.zeros(1, 3, *middle, device=generator.device)
    for knot_mm, strength in scales:
        knots = [max(3, int(np.ceil(n * s / knot_mm)) + 2) for n, s in zip(shape, spacing, strict=True)]
        field = torch.randn([1, 3, *knots], generator=generator, device=generator.device) * float(strength)
        field = F.interpolate(field, scale_factor=2.0, mode="trilinear", align_corners=False)
        field = F.avg_pool3d(field, 3, stride=1, padding=1, count_include_pad=False) * 1.5
        total += F.interpolate(field, size=middle, mode="trilinear", align_corners=True)
    return F.interpolate(total, size=shape, mode="trilinear", align_corners=True)


def choose_box(
    scan: TrainingScan, kind: CropKind, affine: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int], np.ndarray]:
    """Center (mm in the scan from its first voxel), shape in voxels and spacing of one random crop."""
    spacing = np.array(kind.spacing) * np.exp(rng.uniform(-1, 1, 3) * kind.jitter * (0.6, 0.6, 1.0))
    if rng.random() < 0.3:
        spacing[:2] = spacing[:2].mean()
    extent = np.array(scan.shape) * scan.spacing
    low, high = np.zeros(3), extent.copy()
    for axis in range(2):  # the body with a random margin of air, as scans show it
        used = scan.body_extent[axis]
        margin = rng.uniform(-25, 60, 2) if rng.random() < 0.5 else rng.uniform(0, 6, 2)
        low[axis] = max(0.0, used[0] * scan.spacing[axis] - margin[0])
        high[axis] = min(extent[axis], used[1] * scan.spacing[axis] + margin[1])
    # Along the body: often all of it, else a random part.
    if rng.random() < 0.75:
        length = min(extent[2], rng.uniform(kind.shortest_mm, max(kind.shortest_mm + 1, min(520.0, extent[2] * 1.2))))
        low[2] = rng.uniform(0, extent[2] - length)
        high[2] = low[2] + length
    if rng.random() < 0.15:  # a truncated field of view
        axis = int(rng.integers(2))
        cut = rng.uniform(0.1, 0.45) * (high[axis] - low[axis])
        if rng.random() < 0.5:
            low[axis] += cut
        else:
            high[axis] -= cut
    scale = np.linalg.norm(affine, axis=0)
    shape = np.ceil((high - low) / scale / spacing).astype(int)
    limit = np.maximum(shape, 32)
    limit = np.minimum(limit, kind.largest)
    while np.prod(limit) > kind.most_voxels:
        axis = 2 if limit[2] > 40 and rng.random() < 0.5 else int(rng.integers(2))
        limit[axis] = max(32, int(limit[axis] * 0.88))
    slack = np.maximum(shape - limit, 0) * spacing * scale
    center = 0.5 * (low + high) + rng.uniform(-0.5, 0.5, 3) * slack
    return center, shape_of(limit), spacing


def draw_crop(
    scan: TrainingScan,
    kind: CropKind,
    deformation: Deformation,
    rng: np.random.Generator,
    generator: torch.Generator,
    stride: int = STRIDE,
) -> Crop:
    """One random crop of a virtual patient; `stride`: voxels along a cell of the network's output."""
    affine = random_affine(deformation, rng)
    center, shape, spacing = choose_box(scan, kind, affine, rng)
    device = generator.device
    offsets = [
        (torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2) * float(s)
        for n, s in zip(shape, spacing, strict=True)
    ]
    scales = (
        (deformation.coarse_knot_mm, deformation.coarse_mm * rng.random() ** 0.5),
        (deformation.fine_knot_mm, deformation.fine_mm * rng.random()),
    )
    field = random_field(shape, spacing, scales, generator)
    field = field[0]
    for row in range(3):
        p, q, r = (offsets[axis] * float(affine[row, axis]) for axis in range(3))
        field[row] += (p[:, None] + q)[:, :, None] + (r + float(center[row]))
    half = torch.tensor((np.array(scan.shape) - 1) * scan.spacing / 2, dtype=torch.float32, device=device)
    unit = field / half[:, None, None, None] - 1.0  # (3, P, L, I), -1..1 from the first to the last voxel's center
    where = unit.flip(0).permute(1, 2, 3, 0)[None]
    labels = scan.label_names is not None
    level = 0
    if not labels:
        wanted = spacing[:2].mean() * rng.uniform(0.8, 1.1)
        level = int(np.argmin(np.abs(np.array(LEVEL_SPACING) - wanted)))
    mode = "nearest" if labels else "bilinear"
    image = F.grid_sample(scan.levels[level].float(), where, mode=mode, padding_mode="border", align_corners=True)
    outside = None
    if not labels and rng.random() < 0.25:
        inside = F.grid_sample(scan.body.float(), where, mode="nearest", padding_mode="border", align_corners=True)
        outside = inside < 0.5
    target, weight = cell_targets(scan, unit, stride)
    return Crop(image, target, weight, spacing, outside, scan.label_names)


def cell_targets(scan: TrainingScan, unit: Tensor, stride: int = STRIDE) -> tuple[Tensor, Tensor]:
    """Targets (mm) and weights (3, p, l, i) at the cells of a crop whose voxels lie at `unit` (3, P, L, I)."""
    cells = F.avg_pool3d(unit[None], stride)[0]  # the mean over a cell's voxels is its center
    where = cells.flip(0).permute(1, 2, 3, 0)[None]
    sampled = F.grid_sample(scan.targets, where, mode="bilinear", padding_mode="border", align_corners=True)[0]
    body = F.grid_sample(scan.body.float(), where, mode="nearest", padding_mode="border", align_corners=True)[0]
    inside = (cells.abs() <= 1.02).all(0, keepdim=True)
    target, weight = sampled[:3], sampled[3:] * body * inside
    if len(scan.landmarks):
        target, weight = _pull_to_landmarks(scan, cells, target, weight)
    return target, weight


def _pull_to_landmarks(scan: TrainingScan, cells: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Make the target exact at annotated landmarks, fading over about a centimeter, and weigh these cells more."""
    device = cells.device
    half = torch.tensor((np.array(scan.shape) - 1) * scan.spacing / 2, dtype=torch.float32, device=device)
    to_grid = np.linalg.inv(scan.grid_to_ras)
    voxels = scan.landmarks.numpy() @ to_grid[:3, :3].T + to_grid[:3, 3]
    points = torch.tensor(voxels * scan.spacing, dtype=torch.float32, device=device)  # (n, 3) mm along P, L, I
    mm = (cells + 1.0) * half[:, None, None, None]
    flat = mm.reshape(3, -1).T
    squared = torch.cdist(flat, points) ** 2
    near = torch.exp(-0.5 * squared / 10.0**2)  # (cells, n)
    unit = (points / half - 1.0).flip(1)[None, :, None, None]
    here = F.grid_sample(scan.targets[:, :3], unit, mode="bilinear", padding_mode="border", align_corners=True)[
        0, :, :, 0, 0
    ]
    error = scan.goals.float().to(device) - here.T  # (n, 3)
    shift = (near @ error) / near.sum(1, keepdim=True).clamp_min(1.0)
    target = target + shift.T.reshape(target.shape)
    weight = weight * (1.0 + 4.0 * near.amax(1).reshape(1, *target.shape[1:]))
    return target, weight
