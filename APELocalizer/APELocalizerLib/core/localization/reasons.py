"""Why a position does not count as found, in the words that a user reads. Positions are RAS world mm."""

import numpy as np

from APELocalizerLib.core.base.geometry import spacing_of
from APELocalizerLib.core.embedding.embedding_map import EmbeddingMap

FIELD_OF_VIEW_MARGIN_MM = 1.0
"""A position this far outside the scan still counts as inside: rounding, not anatomy."""

IN_NECK, IN_LEGS = "probably in the neck or head, which were left out", "probably in the legs, which were left out"
"""Reasons for landmarks beyond the trunk, where the scan shows more than the trunk."""


def why_not_found(scan_map: EmbeddingMap, position: np.ndarray, round_trip_mm: float, threshold_mm: float) -> str:
    """Why a position (3,), the best that there is, does not count as found; `threshold_mm`: of the round trip."""
    view, cell = scan_map.field_of_view, spacing_of(scan_map.grid_to_ras)
    if position[2] - view.minimum[2] <= 1.5 * cell[2]:
        return IN_LEGS if scan_map.left_out_mm[1] else "probably below the field of view"
    if view.maximum[2] - position[2] <= 1.5 * cell[2]:
        return IN_NECK if scan_map.left_out_mm[0] else "probably above the field of view"
    if not view.contains(position, margin=FIELD_OF_VIEW_MARGIN_MM)[0]:
        return "outside the field of view"
    if round_trip_mm <= threshold_mm:
        return "probably outside the field of view"
    return f"no consistent match (round trip {round_trip_mm:.0f} mm)"
