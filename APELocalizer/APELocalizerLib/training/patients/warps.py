"""Virtual patients as one function of space: x(u) = center + M u + D(u).

u are millimeters in the virtual patient and x millimeters in the scan, both along posterior, left, inferior; x counts
from the scan's first voxel center. M is a small rotation and an anisotropic scale, D a sum of cubic B-spline fields.
The function is the same for every crop and every point of a virtual patient, exactly: it is evaluated from the splines'
coefficients, not from a sampled field. On the voxels of a crop, which form a lattice, it factors into one small matrix
product per axis, which costs less than reading the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from APELocalizerLib.core.base.geometry import triple
from APELocalizerLib.training.patients.virtual_patients import Deformation, random_affine

_SPLINE_DEVIATION = (151.0 / 315.0) ** 0.5
"""Standard deviation, per axis, of a cubic B-spline curve whose coefficients have unit variance: sqrt(151 / 315)."""


def cubic_spline(t: Tensor) -> Tensor:
    """The cubic B-spline of unit knots centered at 0, with support (-2, 2)."""
    t = t.abs()
    inner = 2.0 / 3.0 - t**2 + 0.5 * t**3
    outer = (2.0 - t).clamp_min(0.0) ** 3 / 6.0
    return torch.where(t < 1.0, inner, outer)


@dataclass(frozen=True, eq=False)
class SplineField:
    """A smooth displacement in mm: coefficients (3, a, b, c) on knots `step` mm apart, the first at `start` (3,) mm."""

    coefficients: Tensor
    start: tuple[float, float, float]
    step: float

    @classmethod
    def random(
        cls, low: np.ndarray, high: np.ndarray, knot_mm: float, deviation_mm: float, generator: torch.Generator
    ) -> SplineField:
        """A random field over the box from low to high (3,) mm, with this standard deviation at every place."""
        counts = [int(np.ceil((h - b) / knot_mm)) + 4 for b, h in zip(low, high, strict=True)]
        draws = torch.randn([3, *counts], generator=generator, device=generator.device)
        start = triple(low - 1.5 * knot_mm)
        return cls(draws * (deviation_mm / _SPLINE_DEVIATION**3), start, knot_mm)

    def basis(self, axis: int, places: Tensor) -> Tensor:
        """Weight (n, knots) of every knot of an axis at places (n,) mm."""
        knots = torch.arange(self.coefficients.shape[axis + 1], device=places.device, dtype=places.dtype)
        return cubic_spline((places[:, None] - self.start[axis]) / self.step - knots)

    def on_lattice(self, places: list[Tensor]) -> Tensor:
        """Displacement (3, p, l, i) at the product of three lists of places in mm."""
        first, second, third = (self.basis(axis, places[axis]) for axis in range(3))
        return torch.einsum("nabc,pa,lb,ic->npli", self.coefficients, first, second, third)

    def at(self, points: Tensor) -> Tensor:
        """Displacement (n, 3) at points (n, 3)."""
        first, second, third = (self.basis(axis, points[:, axis]) for axis in range(3))
        rows = torch.einsum("xabc,nc->nxab", self.coefficients.to(points), third)
        rows = torch.einsum("nxab,nb->nxa", rows, second)
        return torch.einsum("nxa,na->nx", rows, first)


@dataclass(frozen=True, eq=False)
class Warp:
    """One virtual patient's map from its own mm to the scan's; see the top of this file.

    center (3,) and matrix (3, 3) are on the CPU, in float64; fields may be on any device.
    low, high (3,): the box in the virtual patient that shows what the scan shows.
    """

    center: np.ndarray
    matrix: np.ndarray
    fields: tuple[SplineField, ...]
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def random(
        cls,
        low: np.ndarray,
        high: np.ndarray,
        deformation: Deformation | None,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> Warp:
        """A virtual patient made of what the scan shows between low and high (3,) mm; None gives the scan itself."""
        center, half = 0.5 * (low + high), 0.5 * (high - low)
        if deformation is None:
            return cls(center, np.eye(3), (), -half, half)
        matrix = random_affine(deformation, rng)
        half = half / np.linalg.norm(matrix, axis=0)
        strengths = (
            (deformation.coarse_knot_mm, deformation.coarse_mm * rng.random() ** 0.5),
            (deformation.fine_knot_mm, deformation.fine_mm * rng.random()),
        )
        fields = tuple(SplineField.random(-half, half, knot, size, generator) for knot, size in strengths if size > 0)
        return cls(center, matrix, fields, -half, half)

    def on_lattice(self, first: np.ndarray, spacing: np.ndarray, shape: tuple[int, int, int], device) -> Tensor:
        """Scan mm (3, P, L, I) at the voxels of a crop: voxel (0, 0, 0) at `first` mm, `spacing` mm apart."""
        places = [
            torch.arange(n, device=device, dtype=torch.float32) * float(s) + float(b)
            for n, s, b in zip(shape, spacing, first, strict=True)
        ]
        out = torch.empty(3, *shape, device=device)
        for row in range(3):
            p, q, r = (places[axis] * float(self.matrix[row, axis]) for axis in range(3))
            torch.add((p[:, None] + q)[:, :, None], r + float(self.center[row]), out=out[row])
        for field in self.fields:
            out += field.on_lattice(places)
        return out

    def at(self, points: Tensor) -> Tensor:
        """Scan mm (n, 3) at points (n, 3) of the virtual patient."""
        matrix = torch.as_tensor(self.matrix, dtype=points.dtype, device=points.device)
        center = torch.as_tensor(self.center, dtype=points.dtype, device=points.device)
        out = points @ matrix.T + center
        for field in self.fields:
            out = out + field.at(points)
        return out

    def inverse(self, places: Tensor, iterations: int = 25) -> Tensor:
        """Points (n, 3) of the virtual patient that show the scan's places (n, 3) mm, by fixed-point iteration.

        Where a strong field folds space the iteration may not arrive; compare `at` of the result with `places`.
        """
        back = torch.as_tensor(np.linalg.inv(self.matrix), dtype=places.dtype, device=places.device)
        center = torch.as_tensor(self.center, dtype=places.dtype, device=places.device)
        points = (places - center) @ back.T
        for _ in range(iterations if self.fields else 0):
            points = points + (places - self.at(points)) @ back.T
        return points
