"""A smooth field between two scans, through control points some of which are wrong. Positions are mm, in any axes.

The field is the same in both directions: a place of the first scan is taken to the second by an affine transform and
then moved by a displacement that is read halfway. So going there and back ends where it began. The
displacement is a Gaussian process: smooth over decimeters with a finer part, and nearer to a control point the more it
agrees with its neighbors (iteratively reweighted, as in `alignment`). Far from all control points only the affine
transform remains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.base.parallel import parallel_for
from APELocalizerLib.core.base.torch_threads import one_thread_each
from APELocalizerLib.core.embedding.trilinear import sample_trilinear

SMOOTH_MM, SPREAD_MM = 120.0, 20.0
"""Of the displacement: how far it takes to change, and how large it is, in mm."""

FINER, FINE_SPREAD_MM = 8, 15.0
"""Of its finer part: it changes over a distance shorter by the square root of this power of two; and its size in mm."""

PRIOR_MM = (SPREAD_MM**2 + FINE_SPREAD_MM**2) ** 0.5
"""Standard deviation of the displacement where no control point is near, in mm."""

NOISE_MM, UNSURE_MM = 8.0, 20.0
"""How far off a control point is at least, and one that was not compared by the image; mm."""

MISTAKEN_MM = 12.0
"""A control point farther than this from what its neighbors say counts less, and hardly at all at twice that."""

FITS = 5
"""How often the field is fitted, down-weighting outliers more each time."""

NODE_MM, BEYOND_MM = 15.0, 60.0
"""Distance of the nodes at which the displacement is kept, and how far the lattice goes beyond the control points."""

DOUBT_NODE_MM = 30.0
"""Distance of the nodes at which the doubt is kept: it costs more to compute, and changes less."""

RIDGE_MM2 = 1500.0
"""How far the affine transform is held to a rigid one: it stretches half as much along an axis along which the control
points have this variance. A slice of 4 cm cannot tell by how much a patient is longer."""

STEPS, SETTLED_MM = 30, 1e-3
"""Most iterations for the place halfway, and the step at which it is found."""

NEIGHBORS_MM = 40.0
"""Width of the neighborhood over which the misfit of control points is averaged."""


@dataclass(frozen=True, eq=False)
class SymmetricField:
    """`affine` (4, 4) from the first scan to the second. On lattices from `origin` (3,): `displacement` (a, b, c, 3) mm
    every `NODE_MM`; `doubt` (a, b, c, 2) mm every `DOUBT_NODE_MM`, the standard deviation of the displacement and the
    misfit of the control points around.

    `weights` (n,), 0 to 1, tell how much each control point counted.
    """

    affine: np.ndarray
    origin: np.ndarray
    displacement: np.ndarray
    doubt: np.ndarray
    weights: np.ndarray

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Positions (n, 3) of the first scan's places (n, 3) on the second; defined everywhere."""
        moved = apply_affine(self.affine, points)
        return 2.0 * self._halfway(moved, 0.5) - moved

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Inverse of `forward`."""
        points = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        return apply_affine(self._inverse, 2.0 * self._halfway(points, -0.5) - points)

    def doubt_at(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Standard deviation and misfit (n, 2) mm for corresponding places (n, 3) of both scans."""
        middle = (apply_affine(self.affine, first) + second) / 2
        return sample_trilinear(self.doubt, (middle - self.origin) / DOUBT_NODE_MM)

    @cached_property
    def _inverse(self) -> np.ndarray:
        return np.linalg.inv(self.affine)

    def _halfway(self, points: np.ndarray, share: float) -> np.ndarray:
        """The places (n, 3) that are `share` of their own displacement away from the points."""
        middle, step = points, np.inf
        for _ in range(STEPS):
            following = points + share * sample_trilinear(self.displacement, (middle - self.origin) / NODE_MM)
            last, step = step, float(np.abs(following - middle).max(initial=0.0))
            middle = following if step < last else (middle + following) / 2
            if step < SETTLED_MM:
                break
        return middle


def fit_field(first: np.ndarray, second: np.ndarray, spread_mm: np.ndarray) -> SymmetricField:
    """The field through corresponding places (n, 3) of two scans; `spread_mm` (n,), NaN where unknown. n ≥ 4."""
    least = np.where(np.isfinite(spread_mm), np.hypot(NOISE_MM, spread_mm), UNSURE_MM) ** 2
    affine = fit_affine(first, second, least)
    moved = apply_affine(affine, first)
    middle, wanted = (moved + second) / 2, second - moved
    with one_thread_each():
        process = _Process(middle, wanted, least)
        displacement = _on_lattice(middle, NODE_MM, process.displacement)
        doubt = _on_lattice(middle, DOUBT_NODE_MM, process.doubt)
    return SymmetricField(affine, middle.min(axis=0) - BEYOND_MM, displacement, doubt, least / process.noise)


