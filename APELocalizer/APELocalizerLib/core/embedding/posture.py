"""Whether a body lies turned against the scan's axes, and reading it upright all the same.

The network has seen patients who lie straight, with the spine at the back of the scan. Where the header of a file is
wrong, or a patient lies turned in it, the coordinates look plausible and are wrong: of a body turned by 180 degrees,
right and left are exchanged without a sign. Three things tell how a body lies: the spine, which is seen at nearly every
height, says where the back is; the plane that mirrors right and left says how the body is rolled and tilted to one side
(`symmetry`); and the coordinates themselves, which a turned body follows only in part, say how it nods forward or
backward. What they suspect is checked by embedding the body upright: only if the coordinates then follow the body
clearly better was it turned.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.geometry import Box, subgrid_affine
from APELocalizerLib.core.embedding.coarse_ct import SPACING_MM, WINDOW_HU, CoarseCT
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap
from APELocalizerLib.core.embedding.symmetry import lean_of, turn_of
from APELocalizerLib.core.scan.scan import Scan

BONE_HU = (150.0, 300.0)
"""HU at which a cell begins to count as bone, and at which it counts in full."""

SPINE_CELLS, SPINE_PART, SPINE_SHARE = 7, 0.7, 0.1
"""Width of the column that holds the spine, the part of all heights at which it is seen, and how much bone it is."""

BACK_DEGREES = 50.0
"""A spine that lies further than this from the back says where the back is; else, the mirror plane alone does."""

SUSPECT_DEGREES = 7.5
"""The mirror plane of a patient who lies straight is at most about 6 degrees off."""

SUSPECT_NOD_DEGREES, ODD_MM = 5.0, 6.2
"""A nod is looked for if the coordinates nod by more than this, or are off an affine map of the body by more."""

NODS, HALF_A_STEP = (-45.0, -30.0, -15.0, 15.0, 30.0, 45.0), 7.5
"""Nods in degrees that are taken back to see whether the coordinates follow the body better, and then half a step."""

NODS_BETTER, ROLLS_BETTER, LEANS_AS_WELL = 0.75, 0.84, 1.02
"""Read upright, the coordinates are off an affine map of the body by less than the first share if a body nods, the
second if its spine is not at its back, and the third if its mirror plane is turned: the plane says nearly enough."""

READ_MM = 2.5
"""Voxels up to which a scan is thinned to look for the pose."""

CELLS, FITS, LEAST_MM = 6000, 12, 5.0
"""Cells that the affine map is fitted to, how often, down-weighting outliers, and what is no outlier; mm."""


@dataclass(frozen=True, eq=False)
class Pose:
    """How a body lies: `rotation` (3, 3), RAS, turns it upright. `degrees` from posterior toward left, for a text."""

    rotation: np.ndarray
    roll: float = 0.0

    @property
    def degrees(self) -> float:
        """The angle of the whole turn."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1.0) / 2.0, -1.0, 1.0))))

    def after_nod(self, degrees: float) -> "Pose":
        """This pose, and then a nod about the right-left axis taken back."""
        angle = np.radians(-degrees)
        nod = np.eye(3)
        nod[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        return Pose(nod @ self.rotation, self.roll)


STRAIGHT = Pose(np.eye(3))
"""As most patients lie."""


def suspected_pose(coarse_ct: CoarseCT) -> Pose:
    """How the body seems to lie, apart from nods; `STRAIGHT` where nothing speaks against that."""
    spine = spine_turn(coarse_ct)
    lean = lean_of(coarse_ct, spine if abs(spine) > BACK_DEGREES else 0.0)
    return Pose(turn_of(lean.roll, lean.tilt).T, lean.roll) if lean.degrees > SUSPECT_DEGREES else STRAIGHT


def nod_degrees(embedding_map: EmbeddingMap) -> float:
    """How far the coordinates nod against the scan, degrees about the right-left axis."""
    left, _, right = np.linalg.svd(_affine(embedding_map)[0][:3].T)
    rotation = left @ right
    return float(np.degrees(np.arctan2(rotation[2, 1] - rotation[1, 2], rotation[1, 1] + rotation[2, 2])))


def better_pose(coarse_ct: CoarseCT, as_scanned: EmbeddingMap, read: Callable[[Pose], EmbeddingMap]) -> Pose:
    """The pose in which the coordinates follow the body best; `STRAIGHT` if none is clearly better than as scanned.

    `read` embeds the body upright, given how it lies; it is asked only if something suggests that the body is turned.
    """
    suspected = suspected_pose(coarse_ct)
    if suspected is STRAIGHT and not _is_odd(as_scanned):
        return STRAIGHT
    straight = _Reading(STRAIGHT, read(STRAIGHT))
    start = straight if suspected is STRAIGHT else _Reading(suspected, read(suspected))
    share = LEANS_AS_WELL if abs(suspected.roll) <= BACK_DEGREES else ROLLS_BETTER
    best = start if start.misfit_mm < share * straight.misfit_mm else straight
    if _is_odd(start.seen):
        nods = [_Reading(pose := start.pose.after_nod(nod), read(pose)) for nod in NODS]
        least = min([start, *nods], key=lambda one: one.misfit_mm)
        near = [_Reading(pose := least.pose.after_nod(step), read(pose)) for step in (-HALF_A_STEP, HALF_A_STEP)]
        least = min([least, *near], key=lambda one: one.misfit_mm)
        best = least if least.misfit_mm < NODS_BETTER * best.misfit_mm else best
    return best.pose


@dataclass(frozen=True, eq=False)
class _Reading:
    """A body that is `seen` upright, given its pose."""

    pose: Pose
    seen: EmbeddingMap

    @cached_property
    def misfit_mm(self) -> float:
        """How badly the coordinates follow the body."""
        return misfit_mm(self.seen)


def _is_odd(embedding_map: EmbeddingMap) -> bool:
    """Whether the coordinates follow the body less well than those of patients who lie straight."""
    return abs(nod_degrees(embedding_map)) > SUSPECT_NOD_DEGREES or misfit_mm(embedding_map) > ODD_MM


def spine_turn(coarse_ct: CoarseCT) -> float:
    """How far the spine lies from the back, -180..180 degrees about S, toward left; 0 where no spine is seen."""
    low, high = WINDOW_HU
    hu = low + (high - low) * coarse_ct.codes.astype(np.float32) / 255.0
    bone = np.clip((hu - BONE_HU[0]) / (BONE_HU[1] - BONE_HU[0]), 0.0, 1.0)
    if min(bone.shape[:2]) < SPINE_CELLS:
        return 0.0
    share = _boxed(bone, SPINE_CELLS) / SPINE_CELLS**2
    often = np.partition(share, (at := int((1.0 - SPINE_PART) * share.shape[2])), axis=2)[:, :, at]
    spine = np.array(np.unravel_index(int(_boxed(often, 3).argmax()), often.shape))
    if often[tuple(spine)] < SPINE_SHARE:
        return 0.0
    posterior, left = (spine - _middle(coarse_ct.codes > 0)) * SPACING_MM
    return float(np.degrees(np.arctan2(left, posterior)))


def upright(scan: Scan, pose: Pose) -> tuple[Scan, np.ndarray]:
    """A scan of the same voxels whose header turns the body upright, and the matrix (4, 4) that does so."""
    turning, center = np.eye(4), scan.bounds().center
    turning[:3, :3] = pose.rotation
    turning[:3, 3] = center - pose.rotation @ center
    return Scan(scan.voxels, turning @ scan.ijk_to_ras, scan.name), turning


def thinned(scan: Scan) -> Scan:
    """A scan of fewer of the same voxels, fine enough to look for the pose."""
    steps = np.maximum(1, np.floor(READ_MM / scan.spacing + 0.01)).astype(int)
    voxels = scan.voxels[:: steps[0], :: steps[1], :: steps[2]]
    return Scan(voxels, subgrid_affine(scan.ijk_to_ras, np.zeros(3), steps.astype(float)), scan.name)


def turned_back(embedding_map: EmbeddingMap, turning: np.ndarray, field_of_view: Box) -> EmbeddingMap:
    """The map of an upright body in the place where the scan shows it; `field_of_view` is the scan's."""
    grid = np.linalg.inv(turning) @ embedding_map.grid_to_ras
    return replace(embedding_map, grid_to_ras=grid, field_of_view=field_of_view)


def coarse_ct_turned_back(coarse_ct: CoarseCT, turning: np.ndarray) -> CoarseCT:
    """The coarse CT of an upright body in the place where the scan shows it."""
    return CoarseCT(coarse_ct.codes, np.linalg.inv(turning) @ coarse_ct.grid_to_ras)


def misfit_mm(embedding_map: EmbeddingMap) -> float:
    """Median distance in mm of a map's coordinates from an affine map of the places in the body."""
    return float(np.median(_affine(embedding_map)[1]))


def sentence(pose: Pose) -> str:
    """What is said of a turned body."""
    degrees, roll = pose.degrees, abs(pose.roll)
    if roll > 60:
        how = "prone" if roll > 135 else "lying on its side"
    else:
        how = "rolled to one side" if roll > 0.7 * degrees else "lying askew"
    return (
        f"The body appears turned by about {degrees:.0f}° against the scan's axes (as if {how}), and was read "
        "upright. Check the orientation in the file; sizes of boxes are less accurate."
    )


def _affine(embedding_map: EmbeddingMap) -> tuple[np.ndarray, np.ndarray]:
    """The affine map (4, 3) from places in the body to a map's coordinates, and how far each is off it, mm."""
    cells = np.argwhere(embedding_map.body)
    values = embedding_map.values[embedding_map.body].astype(np.float64)
    if len(cells) > CELLS:
        chosen = np.random.default_rng(0).choice(len(cells), CELLS, replace=False)
        cells, values = cells[chosen], values[chosen]
    places = np.column_stack([embedding_map.to_ras(cells), np.ones(len(cells))])
    weights, away = np.ones(len(cells)), np.zeros(len(cells))
    affine = np.zeros((4, 3))
    for _ in range(FITS):
        weighted = (places * weights[:, None]).T
        affine = np.linalg.lstsq(weighted @ places, weighted @ values, rcond=None)[0]
        away = np.linalg.norm(values - places @ affine, axis=1)
        weights = 1.0 / (1.0 + (away / max(float(np.median(away)), LEAST_MM)) ** 2)
    return affine, away


def _middle(body: np.ndarray) -> np.ndarray:
    """Median over all heights of the body's center (p, l), in cells."""
    rows, columns = body.sum(axis=1), body.sum(axis=0)
    count = np.maximum(rows.sum(axis=0), 1)
    centers = [(np.arange(len(along))[:, None] * along).sum(axis=0) / count for along in (rows, columns)]
    shown = rows.sum(axis=0) > rows.sum(axis=0).max() / 10
    return np.array([np.median(center[shown]) for center in centers])


def _boxed(volume: np.ndarray, width: int) -> np.ndarray:
    """Sums over squares of `width` cells along the first two axes, 0 outside; the same shape."""
    half = width // 2
    for axis in (0, 1):
        pads = [(half + 1, half) if a == axis else (0, 0) for a in range(volume.ndim)]
        sums = np.moveaxis(np.cumsum(np.pad(volume, pads), axis=axis), axis, 0)
        volume = np.moveaxis(sums[width:] - sums[:-width], 0, axis)
    return volume
