"""The plane that parts a body into right and left halves which mirror each other.

Bones and the skin of a trunk are nearly alike on both sides, whatever organs lie between. So the mirror plane tells how
a patient lies in the scan about two of three axes, to within about 5 degrees, without any network, and turns with the
patient to within a degree. Only the third turn, nodding forward or backward, it cannot see.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.geometry import apply_affine
from APELocalizerLib.core.embedding.coarse_ct import WINDOW_HU, CoarseCT

BONE_HU, TISSUE_HU = (130.0, 330.0), (-300.0, 0.0)
"""HU from which and to which bone and soft tissue count."""

BONE_WEIGHT, TISSUE_WEIGHT = 3.0, 0.5
"""What a cell full of bone, or of soft tissue, weighs."""

LOOKED_AT, CHECKED = 500, 2500
"""Places that are mirrored to look for the plane, and to place it exactly."""

LARGEST_DEGREES, STEP_DEGREES = 48, 12
"""Planes turned and tilted by up to this are looked at first, in such steps …"""

OFFSETS_MM = np.array([-30.0, -15.0, 0.0, 15.0, 30.0])
"""… and so far from the middle of the body."""

FINEST_DEGREES = 0.5
"""The plane is placed to within this."""

MM_PER_DEGREE = 1.5
"""The plane is moved by this where it is turned by a degree: half of a trunk's width moves as much."""

LEAST_SHARE, OUTSIDE_COST = 0.4, 0.3
"""Planes that mirror less of the body into the scan do not count; what leaves the scan costs as much as a bad match."""

CLEARLY_BETTER = 0.78
"""A turned plane counts if the halves differ by less than this share of what an upright plane leaves."""


@dataclass(frozen=True)
class Lean:
    """How a body's mirror plane lies: degrees about S (from posterior toward left), and about A (right side down)."""

    roll: float
    tilt: float

    @property
    def degrees(self) -> float:
        """The angle between the plane and an upright one that is not turned."""
        return float(np.degrees(np.arccos(np.clip(normal(self.roll, self.tilt)[0], -1.0, 1.0))))


def lean_of(coarse_ct: CoarseCT, roll: float = 0.0) -> Lean:
    """How the body's mirror plane lies, looked for around a roll in degrees; upright where none is clearly better."""
    halves = _Halves(coarse_ct)
    if halves.count < LOOKED_AT:
        return Lean(roll, 0.0)
    best = halves.placed(halves.first_look(roll), CHECKED)
    upright = halves.placed(_Plane(halves.least(roll, 0.0, LOOKED_AT)[0], roll, 0.0), CHECKED, turn=False)
    clear = best.cost < CLEARLY_BETTER * upright.cost
    return Lean(best.roll, best.tilt) if clear else Lean(roll, 0.0)


def normal(roll: float, tilt: float) -> np.ndarray:
    """Unit vector (3,), RAS, that points to the right of a body turned by `roll` and then tilted, degrees."""
    return turn_of(roll, tilt)[:, 0]


def turn_of(roll: float, tilt: float) -> np.ndarray:
    """Rotation (3, 3), RAS, that turns and tilts an upright body, degrees."""
    a, b = np.radians([-roll, tilt])
    about_s = np.array([[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]])
    about_a = np.array([[np.cos(b), 0.0, np.sin(b)], [0.0, 1.0, 0.0], [-np.sin(b), 0.0, np.cos(b)]])
    return about_s @ about_a


@dataclass(frozen=True)
class _Plane:
    offset: float
    roll: float
    tilt: float
    cost: float = np.inf


