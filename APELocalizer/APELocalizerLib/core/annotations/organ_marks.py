"""What is known of an organ on one scan, from its box in a table or from its voxels in a label map. RAS mm."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import SimpleITK as sitk

from APELocalizerLib.core.annotations.extreme_points import extreme_points_of_mask, is_cut
from APELocalizerLib.core.base.geometry import Box, apply_affine

MOST_VOXELS = 50_000
"""An organ with more voxels than this is thinned regularly to measure recall: it changes in the fourth digit."""

CUT_VOXELS = 1.5
"""A box whose side lies within this many voxels of the border of the field of view is cut by it."""


class MarkRules(Protocol):
    """What the papers leave open about an organ's marks; `evaluation.protocol` explains the choices."""

    @property
    def center(self) -> str:
        """Center of an organ: "mass", "inside" or "box"."""

    @property
    def edge_voxel(self) -> str:
        """Extreme point in an extreme slice: "middle" or "center"."""

    @property
    def components(self) -> str:
        """Parts of an organ that count: "all" or "largest"."""

    @property
    def box_ends(self) -> str:
        """Box around the voxels' "centers" or "edges"."""


@dataclass(frozen=True, eq=False)
class OrganMarks:
    """An organ on one scan.

    `center` (3,) and `edges` (6, 3) in the order rmin, rmax, amin, amax, smin, smax; `voxels` (n, 3) are places spread
    evenly over the organ. All three are None for an organ of which only the box is known.
    """

    box: Box
    cut: tuple[str, ...] = ()
    uncertainty_mm: float = 0.0
    center: np.ndarray | None = None
    edges: np.ndarray | None = None
    voxels: np.ndarray | None = None

    @property
    def has_mask(self) -> bool:
        """Whether it comes from a label map."""
        return self.edges is not None


def side_centers(box: Box) -> np.ndarray:
    """Centers (6, 3) of a box's faces, in the order of an organ's extreme points."""
    faces = np.repeat(box.center[None], 6, axis=0)
    for axis in range(3):
        faces[2 * axis, axis], faces[2 * axis + 1, axis] = box.minimum[axis], box.maximum[axis]
    return faces


def marks_of_box(box: Box, cut: tuple[str, ...], sigma: float, view: Box, spacing: np.ndarray) -> OrganMarks:
    """Marks from a table's box; sides at the border of the field of view `view` count as cut too."""
    margin = CUT_VOXELS * np.asarray(spacing)
    near = np.array([np.subtract(box.minimum, view.minimum) < margin, np.subtract(view.maximum, box.maximum) < margin])
    sides = [f"{axis}{end}" for axis in "ras" for end in ("min", "max")]
    at_border = [side for side, is_near in zip(sides, near.T.ravel(), strict=True) if is_near]
    return OrganMarks(box, tuple(side for side in sides if side in {*cut, *at_border}), sigma)


def marks_of_mask(mask: np.ndarray, ijk_to_ras: np.ndarray, view: Box, rules: MarkRules) -> OrganMarks | None:
    """Marks from an organ's mask (i, j, k); None if it is empty."""
    if not mask.any():
        return None
    if rules.components == "largest":
        mask = largest_component(mask)
    low, high = (f(axis=0) for f in (np.argwhere(mask).min, np.argwhere(mask).max))
    part = tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
    grid = np.array(ijk_to_ras, dtype=np.float64)
    grid[:3, 3] = apply_affine(ijk_to_ras, low[None])[0]
    mask = mask[part]
    voxels = apply_affine(grid, np.argwhere(mask))
    edges = extreme_points_of_mask(mask, grid) if rules.edge_voxel == "middle" else _central_extreme_points(mask, grid)
    box = Box.around(voxels)
    if rules.box_ends == "edges":
        half = np.abs(grid[:3, :3]).sum(axis=1) / 2
        box = Box(tuple(np.array(box.minimum) - half), tuple(np.array(box.maximum) + half))
    center = {"mass": voxels.mean(axis=0), "inside": _nearest(voxels, voxels.mean(axis=0)), "box": box.center}
    step = -(-len(voxels) // MOST_VOXELS)
    cut = ("border",) if is_cut(view, edges, grid) else ()
    return OrganMarks(box, cut, 0.0, center[rules.center], edges, voxels[::step])


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask (i, j, k) whose voxels touch by their faces."""
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    return parts == np.bincount(parts.ravel())[1:].argmax() + 1


def _central_extreme_points(mask: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """As `extreme_points_of_mask`, but with the voxel nearest to the extreme slice's center of mass."""
    extremes = extreme_points_of_mask(mask, grid)
    to_index = np.linalg.inv(grid)
    indices = np.argwhere(mask)
    points = []
    for number, extreme in enumerate(np.rint(apply_affine(to_index, extremes)).astype(int)):
        axis = int(np.argmax(np.abs(grid[number // 2, :3]) / np.linalg.norm(grid[:3, :3], axis=0)))
        in_slice = apply_affine(grid, indices[indices[:, axis] == extreme[axis]])
        points.append(_nearest(in_slice, in_slice.mean(axis=0)))
    return np.array(points)


def _nearest(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    return points[np.linalg.norm(points - to, axis=1).argmin()]
