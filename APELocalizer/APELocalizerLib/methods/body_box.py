"""The simplest baseline: the same fraction of the box around the body."""

import time

import numpy as np

from APELocalizerLib.core.base.geometry import Box, grid_corners, spacing_of, subgrid_affine
from APELocalizerLib.core.preparation.body import body_box
from APELocalizerLib.core.preparation.orientation import canonical_view
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.methods.method import SCAN
from APELocalizerLib.methods.transfer import Transfer

BODY_HU = -500.0
"""What is denser than this belongs to the body."""


class BodyBox(Transfer):
    """The same fraction of the box around the body, along each axis."""

    name = "body-box"

    def __init__(self) -> None:
        super().__init__()
        self._boxes: dict[str, Box] = {}

    def prepare(self, scan_id: str, scan: Scan) -> None:
        """Find the body."""
        start = time.perf_counter()
        self._boxes[scan_id] = body_bounds(scan)
        self.clock.add(SCAN, time.perf_counter() - start)

    def carry(self, support_id: str, target_id: str, points: np.ndarray) -> np.ndarray:
        """Positions (n, 3) at the same fractions of the target's box, RAS mm."""
        support_box, target_box = self._boxes[support_id], self._boxes[target_id]
        fractions = (points - support_box.minimum) / support_box.size
        return np.array(target_box.minimum) + fractions * target_box.size


def body_bounds(scan: Scan) -> Box:
    """Box around the body in a scan (the whole scan if there is no body), RAS mm."""
    voxels, grid = canonical_view(scan)
    body = body_box(voxels.transpose(2, 0, 1), spacing_of(grid)[[2, 0, 1]], BODY_HU)
    if body is None:
        return scan.bounds()
    part = (body[1], body[2], body[0])
    start = np.array([side.start for side in part], dtype=float)
    shape = tuple(side.stop - side.start for side in part)
    return Box.around(grid_corners(shape, subgrid_affine(grid, start, np.ones(3))))
