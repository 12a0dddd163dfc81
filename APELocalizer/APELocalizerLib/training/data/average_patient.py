"""Canonical coordinates: one smooth map per scan from its own millimeters to those of an average patient.

Every scan s has a map f_s(p) = p + g_s(p), where each axis of g_s is a Gaussian process: a free translation, small
scale and shear about the scan's center, and a smooth residual. Two patients are tied by observations with the same
key (a landmark's position, or one face of an organ's box); the average patient's value for each key is estimated
jointly with all maps by generalized least squares, so that nothing has to be iterated. The posterior variance tells
how far the frame can be trusted at a place, and weights the training loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

AXES = ("r", "a", "s")


@dataclass(frozen=True)
class Observation:
    """One coordinate of one named place in one scan.

    key names the place and `axis` (0, 1, 2 for right, anterior, superior) the coordinate that is known there;
    `point` (RAS mm) is where in the scan it was seen; `sigma` is its 1-sigma uncertainty in mm.
    """

    key: str
    axis: int
    point: tuple[float, float, float]
    sigma: float


@dataclass(frozen=True)
class FrameModel:
    """Prior of the maps, in mm and as fractions (standard deviations)."""

    translation: float = 200.0
    scale: float = 0.12
    shear: float = 0.07
    smooth_length: float = 90.0
    smooth: float = 12.0
    local_length: float = 40.0
    local: float = 7.0
    point_noise: float = 3.0

    def covariance(self, first: np.ndarray, second: np.ndarray, axis: int, center: np.ndarray) -> np.ndarray:
        """Prior covariance of g's `axis` between points `first` (n, 3) and `second` (m, 3), mm^2, (n, m)."""
        slopes = np.full(3, self.shear)
        slopes[axis] = self.scale
        linear = ((first - center) * slopes**2) @ (second - center).T
        squared = ((first[:, None] - second[None]) ** 2).sum(-1)
        residual = self.smooth**2 * np.exp(-0.5 * squared / self.smooth_length**2)
        residual += self.local**2 * np.exp(-0.5 * squared / self.local_length**2)
        return self.translation**2 + linear + residual


@dataclass(frozen=True)
class Frame:
    """The map of one scan, ready to be evaluated: RAS mm -> average-patient mm."""

    model: FrameModel
    center: np.ndarray
    points: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]
    inverses: tuple[np.ndarray, ...] = field(repr=False)
    mean_shift: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Average-patient coordinates (n, 3) of RAS points (n, 3)."""
        points = np.asarray(points, float)
        mapped = points + self.mean_shift
        for axis in range(3):
            covariance = self.model.covariance(points, self.points[axis], axis, self.center)
            mapped[:, axis] += covariance @ self.weights[axis]
        return mapped

    def variance(self, points: np.ndarray) -> np.ndarray:
        """Posterior variance (n, 3), mm^2, of the canonical coordinates at RAS points (n, 3)."""
        points = np.asarray(points, float)
        out = np.empty((len(points), 3))
        for axis in range(3):
            cross = self.model.covariance(points, self.points[axis], axis, self.center)
            slopes = np.full(3, self.model.shear)
            slopes[axis] = self.model.scale
            prior = self.model.translation**2 + self.model.smooth**2 + self.model.local**2
            prior = prior + (((points - self.center) * slopes) ** 2).sum(1)
            out[:, axis] = prior - ((cross @ self.inverses[axis]) * cross).sum(1)
        return np.maximum(out, 0.0)


@dataclass(frozen=True)
class AveragePatient:
    """Canonical value (mm) of every observed (key, axis)."""

    values: Mapping[tuple[str, int], float]

    def point(self, key: str) -> np.ndarray | None:
        """Canonical position (3,) of a landmark key, or None unless all three coordinates are known."""
        values = [self.values.get((key, axis)) for axis in range(3)]
        return None if any(value is None for value in values) else np.array(values)


def _axis_data(observations: Sequence[Observation], axis: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    chosen = [o for o in observations if o.axis == axis]
    points = np.array([o.point for o in chosen], float).reshape(-1, 3)
    return [o.key for o in chosen], points, np.array([o.sigma for o in chosen], float)


def scan_center(observations: Sequence[Observation]) -> np.ndarray:
    """Center of a scan's observations (3,), about which scale and shear act."""
    points = np.array([o.point for o in observations], float)
    return 0.5 * (points.min(0) + points.max(0))


def average_patient(
    scans: Mapping[str, Sequence[Observation]], model: FrameModel, iterations: int = 4, origin_key: str | None = None
) -> AveragePatient:
    """Canonical values of all keys, by generalized least squares over all scans at once.

    For each axis, every scan says p = c[key] + d_s + noise, where d_s has the prior's covariance between the places'
    *canonical* positions (with positions in the scan instead, the estimate would shrink). These positions start from
    aligned centers and are refined with the maps. The gauge (a common translation) is fixed by placing `origin_key`,
    or else the mean of all keys, at zero.
    """
    rigid = FrameModel(scale=0.0, shear=0.0, smooth=20.0, smooth_length=60.0, local=0.0, point_noise=10.0)
    places = {name: np.array([o.point for o in observations], float) for name, observations in scans.items()}
    patient = _solve_values(scans, places, rigid, origin_key)
    for _ in range(iterations):
        places = _mean_places(scans, patient, model)
        patient = _solve_values(scans, places, model, origin_key)
    return patient