class _Halves:
    """A body and its mirror image."""

    def __init__(self, coarse_ct: CoarseCT) -> None:
        low, high = WINDOW_HU
        hu = low + (high - low) * coarse_ct.codes.astype(np.float32) / np.float32(255.0)
        bone, tissue = (np.clip((hu - first) / (last - first), 0.0, 1.0) for first, last in (BONE_HU, TISSUE_HU))
        weight = smoothed(np.float32(BONE_WEIGHT) * bone + np.float32(TISSUE_WEIGHT) * tissue)
        body = np.flatnonzero(weight > TISSUE_WEIGHT / 2)
        self.count = len(body)
        chosen = np.random.default_rng(0).choice(body, min(CHECKED, self.count), replace=False)
        cells = np.column_stack(np.unravel_index(chosen, weight.shape))
        self._shape, self._weights = np.array(weight.shape), weight.ravel()
        self._to_cells = np.linalg.inv(coarse_ct.grid_to_ras)
        self._places = apply_affine(coarse_ct.grid_to_ras, cells)
        self._here = weight[tuple(cells.T)]
        self._middle = self._places.mean(axis=0) if self.count else np.zeros(3)

    def first_look(self, roll: float) -> _Plane:
        """The best of all planes around a roll, roughly."""
        steps = range(-LARGEST_DEGREES, LARGEST_DEGREES + 1, STEP_DEGREES)
        planes = []
        for turn in (roll + step for step in steps):
            for tilt in steps:
                offset, cost = self.least(turn, tilt, LOOKED_AT)
                planes.append(_Plane(offset, float(turn), float(tilt), cost))
        return min(planes, key=lambda plane: plane.cost)

    def least(self, roll: float, tilt: float, count: int, offsets: np.ndarray = OFFSETS_MM) -> tuple[float, float]:
        """(offset in mm, cost) of the best plane of this direction."""
        costs = self._costs(roll, tilt, offsets, count)
        return float(offsets[costs.argmin()]), float(costs.min())

    def placed(self, plane: _Plane, count: int, turn: bool = True) -> _Plane:
        """The plane moved, and turned, to where the halves differ least nearby."""
        step = STEP_DEGREES / 2
        best = _Plane(*self._best_near(plane, 0.0, count))
        while step >= FINEST_DEGREES:
            tried = [(0.0, 0.0)] + ([(step, 0.0), (-step, 0.0), (0.0, step), (0.0, -step)] if turn else [])
            around = [_Plane(best.offset, best.roll + roll, best.tilt + tilt) for roll, tilt in tried]
            nearest = min((_Plane(*self._best_near(one, step, count)) for one in around), key=lambda one: one.cost)
            if nearest.cost < best.cost:
                best = nearest
            else:
                step /= 2
        return best

    def _best_near(self, plane: _Plane, step: float, count: int) -> tuple[float, float, float, float]:
        offsets = plane.offset + step * MM_PER_DEGREE * np.array([-1.0, 0.0, 1.0])
        offset, cost = self.least(plane.roll, plane.tilt, count, offsets)
        return offset, plane.roll, plane.tilt, cost

    def _costs(self, roll: float, tilt: float, offsets: np.ndarray, count: int) -> np.ndarray:
        """Mean difference of the halves for planes of one direction at several offsets (n,) in mm."""
        to_right = normal(roll, tilt)
        places, here = self._places[:count], self._here[:count]
        away = (places - self._middle) @ to_right
        step = -2.0 * self._to_cells[:3, :3] @ to_right
        start = apply_affine(self._to_cells, places) + 0.5
        cells = (start + (away - offsets[:, None])[..., None] * step).astype(np.intp)
        inside = ((cells >= 0) & (cells < self._shape)).all(axis=-1)
        flat = (cells[..., 0] * self._shape[1] + cells[..., 1]) * self._shape[2] + cells[..., 2]
        there = self._weights[np.where(inside, flat, 0)]
        share = inside.mean(axis=1)
        differing = (np.abs(there - here) * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1)
        return np.where(share < LEAST_SHARE, np.inf, differing + OUTSIDE_COST * (1.0 - share))


def smoothed(volume: np.ndarray) -> np.ndarray:
    """Mean over three neighbors along every axis; the borders are repeated."""
    for axis in range(3):
        values = np.moveaxis(volume, axis, 0)
        total = values.copy()
        total[1:] += values[:-1]
        total[:-1] += values[1:]
        total[[0, -1]] += values[[0, -1]]
        total /= 3
        volume = np.moveaxis(total, 0, axis)
    return volume
