"""Which part of a scan shows the trunk: neck and head above it, and legs below, are left out before embedding.

The network has seen trunks only. Where the jaw or the thighs are in view, its coordinates fold: a place in the neck
gets the numbers of one in the chest, and places far inside the trunk move, too. So a scan is cut a little above the
lungs and a little below the pelvis. Both ends are recognized by anatomy, so that a scan that ends within the trunk, as
most do, is never cut, whether the arms are raised or not.
"""

from dataclasses import dataclass

import numpy as np

from APELocalizerLib.core.base.geometry import spacing_of, subgrid_affine
from APELocalizerLib.core.preparation.body import body_mask
from APELocalizerLib.core.preparation.orientation import flipped
from APELocalizerLib.core.scan.scan import Scan

LOOK_MM = 5.0
"""Voxels are looked at in steps of about this."""

AIR_HU, TISSUE_HU, BONE_HU = -500.0, -300.0, 180.0
LUNG_HU = (-980.0, -600.0)

LUNG_CM2 = 4.0
"""A slice shows lungs if so much of it is surrounded by lung; the trachea holds air, which is darker."""

LARGEST_LUNG_CM2 = 40.0
"""Somewhere, the lungs of an adult are larger than this; bowel gas and the mouth are not."""

SHORTEST_LUNG_MM = 24.0
"""Lungs fill so much of the body's length without a gap; the mouth and what lies around the patient do not."""

ABOVE_LUNGS_MM, MOST_ABOVE_LUNGS_MM = 50.0, 70.0
"""A scan that reaches further above the lungs than the second is cut at the first: above lie jaw, chin and mouth."""

MIDLINE_MM = 30.0
"""Pubis, sacrum and spine lie this near to the midline."""

MIDLINE_BONE_CM2 = 1.0
"""A slice with less bone near the midline is one of the thighs, or of the gap between coccyx and pubis …"""

PELVIS_CM2, THIGH_SHARE = 25.0, 0.42
"""… which differ in the bone at the sides: two femoral shafts have less than this share of the pelvis's largest."""

FEMUR_CM2 = 1.5
"""Bone on either side of most slices of the thighs."""

BELOW_PELVIS_MM, MOST_BELOW_PELVIS_MM = 20.0, 40.0
"""A scan that shows more of the thighs than the second is cut at the first."""

SMALLEST_TRUNK_MM = 100.0
"""If less than this would remain, nothing is left out."""


@dataclass(frozen=True)
class Ends:
    """Lengths in mm at the head end and at the foot end of a scan that show something other than the trunk."""

    above_mm: float = 0.0
    below_mm: float = 0.0

    @property
    def warning(self) -> str:
        """What was left out, in a sentence; empty if nothing was."""
        ends = [
            f"the {end} {length / 10:.0f} cm ({what})"
            for end, length, what in (("top", self.above_mm, "neck and head"), ("bottom", self.below_mm, "legs"))
            if length
        ]
        return f"Landmarks are found in the trunk only; left out: {' and '.join(ends)} of the scan." if ends else ""


def cut_to_trunk(scan: Scan) -> tuple[Scan, Ends]:
    """The part of a scan that shows the trunk, with the scan's voxels and grid, and what was left out.

    The very same scan is returned where nothing is left out.
    """
    voxels, grid_to_ras = flipped(scan.voxels, scan.ijk_to_ras)
    step_mm = float(spacing_of(grid_to_ras)[2])
    ends = ends_of(voxels, spacing_of(grid_to_ras))
    above, below = (round(length / step_mm) for length in (ends.above_mm, ends.below_mm))
    if above + below == 0:
        return scan, Ends()
    ends = Ends(above * step_mm, below * step_mm)
    kept = voxels[:, :, above : voxels.shape[2] - below]
    start = np.array([0.0, 0.0, above])
    return Scan(kept, subgrid_affine(grid_to_ras, start, np.ones(3)), scan.name, scan.warnings), ends


