"""The phantom of a torso at the fineness of coarse CTs: one support, and the same body elsewhere."""

import numpy as np

from APELocalizerLib.core.scan.scan import Scan
from made_up.scans import body_phantom, phantom_landmarks

SHAPE, SPACING = (133, 93, 88), (3.0, 3.0, 3.0)
SHIFT = np.array([12.0, -9.0, 14.0])
"""Where the other body lies, mm RAS from the support's."""

NAMES = [name for name in phantom_landmarks() if "apex" not in name]


def phantom(shift=(0, 0, 0), scale=1.0) -> Scan:
    return body_phantom(SHAPE, SPACING, shift=shift, scale=scale)


def places(**patient) -> np.ndarray:
    """The landmarks of `NAMES` (n, 3) mm RAS."""
    known = phantom_landmarks(**patient)
    return np.array([known[name] for name in NAMES])
