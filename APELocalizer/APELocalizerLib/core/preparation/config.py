"""How a scan is prepared for the network, and what comes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from APELocalizerLib.core.base.errors import PreparationError
from APELocalizerLib.core.base.geometry import Box

if TYPE_CHECKING:  # a library can be read where PyTorch is not installed
    import torch

HU_LIMITS = (-1024.0, 3071.0)
"""Padding below and metal above are clipped to this before averaging (plain preparation only)."""

PLAIN_MARGINS = (0, 1, 1)
"""Blocks (I, P, L) kept around the body box in the plain preparation: the skin, but no slab of air above or below.

The network reads where the image ends; a scan stored obliquely would otherwise seem to end in air.
"""


@dataclass(frozen=True)
class PreparationConfig:
    """How scans are prepared for one model.

    Attributes:
        base_spacing: (P, L, I) mm of the grid on which intensities are equalized; None to go directly to the inference
        spacing. window: HU that become 0 and 1. clahe_clip_limit: clip limit of the adaptive histogram equalization; 0
        for none. antialias: average over whole source voxels when going to a coarser grid. body_threshold: HU from
        which a voxel counts as body. lattice: the grid begins at a multiple of (P, L, I) voxels of a lattice fixed to
        the body's center of mass (0: in the middle of the body box), so that copies of a scan on other grids, or with
        another origin, are read at the same places; only with antialias.
        end_trim_mm: whole slices up to this thickness are left out at the head and foot
        end, where resampling blurs a scan with what is outside it.
    """

    base_spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.5)
    window: tuple[float, float] = (-1000.0, 300.0)
    clahe_clip_limit: float = 0.05
    antialias: bool = False
    body_threshold: float = -500.0
    lattice: tuple[int, int, int] = (0, 0, 0)
    end_trim_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.base_spacing is not None:
            object.__setattr__(self, "base_spacing", _valid_spacing(self.base_spacing))
        low, high = (float(hu) for hu in self.window)
        if not low < high:
            raise PreparationError(f"The intensity window must rise, not go from {low:g} to {high:g} HU. Correct it.")
        object.__setattr__(self, "window", (low, high))
        if not isinstance(self.lattice, tuple) or len(self.lattice) != 3 or min(self.lattice) < 0:
            raise PreparationError(f"A lattice is three whole numbers, not {self.lattice}. Correct the model.")
        if not all(type(step) is int and step <= 1000 for step in self.lattice):
            raise PreparationError(f"A lattice is three whole numbers, not {self.lattice}. Correct the model.")
        limits: list[tuple[float, float, float]] = [(self.clahe_clip_limit, 0, 1e3), (self.end_trim_mm, 0, 1e3)]
        limits += [(self.body_threshold, -1e5, 1e5), (low, -1e6, 1e6), (high, -1e6, 1e6)]
        if not all(isinstance(value, (int, float)) and least <= value <= most for value, least, most in limits):
            raise PreparationError("A setting of the model's preparation is out of range. Download or copy it again.")
        if not isinstance(self.antialias, bool):
            raise PreparationError("Whether a model averages voxels is true or false. Download or copy it again.")

    @classmethod
    def published(cls) -> PreparationConfig:
        """Exactly what the published APE network was trained on."""
        return cls()

    @classmethod
    def plain(cls) -> PreparationConfig:
        """Fast: antialiased sampling at the inference spacing and a fixed window."""
        return cls(base_spacing=None, clahe_clip_limit=0.0, antialias=True)

    @classmethod
    def on_fixed_lattice(cls) -> PreparationConfig:
        """As plain, on a lattice fixed to the body and without the blurred end slices: steady under resampling."""
        return cls(base_spacing=None, clahe_clip_limit=0.0, antialias=True, lattice=(8, 8, 1), end_trim_mm=4.0)

    def to_dict(self) -> dict:
        """Plain numbers, lists and None, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict) -> PreparationConfig:
        """Inverse of `to_dict`. Raises PreparationError for settings this version does not know."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise PreparationError(
                f"Unknown preparation setting “{unknown[0]}”: the model needs a newer APELocalizer. Update it."
            )
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**known)


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """What the network sees.

    Attributes:
        image: float32 in 0..1, axes (P, L, I); not necessarily contiguous in memory. A tensor if it was prepared on a
        device, else an array. body_mask: bool, same shape and kind; False in the air around the patient, True in lungs
        and bowel gas.
        grid_to_ras: 4x4 float64 from index in `image` to RAS mm, exact (voxel centers at integer indices).
        field_of_view: RAS box around the whole scan.
        scan_name, scan_fingerprint: of the scan this was made from.
    """

    image: np.ndarray | torch.Tensor
    body_mask: np.ndarray | torch.Tensor
    grid_to_ras: np.ndarray
    field_of_view: Box
    scan_name: str
    scan_fingerprint: str


def _valid_spacing(spacing) -> tuple[float, float, float]:
    values = tuple(float(mm) for mm in spacing)
    if len(values) != 3 or not all(0.1 <= mm <= 50.0 for mm in values):
        raise PreparationError(f"A spacing must be three numbers between 0.1 and 50 mm, not {spacing}. Correct it.")
    return values