def ends_of(voxels: np.ndarray, spacing: np.ndarray) -> Ends:
    """The ends of a scan, HU, axes (P, L, I), that lie beyond the trunk. `spacing`: mm along these axes."""
    steps = np.maximum(1, np.round(LOOK_MM / np.asarray(spacing))).astype(int)
    stack = np.asarray(voxels[:: steps[0], :: steps[1], :: steps[2]], dtype=np.float32).transpose(2, 0, 1)
    row_mm, column_mm, slice_mm = spacing * steps
    if min(stack.shape) < 3:
        return Ends()
    smooth = _smoothed(_smoothed(stack, 1), 2)
    body = body_mask(stack < AIR_HU)
    cm2 = row_mm * column_mm / 100.0
    lungs_cm2 = _lungs(smooth, body) * cm2
    if lungs_cm2.max() < LARGEST_LUNG_CM2:
        lungs_cm2 = _lungs(smooth, _between_tissue(smooth)) * cm2
    above = _above_lungs(lungs_cm2, slice_mm) * slice_mm
    below = _below_pelvis(_bone(smooth, body, column_mm) * cm2, lungs_cm2, slice_mm) * slice_mm
    above = above - ABOVE_LUNGS_MM if above > MOST_ABOVE_LUNGS_MM else 0.0
    below = max(0.0, below - BELOW_PELVIS_MM)
    if len(stack) * slice_mm - above - below < SMALLEST_TRUNK_MM:
        return Ends()
    return Ends(above, below)


def _lungs(smooth: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Pixels (slices,) within the lungs: those that have lung on all sides."""
    lung = (smooth > LUNG_HU[0]) & (smooth < LUNG_HU[1]) & body
    lung[:, [0, -1]], lung[:, :, [0, -1]] = False, False
    for axis in (1, 2):
        lung = lung & np.roll(lung, 1, axis) & np.roll(lung, -1, axis)
    return lung.sum(axis=(1, 2))


def _between_tissue(smooth: np.ndarray) -> np.ndarray:
    """Where there is tissue in front and behind, as in lungs that the field of view cuts at the side; bool."""
    tissue = smooth > TISSUE_HU
    in_front = np.logical_or.accumulate(tissue, axis=1)
    return in_front & np.logical_or.accumulate(tissue[:, ::-1], axis=1)[:, ::-1]


def _above_lungs(lungs_cm2: np.ndarray, slice_mm: float) -> int:
    """Number of slices above the lungs; 0 without lungs."""
    if lungs_cm2.max() < LARGEST_LUNG_CM2:
        return 0
    count = int(np.ceil(SHORTEST_LUNG_MM / slice_mm))
    shows = np.lib.stride_tricks.sliding_window_view(lungs_cm2 >= LUNG_CM2, min(count, len(lungs_cm2))).all(axis=1)
    return int(shows.argmax())


def _bone(smooth: np.ndarray, body: np.ndarray, column_mm: float) -> np.ndarray:
    """Pixels (3, slices) of bone: right of the body's midline, near it, and left of it."""
    tissue = body & (smooth > TISSUE_HU)
    columns, number = tissue.sum(axis=1), np.arange(tissue.shape[2])
    middle = (columns * number).sum(axis=1) / np.maximum(columns.sum(axis=1), 1)
    bone = ((smooth > BONE_HU) & tissue).sum(axis=1)
    offset = (number - middle[:, None]) * column_mm
    return np.stack(
        [
            (bone * part).sum(axis=1)
            for part in (offset <= -MIDLINE_MM, np.abs(offset) < MIDLINE_MM, offset >= MIDLINE_MM)
        ]
    )


def _below_pelvis(bone_cm2: np.ndarray, lungs_cm2: np.ndarray, slice_mm: float) -> int:
    """Number of slices from the first that shows thighs only; 0 where the scan ends within the trunk."""
    right, midline, left = bone_cm2
    sides = right + left
    lungs = np.flatnonzero(lungs_cm2 > LARGEST_LUNG_CM2 / 2)
    is_trunk = (midline >= MIDLINE_BONE_CM2) & (np.arange(len(sides)) > (lungs[-1] if len(lungs) else -1))
    pelvis = int(np.where(is_trunk, sides, 0.0).argmax())
    if not is_trunk[pelvis] or min(right[pelvis], left[pelvis]) < PELVIS_CM2 / 2:
        return 0
    thigh = (midline < MIDLINE_BONE_CM2) & (sides < THIGH_SHARE * sides[pelvis]) & (np.minimum(right, left) > FEMUR_CM2)
    count = int(np.ceil(MOST_BELOW_PELVIS_MM / slice_mm))
    if len(thigh) - pelvis <= count:
        return 0
    shows = np.lib.stride_tricks.sliding_window_view(thigh[pelvis:], count).all(axis=1)
    return len(thigh) - pelvis - int(shows.argmax()) if shows.any() else 0


def _smoothed(stack: np.ndarray, axis: int) -> np.ndarray:
    """Mean over three neighbors along an axis; the borders are repeated."""
    values = np.moveaxis(stack, axis, 0)
    total = values.copy()
    total[1:] += values[:-1]
    total[:-1] += values[1:]
    total[[0, -1]] += values[[0, -1]]
    total /= np.float32(3)
    return np.moveaxis(total, 0, axis)