def _mean_places(
    scans: Mapping[str, Sequence[Observation]], patient: AveragePatient, model: FrameModel
) -> dict[str, np.ndarray]:
    """Canonical position (n, 3) of every observation of every scan: the mean over scans of the mapped points."""
    sums: dict[str, np.ndarray] = {}
    for observations in scans.values():
        mapped = fit_frame(observations, patient, model)(np.array([o.point for o in observations]))
        for observation, place in zip(observations, mapped, strict=True):
            sums[observation.key] = sums.get(observation.key, 0.0) + np.append(place, 1.0)
    return {
        name: np.array([sums[o.key][:3] / sums[o.key][3] for o in observations]) for name, observations in scans.items()
    }


def _solve_values(
    scans: Mapping[str, Sequence[Observation]],
    places: Mapping[str, np.ndarray],
    model: FrameModel,
    origin_key: str | None,
) -> AveragePatient:
    """One generalized least squares estimate of all canonical values, with covariances between given places."""
    values: dict[tuple[str, int], float] = {}
    for axis in range(3):
        keys = sorted({o.key for observations in scans.values() for o in observations if o.axis == axis})
        index = {key: i for i, key in enumerate(keys)}
        normal = 1e-9 * np.eye(len(keys))
        right = np.zeros(len(keys))
        for scan, observations in scans.items():
            rows = [i for i, o in enumerate(observations) if o.axis == axis]
            names, points, sigma = _axis_data(observations, axis)
            where = places[scan][rows]
            covariance = model.covariance(where, where, axis, where.mean(0) if len(where) else np.zeros(3))
            covariance[np.diag_indices(len(names))] += sigma**2 + model.point_noise**2
            inverse = np.linalg.inv(covariance)
            columns = [index[name] for name in names]
            np.add.at(normal, np.ix_(columns, columns), inverse)
            np.add.at(right, columns, inverse @ points[:, axis])
        solved = np.linalg.solve(normal, right)
        shift = solved[index[origin_key]] if origin_key in index else solved.mean()
        values.update({(key, axis): float(solved[i] - shift) for key, i in index.items()})
    return AveragePatient(values)


def fit_frame(observations: Sequence[Observation], patient: AveragePatient, model: FrameModel) -> Frame:
    """The map of one scan to a given average patient. Raises ValueError when the scan shares no key with it."""
    center = scan_center(observations)
    known = [o for o in observations if (o.key, o.axis) in patient.values]
    all_points, all_weights, inverses, shift = [], [], [], np.zeros(3)
    for axis in range(3):
        names, points, sigma = _axis_data(known, axis)
        if not names:
            raise ValueError(f"Nothing is known of this scan along {AXES[axis].upper()}.")
        offsets = np.array([patient.values[name, axis] for name in names]) - points[:, axis]
        shift[axis] = offsets.mean()
        covariance = model.covariance(points, points, axis, center)
        covariance[np.diag_indices(len(names))] += sigma**2 + model.point_noise**2
        inverse = np.linalg.inv(covariance)
        all_points.append(points)
        all_weights.append(inverse @ (offsets - shift[axis]))
        inverses.append(inverse)
    return Frame(model, center, tuple(all_points), tuple(all_weights), tuple(inverses), shift)


def robust_frames(
    scans: Mapping[str, Sequence[Observation]], model: FrameModel, rounds: int = 3, origin_key: str | None = None
) -> tuple[AveragePatient, dict[str, list[Observation]]]:
    """Average patient and re-weighted observations: those that disagree with the rest of their scan lose weight.

    Each round compares every observation with its leave-one-out prediction; where they differ by more than 2.5
    standard deviations, its sigma is enlarged in proportion (organs out of place, structures cut by the scan's end).
    """
    kept = {name: list(observations) for name, observations in scans.items()}
    patient = average_patient(kept, model, origin_key=origin_key)
    for _ in range(rounds):
        for observations in kept.values():
            frame = fit_frame(observations, patient, model)
            for axis in range(3):
                rows = [i for i, o in enumerate(observations) if o.axis == axis]
                score = np.abs(frame.weights[axis]) / np.sqrt(np.diag(frame.inverses[axis]))
                for row, excess in zip(rows, score / 2.5, strict=True):
                    if excess > 1:
                        observations[row] = replace(observations[row], sigma=float(observations[row].sigma * excess))
        patient = average_patient(kept, model, iterations=2, origin_key=origin_key)
    return patient, kept


def point_observations(key: str, point: Sequence[float] | np.ndarray, sigma: float) -> list[Observation]:
    """The three observations of one landmark."""
    place = (float(point[0]), float(point[1]), float(point[2]))
    return [Observation(key, axis, place, sigma) for axis in range(3)]


def box_observations(
    name: str,
    minimum: Sequence[float] | np.ndarray,
    maximum: Sequence[float] | np.ndarray,
    sigma: float,
    cut: Sequence[str] = (),
) -> list[Observation]:
    """Faces of an organ's box (RAS mm), each at the face's center, and the center of uncut axes.

    cut: sides that the field of view cuts, of "rmin", "rmax", "amin", "amax", "smin", "smax".
    """
    low, high = np.asarray(minimum, float), np.asarray(maximum, float)
    middle = 0.5 * (low + high)
    observations = []
    for axis, letter in enumerate(AXES):
        for side, value in (("min", low), ("max", high)):
            if letter + side in cut:
                continue
            place = middle.copy()
            place[axis] = value[axis]
            observations.append(Observation(f"{name}.{letter}{side}", axis, tuple(place), sigma))
        if not {letter + "min", letter + "max"} & set(cut):
            observations.append(Observation(f"{name}.middle", axis, tuple(middle), sigma))
    return observations
