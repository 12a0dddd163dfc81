"""The coarse CT: a small copy of the CT that goes with an embedding map, to compare places by what they look like.

Anatomical coordinates say *about* where a place is: they are smooth, and carry the error of two scans. What a place
looks like says *exactly* where it is, but only near the right answer, for many places look alike. So `matching`
compares the surroundings of a click with those of the found place. Cells of 5 mm are enough for that.
"""

import base64
import json
import math
import zlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from APELocalizerLib.core.base.errors import MapError
from APELocalizerLib.core.base.geometry import apply_affine, stored_grid, stored_shape, subgrid_affine
from APELocalizerLib.core.base.packed import unpack
from APELocalizerLib.core.base.progress import CancelCheck
from APELocalizerLib.core.preparation.config import PreparationConfig, PreparedScan
from APELocalizerLib.core.preparation.prepare import prepare
from APELocalizerLib.core.scan.scan import Scan

SPACING_MM = 5.0
WINDOW_HU = (-1000.0, 1000.0)
FEATURES = ((-1000.0, -200.0, 1.0), (-150.0, 200.0, 1.5), (150.0, 700.0, 1.0))
"""HU from which and to which each feature rises, and to how much: lung and fat, soft tissue, bone and contrast."""

REQUEST = (replace(PreparationConfig.on_fixed_lattice(), window=WINDOW_HU, lattice=(2, 2, 2)), (SPACING_MM,) * 3)
"""How a scan is prepared for its coarse CT."""

LEVELS = 2
"""Features are kept at 5 mm and, averaged over 2 x 2 x 2 cells, at 10 mm."""


@dataclass(frozen=True, eq=False)
class CoarseCT:
    """Coarse CT: `codes` (p, l, i) uint8, 0..255 over WINDOW_HU, 0 in the air around the patient; (P, L, I) axes.

    `grid_to_ras` (4, 4) from index to RAS mm of the cell's center; the spacing is SPACING_MM along every axis.
    """

    codes: np.ndarray
    grid_to_ras: np.ndarray

    @classmethod
    def of(cls, scan: Scan, cancelled: CancelCheck | None = None) -> "CoarseCT":
        """The coarse CT of a scan. Raises PreparationError when it shows no body."""
        return cls.of_prepared(prepare(scan, *REQUEST, cancelled=cancelled))

    @classmethod
    def of_prepared(cls, prepared: PreparedScan) -> "CoarseCT":
        """The coarse CT of a scan that was prepared as REQUEST says, on any device."""
        image, mask = (
            part if isinstance(part, np.ndarray) else part.cpu().numpy()
            for part in (prepared.image, prepared.body_mask)
        )
        codes = np.where(mask, image * 255.0 + 0.5, 0.0).astype(np.uint8)
        seen = np.flatnonzero(mask.any(axis=(0, 1)))  # empty slices beyond the scan's ends would count as air
        grid = subgrid_affine(prepared.grid_to_ras, np.array([0.0, 0.0, seen[0]]), np.ones(3))
        return cls(np.ascontiguousarray(codes[:, :, seen[0] : seen[-1] + 1]), grid)

    def level(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Features (3, p, l, i) float32 and grid_to_ras (4, 4) of a level: cells of SPACING_MM * 2 ** number."""
        return self._levels[number]

    @cached_property
    def _levels(self) -> list[tuple[np.ndarray, np.ndarray]]:
        low, high = WINDOW_HU
        hu = low + (high - low) * np.arange(256) / 255.0
        tables = [(weight * np.clip((hu - a) / (b - a), 0, 1)).astype(np.float32) for a, b, weight in FEATURES]
        levels = [(np.stack([table[self.codes] for table in tables]), self.grid_to_ras)]
        for _ in range(LEVELS - 1):
            features, grid = levels[-1]
            levels.append((_halved(features), subgrid_affine(grid, np.full(3, 0.5), np.full(3, 2.0))))
        return levels

    # In a library ------------------------------------------------------------------------------------------------

    def to_text(self) -> str:
        """As text: differences along the body, compressed, base64."""
        header = {"shape": list(self.codes.shape), "grid_to_ras": self.grid_to_ras.tolist()}
        differences = np.diff(self.codes, axis=2, prepend=np.uint8(0))
        payload = json.dumps(header).encode() + b"\n" + differences.tobytes()
        return base64.b64encode(zlib.compress(payload, 6)).decode("ascii")

    @classmethod
    def from_text(cls, text: str) -> "CoarseCT":
        """Inverse of `to_text`. Raises MapError for damaged text."""
        try:
            header, data = unpack(text, lambda header: math.prod(stored_shape(header["shape"])))
            differences = np.frombuffer(data, np.uint8).reshape(stored_shape(header["shape"]))
            return cls(np.cumsum(differences, axis=2, dtype=np.uint8), stored_grid(header["grid_to_ras"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise MapError("A support's coarse CT inside the library is damaged. Open another copy.") from error


def to_level_index(grid_to_ras: np.ndarray, points_ras: np.ndarray) -> np.ndarray:
    """Fractional indices (n, 3) of RAS points (n, 3) on a level's grid."""
    return apply_affine(np.linalg.inv(grid_to_ras), points_ras)


def _halved(features: np.ndarray) -> np.ndarray:
    """Mean over 2 x 2 x 2 cells; an odd last cell is repeated."""
    for axis in (1, 2, 3):
        length = features.shape[axis]
        first, second = (np.minimum(np.arange(start, length + start, 2), length - 1) for start in (0, 1))
        features = (features.take(first, axis) + features.take(second, axis)) * np.float32(0.5)
    return features
