"""Whether values can be Hounsfield units of a torso: refused if not, and a warning where they were cut off or scaled.

Judged on about 300 000 voxels, without padding: whatever value fills the place outside the reconstructed circle or the
body says nothing of the patient, and air in the room has it as well.
"""

import numpy as np

from APELocalizerLib.core.base.errors import ScanError

SAMPLE_VOXELS = 300_000
"""About as many voxels are looked at, regularly spaced."""

FAT_HU = -20.0
"""Fat and air lie below this in any CT of the torso, and nothing lies below it in label maps and most MR."""

AIR_HU = -1200.0
"""Nothing in a patient lies below this; noise in air seldom does."""

DENSE_HU = 1000.0
"""Only dense bone and metal lie above this."""

MINIMUM_SPREAD_HU = 100.0
"""Fat to muscle alone spans 150 HU; normalized images (0..1, z-scores) span less than this."""

LEAST_FAT_AND_AIR = 1e-3
"""Smallest share of voxels below fat."""

MOST_OUTLYING = 0.25
"""Largest share of voxels below air, and of voxels above dense bone."""

WINDOW_HU = (-900.0, 300.0)
"""The network looks at values from air to here; values cut off inside are lost to it."""

CUT_SHARES = (0.02, 2e-4)
"""Shares of voxels at the very lowest and the very highest value from which on a scan seems to be cut off there."""


def check_hounsfield(voxels: np.ndarray, name: str) -> tuple[str, ...]:
    """Raise `ScanError` for voxels (i, j, k) that cannot be Hounsfield units of a torso; returns warnings."""
    step = max(1, int(round((voxels.size / SAMPLE_VOXELS) ** (1 / 3))))
    sample = voxels[::step, ::step, ::step]
    low, high = float(sample.min()), float(sample.max())
    if low == high:
        low, high = float(voxels.min()), float(voxels.max())
    if low == high:
        raise ScanError(f"“{name}” has the same value ({low:g}) in every voxel. Choose a volume that shows a patient.")
    values = f"Its values run from {low:g} to {high:g}"
    if high - low < MINIMUM_SPREAD_HU:
        raise ScanError(
            f"“{name}” is not a CT in Hounsfield units. {values}, but air to soft tissue alone spans 1000: "
            "choose the original CT, not a label map or a normalized image."
        )
    inside = _without_padding(sample, voxels)
    if np.count_nonzero(inside < FAT_HU) < LEAST_FAT_AND_AIR * inside.size or not inside.size:
        raise ScanError(
            f"“{name}” does not look like a CT in Hounsfield units. {values}, and there is no fat (about -100) or air "
            "(-1000): it may be an MR, a label map, or a CT stored without its rescale intercept. "
            "Choose the original CT."
        )
    outlying = max(np.count_nonzero(inside < AIR_HU), np.count_nonzero(inside > DENSE_HU))
    if outlying > MOST_OUTLYING * inside.size:
        raise ScanError(
            f"“{name}” does not look like a CT in Hounsfield units. {values}, and {100 * outlying / inside.size:.0f} % "
            "of them are too low or too high for a patient: it may be stored with a wrong rescale slope or intercept. "
            "Choose the original CT."
        )
    return _cut_off(sample, name)


def _without_padding(sample: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The sample's values (n,) without those that fill corners of the volume, whatever they are."""
    ends = np.ix_(*[(0, -1)] * 3)
    padding = [value for value in np.unique(voxels[ends]) if np.count_nonzero(voxels[ends] == value) > 1]
    padding.append(sample.min())
    values = sample.ravel()
    return values[~np.isin(values, padding)]


def _cut_off(sample: np.ndarray, name: str) -> tuple[str, ...]:
    """A warning if values end at a display window, or if there is no air although the scan looks scaled."""
    low, high = float(sample.min()), float(sample.max())
    low_share = np.count_nonzero(sample == low) / sample.size
    high_share = np.count_nonzero(sample == high) / sample.size
    ends = []
    if low_share > CUT_SHARES[0] and low > WINDOW_HU[0]:
        ends.append(f"below {low:g}")
    if high_share > CUT_SHARES[1] and high < WINDOW_HU[1]:
        ends.append(f"above {high:g}")
    if not ends:
        return ()
    return (
        f"“{name}” seems to be cut off or scaled: it has no values {' or '.join(ends)} HU, where a CT has air or bone. "
        "Results may be wrong; choose the original CT.",
    )
