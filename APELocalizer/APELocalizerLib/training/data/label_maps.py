"""Label maps in TotalSegmentator's names as observations for the average patient: boxes, centers and landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from APELocalizerLib.training.data.average_patient import Observation, box_observations, point_observations

LOOSE = {
    "small_bowel": 30.0, "colon": 25.0, "stomach": 14.0, "urinary_bladder": 12.0, "gallbladder": 10.0, "duodenum": 12.0,
    "pancreas": 8.0, "spleen": 6.0, "liver": 6.0, "heart": 5.0, "costal_cartilages": 12.0,
}  # fmt: skip
"""Box sides of soft or wandering organs are loose; uncertainty in mm added in quadrature."""
SKIPPED = {"autochthon_left", "autochthon_right", "spinal_cord", "skull", "brain", "humerus_left", "humerus_right"}
"""Structures without a meaningful extent (they leave most fields of view, or differ in how far they were drawn)."""
_LUNGS = {
    "lung_right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "lung_left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
}
VERTEBRAE = ("C7", *(f"T{n}" for n in range(1, 13)), *(f"L{n}" for n in range(1, 6)))
"""Levels whose bodies the annotation protocol names."""
_BODY_SIGMA_MM = 6.0
"""Uncertainty of a body's center that is read from a label map."""
_THICK = 0.6
"""A part of a structure is thick where it is at least so deep, against the deepest place of the structure."""
_FEWEST_VOXELS = 30
"""Of a structure that is taken for one."""


class OrganLabels:
    """A label map (P, L, I) with its grid and its labels' names; helpers in RAS mm.

    The grid's axes must be the RAS axes up to sign.
    """

    def __init__(self, labels: np.ndarray, ijk_to_ras: np.ndarray, names: Mapping[int, str]) -> None:
        self.labels, self.grid = labels, ijk_to_ras
        self.values = {name: value for value, name in names.items()}
        present = set(np.unique(labels).tolist())
        self.filled = labels > 0
        self.names = {name for name, value in self.values.items() if value in present}

    def mask(self, *names: str) -> np.ndarray | None:
        """The union of structures, or None when one is missing."""
        if not set(names) <= self.names:
            return None
        return np.isin(self.labels, [self.values[name] for name in names])

    def points(self, mask: np.ndarray) -> np.ndarray:
        """RAS mm (n, 3) of a mask's voxels."""
        return np.argwhere(mask) @ self.grid[:3, :3].T + self.grid[:3, 3]

    def _touches(self, mask: np.ndarray, axis: int, end: int) -> bool:
        """Does a mask reach the end of the grid or, along the body, of what has been labelled at all?"""
        if np.take(mask, end, axis=axis).any():
            return True
        if int(np.abs(self.grid[:3, axis]).argmax()) != 2:
            return False
        used = np.flatnonzero(self.filled.any(axis=tuple(a for a in range(3) if a != axis)))
        last = used[0] + 1 if end == 0 else used[-1] - 1
        near = slice(0, last + 1) if end == 0 else slice(last, None)
        return bool(np.moveaxis(mask, axis, 0)[near].any())

    def cut_sides(self, mask: np.ndarray) -> list[str]:
        """Sides on which a mask touches the edge of the grid."""
        cut = []
        for grid_axis in range(3):
            world_axis = int(np.abs(self.grid[:3, grid_axis]).argmax())
            ascending = self.grid[world_axis, grid_axis] > 0
            for end, upper in ((0, not ascending), (-1, ascending)):
                if self._touches(mask, grid_axis, end):
                    cut.append("ras"[world_axis] + ("max" if upper else "min"))
        return cut


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    return labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))


def _extreme(points: np.ndarray, direction: tuple[float, float, float], within: float = 3.0) -> np.ndarray:
    """Mean of the points within `within` mm of the extreme along a direction."""
    height = points @ np.asarray(direction, float)
    return points[height >= height.max() - within].mean(0)


