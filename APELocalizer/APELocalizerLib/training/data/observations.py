"""Named observations for the canonical frames, from annotation tables and from TotalSegmentator label maps."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from APELocalizerLib.core.base.errors import TrainingError
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
UNCERTAINTY_MM = 5.0
"""Of an annotation that does not say how certain it is."""
_SIDES = ("rmin", "rmax", "amin", "amax", "smin", "smax")


def read_landmarks(path: Path) -> dict[str, dict[str, tuple[np.ndarray, float]]]:
    """landmarks.csv -> {case: {name: (RAS mm (3,), uncertainty mm)}}; the column uncertainty_mm may be missing.

    Raises `TrainingError` for NaN and infinity, ValueError or TypeError for what is no number.
    """
    cases: dict[str, dict[str, tuple[np.ndarray, float]]] = defaultdict(dict)
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            *point, sigma = _finite(row, ("r_mm", "a_mm", "s_mm"), path)
            cases[row["case"]][row["name"]] = (np.array(point), sigma)
    return dict(cases)


def _finite(row: Mapping[str, str], columns: Sequence[str], path: Path) -> list[float]:
    """Numbers of a row and, last, its uncertainty in mm. Raises `TrainingError` for NaN and infinity."""
    values = [*(float(row[column]) for column in columns), float(row.get("uncertainty_mm") or UNCERTAINTY_MM)]
    if not np.isfinite(values).all():
        raise TrainingError(
            f"In “{path}”, a coordinate or the uncertainty of “{row['name']}” of “{row['case']}” is not a finite "
            "number; correct that line or remove it."
        )
    return values


def annotation_observations(folder: Path) -> dict[str, list[Observation]]:
    """All observations of annotations/landmarks.csv and annotations/boxes.csv, by case."""
    cases: dict[str, list[Observation]] = defaultdict(list)
    for case, points in read_landmarks(folder / "landmarks.csv").items():
        for name, (point, sigma) in points.items():
            cases[case] += point_observations(name, point, sigma)
    for case, sides in read_box_observations(folder / "boxes.csv").items():
        cases[case] += sides
    return dict(cases)


def read_box_observations(path: Path) -> dict[str, list[Observation]]:
    """Observations of the boxes of boxes.csv, by case; the columns uncertainty_mm and cut_sides may be missing.

    Raises as `read_landmarks` does.
    """
    cases: dict[str, list[Observation]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            *sides, sigma = _finite(row, _SIDES, path)
            cut = [side for side in (row.get("cut_sides") or "").split(";") if side]
            cases[row["case"]] += box_observations(
                row["name"], sides[0::2], sides[1::2], float(np.hypot(sigma, 6.0)), cut
            )
    return dict(cases)


class LabelMap:
    """A label map (i, j, k) with its grid, and helpers in RAS mm. The grid's axes must be the RAS axes up to sign."""

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


def label_observations(label_map: LabelMap) -> list[Observation]:
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


def label_landmarks(label_map: LabelMap) -> list[Observation]:
    """The landmarks of the annotation protocol, read from whole structures of a label map."""
    observations: list[Observation] = []

    def add(name: str, point: np.ndarray | None, sigma: float) -> None:
        if point is not None:
            observations.extend(point_observations(name, point, sigma))

    def whole(side: str, *names: str) -> np.ndarray | None:
        mask = label_map.mask(*names)
        if mask is None or np.count_nonzero(mask) < 30:
            return None
        mask = _largest(mask)
        cut = label_map.cut_sides(mask)
        return None if side in cut or (side == "" and cut) else label_map.points(mask)

    up, down = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
    for side in ("right", "left"):
        for end, direction, limit in (("upper", up, "smax"), ("lower", down, "smin")):
            points = whole(limit, f"kidney_{side}")
            add(f"kidney_{side}_{end}_pole", None if points is None else _extreme(points, direction, 1.0), 3.0)
        points = whole("smax", *_LUNGS[f"lung_{side}"])
        add(f"lung_apex_{side}", None if points is None else _extreme(points, up, 1.0), 4.0)
        points = whole("smax", f"hip_{side}")
        add(f"iliac_crest_top_{side}", None if points is None else _extreme(points, up, 4.0), 5.0)
        add(f"femoral_head_center_{side}", _femoral_head(whole("smax", f"femur_{side}"), side), 5.0)
    for name, structure in (("bladder_center", "urinary_bladder"),):
        points = whole("", structure)
        add(name, None if points is None else points.mean(0), 6.0)
    points = whole("smin", "liver")
    add("liver_inferior_tip", None if points is None else _extreme(points, down, 1.0), 5.0)
    points = whole("", "heart")
    add("heart_apex", None if points is None else _extreme(points, (-0.6, 0.55, -0.58), 4.0), 7.0)
    points = whole("smax", "sternum")
    add("suprasternal_notch", None if points is None else _notch(points), 4.0)
    points = whole("smin", "sternum")
    add("xiphoid_tip", None if points is None else _extreme(points, down, 3.0), 8.0)
    if {"iliac_artery_left", "iliac_artery_right"} <= label_map.names:
        points = whole("smin", "aorta")
        add("aortic_bifurcation", None if points is None else _extreme(points, down, 4.0), 5.0)
    if "brachiocephalic_trunk" in label_map.names:
        points = whole("smax", "aorta")
        add("aortic_arch_top", None if points is None else _extreme(points, up, 3.0), 4.0)
    points = whole("", "vertebrae_S1")
    add("sacral_promontory", None if points is None else _extreme(points, (0.0, 0.75, 0.66), 3.0), 6.0)
    add("pubic_symphysis_top", _symphysis(label_map), 6.0)
    for side, structure in (("right", "liver"),):
        points = whole("smax", structure)
        add(
            f"diaphragm_dome_{side}",
            None if points is None else _extreme(points[points[:, 0] > np.median(points[:, 0])], up, 3.0),
            7.0,
        )
    return observations


def _femoral_head(points: np.ndarray | None, side: str) -> np.ndarray | None:
    """Center of the femoral head: the medial half of the upper 46 mm of a femur that is seen from its top."""
    if points is None or np.ptp(points[:, 2]) < 60:
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


def _symphysis(label_map: LabelMap) -> np.ndarray | None:
    """Upper edge of the pubic symphysis: the highest hip-bone voxels near the midline in front."""
    left, right = label_map.mask("hip_left"), label_map.mask("hip_right")
    if left is None or right is None or "smin" in label_map.cut_sides(left | right):
        return None
    points = label_map.points(left | right)
    middle = 0.5 * (points[:, 0].min() + points[:, 0].max())
    front = 0.5 * (points[:, 1].min() + points[:, 1].max())
    near = points[(np.abs(points[:, 0] - middle) < 14) & (points[:, 1] > front)]
    return _extreme(near, (0.0, 0.0, 1.0), 2.0) if len(near) > 20 else None
