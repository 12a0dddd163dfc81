"""Control points: places that two scans share, sought from each scan on the other. Positions are RAS mm.

A lattice inside the body of one scan is looked up by its anatomical coordinates on the other, and moved to where the
image matches (`matching`); then the same is done the other way round. Places that the other scan does not show are left
out: their coordinates are not met there, or only at its border.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.progress import CancelCheck, Progress, report, sub_progress
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap, nearest_on_each
from APELocalizerLib.core.localization.matching import refine

CONTROL_POINTS = 220
"""Most places of each scan that are sought on the other one by the image; more take longer and gained nothing."""

LOOKED_UP = 1500
"""Places of each scan that are looked up by their coordinates, of which those in view on both scans are thinned out."""

CLOSEST_MM = 15.0
"""Least distance of the lattice's places, so that a small scan gets no more than it can tell apart."""

NEAR_MM = 12.0
"""A place is in view if the other scan has its coordinates, to within this distance."""

MARGIN_MM = 8.0
"""It also lies at least so far inside both fields of view: at a border others pile up."""


@dataclass(frozen=True, eq=False)
class ControlPoints:
    """Places `first` (n, 3) on one scan and `second` (n, 3) on the other, RAS mm, that should be the same.

    `spread_mm` (n,): how far apart the likely answers lay when the images were compared; NaN where they were not.
    """

    first: np.ndarray
    second: np.ndarray
    spread_mm: np.ndarray

    def __len__(self) -> int:
        return len(self.first)


def find_control_points(
    first: EmbeddingMap,
    second: EmbeddingMap,
    most: int = CONTROL_POINTS,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> ControlPoints:
    """At most `most` control points sought from each of two scans, those of the first scan before the second's.

    Without a coarse CT of both scans they stay where the coordinates point. Raises `Cancelled`.
    """
    maps = (first, second)
    report(progress, 0.0, "Comparing coordinates")
    lattices = [body_lattice(one_map, LOOKED_UP) for one_map in maps]
    searches = [(second, first.embedding_at(lattices[0][0])), (first, second.embedding_at(lattices[1][0]))]
    answers = nearest_on_each(searches, cancelled)
    starts, ends = [], []
    for here, there, (places, step_mm), answer in zip(maps, maps[::-1], lattices, answers, strict=True):
        inside = here.field_of_view.contains(places, margin=-MARGIN_MM)
        inside &= there.field_of_view.contains(answer.points_ras, margin=-MARGIN_MM)
        in_view = np.flatnonzero(inside & (answer.distances <= NEAR_MM))
        rows = in_view[thinned(places[in_view], step_mm, most)]
        starts.append(places[rows])
        ends.append(answer.points_ras[rows])
    from_first = len(starts[0])
    clicks, looked_up = np.concatenate(starts), np.concatenate(ends)
    support = np.repeat([0, 1], [from_first, len(clicks) - from_first])
    coarse_cts, number = [first.coarse_ct, second.coarse_ct], np.arange(len(clicks))
    moved, spread_mm = refine(
        coarse_cts, 1 - support, coarse_cts, number, support, clicks, looked_up, cancelled,
        progress=sub_progress(progress, 0.2, 1.0),
    )  # fmt: skip
    spread_mm = np.where(spread_mm > 0, spread_mm, np.nan)  # 0: nothing comparable was near
    return ControlPoints(
        np.concatenate([clicks[:from_first], moved[from_first:]]),
        np.concatenate([moved[:from_first], clicks[from_first:]]),
        spread_mm,
    )


def body_lattice(one_map: EmbeddingMap, count: int) -> tuple[np.ndarray, float]:
    """About `count` places (n, 3) on a lattice along R, A and S inside the body, and their distance in mm."""
    cell_mm3 = abs(float(np.linalg.det(one_map.grid_to_ras[:3, :3])))
    step_mm = max(CLOSEST_MM, float((one_map.body.sum() * cell_mm3 / count) ** (1 / 3)))
    low, high = np.array(one_map.field_of_view.minimum), np.array(one_map.field_of_view.maximum)
    counts = np.maximum(1, ((high - low) / step_mm).astype(int))
    axes = [
        middle + step_mm * (np.arange(size) - (size - 1) / 2)
        for middle, size in zip((low + high) / 2, counts, strict=True)
    ]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return places[one_map.is_body(places)], step_mm


def thinned(places: np.ndarray, step_mm: float, most: int) -> np.ndarray:
    """Rows of at most `most` of the places (n, 3), which lie `step_mm` apart: the most central one of every cube."""
    rows, cube_mm = np.arange(len(places)), step_mm
    while len(rows) > most:
        cube_mm *= max(1.05, 0.9 * (len(rows) / most) ** (1 / 3))
        cubes = np.rint(places / cube_mm)
        off_center = np.linalg.norm(places - cubes * cube_mm, axis=1)
        order = np.lexsort((off_center, *cubes.T))
        is_first = np.append(True, (np.diff(cubes[order], axis=0) != 0).any(axis=1))
        rows = np.sort(order[is_first])
    return rows