def label_observations(label_map: OrganLabels) -> list[Observation]:
    """Boxes and centers of all whole structures, and the annotated landmarks that label maps can give."""
    observations: list[Observation] = []
    structures = {name: (name,) for name in sorted(label_map.names - SKIPPED)} | _LUNGS
    for name, parts in structures.items():
        mask = label_map.mask(*parts)
        if mask is None or np.count_nonzero(mask) < 30:
            continue
        mask = _largest(mask)
        points, cut = label_map.points(mask), label_map.cut_sides(mask)
        loose = LOOSE.get(name, 0.0)
        if len(cut) <= 2:
            sigma = float(np.sqrt(6.0**2 + loose**2 + (8.0 * bool(cut)) ** 2))
            observations += box_observations(name, points.min(0), points.max(0), sigma, cut)
        if not cut:
            observations += point_observations(f"{name}_center", points.mean(0), float(np.hypot(3.0, loose)))
    return observations + label_landmarks(label_map)


def label_landmarks(label_map: OrganLabels) -> list[Observation]:
    """The landmarks of the annotation protocol, read from whole structures of a label map."""
    *landmarks, dome = _landmarks_of(label_map)
    observations = [row for landmark in landmarks for row in landmark.observations(label_map)]
    if (symphysis := _symphysis(label_map)) is not None:
        observations += point_observations("pubic_symphysis_top", symphysis, 6.0)
    return observations + dome.observations(label_map) + _vertebral_bodies(label_map)


@dataclass(frozen=True)
class _Landmark:
    """A landmark that label maps can give: where it lies among the points (n, 3) of the structures it belongs to.

    whole: the side that must not be cut by the field of view, "" for all. sigma: 1-sigma uncertainty in mm.
    """

    name: str
    structures: tuple[str, ...]
    whole: str
    place: Callable[[np.ndarray], np.ndarray | None]
    sigma: float

    def observations(self, label_map: OrganLabels) -> list[Observation]:
        """Its three coordinates; none where the structures are missing or cut, or do not show it."""
        points = self._points(label_map)
        place = None if points is None else self.place(points)
        return [] if place is None else point_observations(self.name, place, self.sigma)

    def _points(self, label_map: OrganLabels) -> np.ndarray | None:
        """RAS mm (n, 3) of the structures' largest part; None where it is missing or cut."""
        mask = label_map.mask(*self.structures)
        if mask is None or np.count_nonzero(mask) < 30:
            return None
        mask = _largest(mask)
        cut = label_map.cut_sides(mask)
        return None if self.whole in cut or (self.whole == "" and cut) else label_map.points(mask)


