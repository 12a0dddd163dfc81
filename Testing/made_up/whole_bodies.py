"""Bodies of simple shapes from head to knee, by which the ends of the trunk can be told."""

import numpy as np

from APELocalizerLib.core.scan.scan import Scan

AIR, FAT, MUSCLE, LUNG, BONE, MARROW = -1000.0, -100.0, 45.0, -840.0, 500.0, 150.0

HEAD, NECK, SHOULDER, LUNGS, ABDOMEN, PELVIS, THIGH, KNEE = "head neck shoulder lungs abdomen pelvis thigh knee".split()
LENGTHS_MM = {HEAD: 200, NECK: 90, SHOULDER: 40, LUNGS: 240, ABDOMEN: 190, PELVIS: 190, THIGH: 300, KNEE: 100}
"""Parts of the body, from head to foot."""

SPACING_MM = 4.0


def whole_body(
    first: str = HEAD, last: str = KNEE, arms_up: bool = False, seed: int = 0
) -> tuple[Scan, dict[str, float]]:
    """A scan that shows the body from one part to another, and the S mm at which each part of it ends."""
    parts = list(LENGTHS_MM)
    parts = parts[parts.index(first) : parts.index(last) + 1]
    slices = [(part, t) for part in parts for t in np.linspace(0, 1, round(LENGTHS_MM[part] / SPACING_MM))]
    columns, rows = np.arange(-240, 240, SPACING_MM), np.arange(-180, 200, SPACING_MM)
    left, back = np.meshgrid(columns, rows)
    voxels = np.stack([_slice(part, t, left, back, arms_up) for part, t in slices])
    voxels += np.random.default_rng(seed).normal(0, 12, voxels.shape)
    top = 0.0
    grid = np.array([[-SPACING_MM, 0, 0, 240], [0, -SPACING_MM, 0, 180], [0, 0, -SPACING_MM, top], [0, 0, 0, 1]])
    ends = {part: -SPACING_MM * max(k for k, (name, _) in enumerate(slices) if name == part) for part in parts}
    return Scan(voxels.transpose(2, 1, 0).round().astype(np.int16), grid, "body"), ends


def _slice(part: str, t: float, left: np.ndarray, back: np.ndarray, arms_up: bool) -> np.ndarray:
    hu = np.full(left.shape, AIR)
    hu[(np.abs(left) < 230) & (np.abs(back - 165) < 5)] = 60  # the table
    arm = 190 if part in (LUNGS, ABDOMEN, PELVIS) else 130
    if arms_up == (part in (HEAD, NECK, SHOULDER)) and part not in (THIGH, KNEE):
        for side in (-1, 1):
            hu[np.hypot(left - side * arm, back - 20) < 40] = MUSCLE
            hu[np.hypot(left - side * arm, back - 20) < 10] = BONE
    if part in (THIGH, KNEE):
        return _legs(hu, part, left, back)
    width, depth = {HEAD: (75, 95), NECK: (60, 60), SHOULDER: (120 + 40 * t, 90)}.get(part, (165, 115))
    radius = np.hypot(left / width, back / depth)
    hu[radius < 1], hu[radius < 0.9] = FAT, MUSCLE
    _fill(hu, part, t, left, back, radius)
    return hu


def _fill(hu: np.ndarray, part: str, t: float, left: np.ndarray, back: np.ndarray, radius: np.ndarray) -> None:
    """Bones, lungs and airways of the head and the trunk."""
    if part == HEAD:
        hu[(radius < 0.95) & (radius > 0.85)] = BONE
        if t > 0.5:
            hu[np.hypot(left, back + 45) < 22] = AIR  # mouth
    if part == NECK:
        hu[np.hypot(left, back + 10) < 9] = AIR
    if part == LUNGS:
        for side in (-1, 1):
            hu[
                np.hypot((left - side * 80) / (60 * min(1.0, 0.35 + 2 * t)), back / (85 * min(1.0, 0.35 + 2 * t))) < 1
            ] = LUNG
    if part == PELVIS:
        for side in (-1, 1):
            wing = np.hypot((left - side * 100) / 35, (back - 10) / 55)
            hu[(wing < 1) & (wing > 0.35)] = BONE
        bone = (0, 60) if t < 0.55 else (0, -70) if t > 0.8 else None  # sacrum, then a gap, then the pubis
        if bone:
            hu[np.hypot(left, back - bone[1]) < 22] = BONE
    elif part != HEAD:
        hu[np.hypot(left, back - 60) < 20] = BONE


def _legs(hu: np.ndarray, part: str, left: np.ndarray, back: np.ndarray) -> np.ndarray:
    for side in (-1, 1):
        radius = np.hypot(left - side * 85, back)
        hu[radius < 75], hu[radius < 62] = FAT, MUSCLE
        if part == KNEE:
            hu[np.hypot((left - side * 65) / 45, back / 35) < 1] = BONE
        hu[radius < 17], hu[radius < 8] = BONE, FAT
    return hu


def with_head(scan: Scan) -> Scan:
    """A trunk's scan, stored along right, anterior and superior, with a neck and a head of simple shapes above it."""
    i, j = (np.arange(count) for count in scan.voxels.shape[:2])
    top = scan.voxels[:, :, -1] > FAT
    middle = [np.median(np.nonzero(top)[axis]) for axis in (0, 1)]
    left, back = np.meshgrid((middle[0] - i) * scan.spacing[0], (middle[1] - j) * scan.spacing[1], indexing="ij")
    slices = [
        _slice(part, t, left, back, arms_up=False)
        for part in (NECK, HEAD)
        for t in np.linspace(1, 0, round(LENGTHS_MM[part] / scan.spacing[2]))
    ]
    head = np.stack(slices, axis=2) + np.random.default_rng(0).normal(0, 12, (*left.shape, len(slices)))
    return Scan(np.concatenate([scan.voxels, head.astype(np.int16)], axis=2), scan.ijk_to_ras, scan.name)