class _Process:
    """The Gaussian process through displacements `wanted` (n, 3) mm at `middle` (n, 3); `least` (n,) mm² of noise."""

    def __init__(self, middle: np.ndarray, wanted: np.ndarray, least: np.ndarray) -> None:
        self._center = middle.mean(axis=0)  # where positions are large, their squares would lose what sets them apart
        self._middle = torch.from_numpy((middle - self._center).astype(np.float32))
        covariance = self._covariance(self._squared(self._middle)).double()
        target, self.noise = torch.from_numpy(wanted), least
        for _ in range(FITS):
            certainty = torch.linalg.inv(covariance + torch.diag(torch.from_numpy(self.noise)))
            weights = certainty @ target
            misfit = (target - covariance @ weights).norm(dim=1)
            self.noise = least * np.maximum(1.0, (misfit.numpy() / MISTAKEN_MM) ** 4)
        self._weights, self._certainty, self._misfit2 = weights.float(), certainty.float(), misfit.square().float()

    def displacement(self, nodes: np.ndarray) -> np.ndarray:
        """Displacement (n, 3) mm at nodes (n, 3)."""
        return (self._covariance(self._squared(self._shifted(nodes))) @ self._weights).numpy()

    def doubt(self, nodes: np.ndarray) -> np.ndarray:
        """Standard deviation of the displacement at nodes (n, 3), and root mean square misfit around; (n, 2) mm."""
        squared = self._squared(self._shifted(nodes))
        near = torch.exp(squared * (-0.5 / NEIGHBORS_MM**2)) + 1e-6
        between = self._covariance(squared)
        variance = PRIOR_MM**2 - ((between @ self._certainty) * between).sum(dim=1)
        misfit2 = near @ self._misfit2 / near.sum(dim=1)
        return torch.stack([variance.clamp_min(0.0), misfit2], dim=1).sqrt().numpy()

    def _shifted(self, nodes: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((nodes - self._center).astype(np.float32))

    def _squared(self, nodes: torch.Tensor) -> torch.Tensor:
        """Squared distances (n, m) mm² of nodes (n, 3) from the control points."""
        squared = nodes @ (-2.0 * self._middle.T)
        squared += nodes.square().sum(dim=1, keepdim=True)
        squared += self._middle.square().sum(dim=1)
        return squared.clamp_min_(0.0)

    @staticmethod
    def _covariance(squared: torch.Tensor) -> torch.Tensor:
        """Covariance (n, m) mm² of the displacement at places with these squared distances."""
        smooth = torch.exp(squared * (-0.5 / SMOOTH_MM**2))
        covariance = smooth * SPREAD_MM**2
        for _ in range(FINER.bit_length() - 1):
            smooth *= smooth  # the eighth power of a Gaussian is a narrower one
        return covariance.add_(smooth, alpha=FINE_SPREAD_MM**2)


def _on_lattice(middle: np.ndarray, node_mm: float, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of places (n, 3) on a lattice (a, b, c, channels) float64 around the control points, on all cores."""
    low = middle.min(axis=0) - BEYOND_MM
    shape = np.ceil((middle.max(axis=0) + BEYOND_MM - low) / node_mm).astype(int) + 1
    plane = np.argwhere(np.ones((1, *shape[1:]), bool)) * node_mm + low
    planes: list[np.ndarray] = [plane] * shape[0]

    def fill(number: int) -> None:
        planes[number] = function(plane + [node_mm * number, 0.0, 0.0]).reshape(*shape[1:], -1)

    parallel_for(fill, shape[0])
    return np.stack(planes).astype(np.float64)


def fit_affine(first: np.ndarray, second: np.ndarray, variance: np.ndarray, ridge: float = RIDGE_MM2) -> np.ndarray:
    """Affine transform (4, 4) that takes places (n, 3) to places (n, 3), down-weighting outliers.

    `variance` (n,) mm² of each; the larger `ridge` (mm²), the nearer to a rigid transform, which infinity gives.
    """
    weights = 1.0 / variance
    for _ in range(FITS):
        share = weights / weights.sum()
        centers = share @ first, share @ second
        here, there = first - centers[0], second - centers[1]
        turn = _rotation(here.T @ (share[:, None] * there))
        matrix = turn
        if np.isfinite(ridge):
            normal = here.T @ (share[:, None] * here) + max(ridge, 1e-9) * np.eye(3)
            matrix = turn + np.linalg.solve(normal, here.T @ (share[:, None] * (there - here @ turn.T))).T
        misfit = np.linalg.norm(there - here @ matrix.T, axis=1)
        usual = max(2.0 * MISTAKEN_MM, 2.0 * float(np.median(misfit)))
        weights = 1.0 / (variance * np.maximum(1.0, (misfit / usual) ** 2))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, centers[1] - matrix @ centers[0]
    return affine


def _rotation(correlation: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) that brings places nearest to others, of their (3, 3) sum of products (Kabsch)."""
    left, _, right = np.linalg.svd(correlation)
    sign = np.sign(np.linalg.det(right.T @ left.T))
    return right.T @ np.diag([1.0, 1.0, sign]) @ left.T