def _landmarks_of(label_map: OrganLabels) -> list[_Landmark]:
    """What can be read from the structures of a label map, in the order in which it is observed."""
    up, down = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)

    def end(direction: tuple[float, float, float], within: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda points: _extreme(points, direction, within)

    def center(points: np.ndarray) -> np.ndarray:
        return points.mean(0)

    landmarks = []
    for side in ("right", "left"):
        kidney, lung = (f"kidney_{side}",), _LUNGS[f"lung_{side}"]
        landmarks += [
            _Landmark(f"kidney_{side}_upper_pole", kidney, "smax", end(up, 1.0), 3.0),
            _Landmark(f"kidney_{side}_lower_pole", kidney, "smin", end(down, 1.0), 3.0),
            _Landmark(f"lung_apex_{side}", lung, "smax", end(up, 1.0), 4.0),
            _Landmark(f"iliac_crest_top_{side}", (f"hip_{side}",), "smax", end(up, 4.0), 5.0),
            _Landmark(
                f"femoral_head_center_{side}", (f"femur_{side}",), "smax", partial(_femoral_head, side=side), 5.0
            ),
        ]
    landmarks += [
        _Landmark("bladder_center", ("urinary_bladder",), "", center, 6.0),
        _Landmark("liver_inferior_tip", ("liver",), "smin", end(down, 1.0), 5.0),
        _Landmark("heart_apex", ("heart",), "", end((-0.6, 0.55, -0.58), 4.0), 7.0),
        _Landmark("suprasternal_notch", ("sternum",), "smax", _notch, 4.0),
        _Landmark("xiphoid_tip", ("sternum",), "smin", end(down, 3.0), 8.0),
    ]
    if {"iliac_artery_left", "iliac_artery_right"} <= label_map.names:
        landmarks.append(_Landmark("aortic_bifurcation", ("aorta",), "smin", end(down, 4.0), 5.0))
    if "brachiocephalic_trunk" in label_map.names:
        landmarks.append(_Landmark("aortic_arch_top", ("aorta",), "smax", end(up, 3.0), 4.0))
    return [
        *landmarks,
        _Landmark("sacral_promontory", ("vertebrae_S1",), "", end((0.0, 0.75, 0.66), 3.0), 6.0),
        _Landmark("diaphragm_dome_right", ("liver",), "smax", _right_dome, 7.0),
    ]


def _right_dome(points: np.ndarray) -> np.ndarray:
    """Top of the right half of the liver."""
    return _extreme(points[points[:, 0] > np.median(points[:, 0])], (0.0, 0.0, 1.0), 3.0)


def _femoral_head(points: np.ndarray, side: str) -> np.ndarray | None:
    """Center of the femoral head: the medial half of the upper 46 mm of a femur that is seen from its top."""
    if np.ptp(points[:, 2]) < 60:
        return None
    head = points[points[:, 2] > points[:, 2].max() - 46]
    medial = -head[:, 0] if side == "right" else head[:, 0]
    head = head[medial > medial.max() - 46]
    return 0.5 * (head.min(0) + head.max(0))


def _notch(points: np.ndarray) -> np.ndarray:
    """Upper edge of the manubrium in its midline."""
    upper = points[points[:, 2] > points[:, 2].max() - 25]
    middle = 0.5 * (upper[:, 0].min() + upper[:, 0].max())
    return _extreme(upper[np.abs(upper[:, 0] - middle) < 5], (0.0, 0.0, 1.0), 1.0)


def _vertebral_bodies(label_map: OrganLabels) -> list[Observation]:
    """Centers of the bodies of all whole vertebrae, as the protocol names them ("vertebra_L1")."""
    observations: list[Observation] = []
    for level in VERTEBRAE:
        mask = label_map.mask(f"vertebrae_{level}")
        if mask is None or np.count_nonzero(mask) < _FEWEST_VOXELS:
            continue
        mask = _largest(mask)
        if not label_map.cut_sides(mask):
            observations += point_observations(f"vertebra_{level}", _thickest(label_map, mask), _BODY_SIGMA_MM)
    return observations


def _thickest(label_map: OrganLabels, mask: np.ndarray) -> np.ndarray:
    """RAS mm (3,) of the middle of a structure's thick part; of a vertebra its body, whose arch is much thinner."""
    corner, end = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
    inside = np.pad(mask[tuple(map(slice, corner, end))], 1)
    depth = ndimage.distance_transform_edt(inside, sampling=np.linalg.norm(label_map.grid[:3, :3], axis=0))
    middle = np.argwhere(depth >= _THICK * depth.max()).mean(0) + corner - 1
    return label_map.grid[:3, :3] @ middle + label_map.grid[:3, 3]


def _symphysis(label_map: OrganLabels) -> np.ndarray | None:
    """Upper edge of the pubic symphysis: the highest hip-bone voxels near the midline in front."""
    left, right = label_map.mask("hip_left"), label_map.mask("hip_right")
    if left is None or right is None or "smin" in label_map.cut_sides(left | right):
        return None
    points = label_map.points(left | right)
    middle = 0.5 * (points[:, 0].min() + points[:, 0].max())
    front = 0.5 * (points[:, 1].min() + points[:, 1].max())
    near = points[(np.abs(points[:, 0] - middle) < 14) & (points[:, 1] > front)]
    return _extreme(near, (0.0, 0.0, 1.0), 2.0) if len(near) > 20 else None
