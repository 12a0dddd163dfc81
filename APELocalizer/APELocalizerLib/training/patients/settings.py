"""Settings of the patients room: crops for anchored training, and virtual patients for self-supervised training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.data.cache import CacheSettings
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation

OUTPUTS = ("scaled", "normalized", "fixed")
INTENSITIES = ("released", "paper", "anchored")


@dataclass(frozen=True)
class CropSettings:
    """Crops of anchored training, and how patients are deformed (of all training).

    Attributes:
        kinds: families of crops, drawn in proportion to their shares.
        deformation: strength of the virtual patients.
        hidden_chance: how often parts of a crop are hidden.
    """

    kinds: tuple[CropKind, ...] = (
        CropKind((6.0, 6.0, 9.0), 0.40, 400_000),
        CropKind((4.0, 4.0, 6.0), 0.38, 700_000),
        CropKind((3.0, 3.0, 4.5), 0.22, 900_000),
    )
    deformation: Deformation = field(default_factory=Deformation)
    hidden_chance: float = 0.35


@dataclass(frozen=True)
class PairSettings:
    """Crops of virtual patients, the voxels compared in them, and the weights of the losses.

    Attributes:
        patients: virtual patients (one scan each) per step and process.
        pairs: pairs of overlapping crops per patient, or single crops when `views` is 1.
        views: 2 for pairs, 1 for single crops (APE-naive).
        virtual: deform each patient (by the run's `deformation`); otherwise the scan as it is.
        shape: voxels of a crop (P, L, I); aspect: how far the ratio of two axes may differ from it, at equal volume.
        finest, coarsest: range of the crops' spacing in mm, drawn per crop and axis.
        positives, background: voxels compared per crop, inside the body and, if not 0, outside of it.
        equivariance: weight of `equivariance_loss`, the paper's lambda. weight: of both losses, beside an anchored one.
        position_unit_mm: unit of the embedding; None for the standard deviation of each patient's positions.
        output: "scaled" (a learned scale per axis times the network's output), "normalized" (zero mean and unit
            variance over each patient's crops, as a batch normalization without parameters) or "fixed" (the run's
            `scale` and `offset`, in mm).
        intensity: which augmentation of gray values ("released", "paper" or "anchored").
        hidden_chance, hidden_share, hidden_block: how often parts of a crop are hidden, how much, in blocks of voxels.
        stored: how scans are prepared and kept. inference: how they are prepared for the finished network, if
            otherwise. presets: spacings that the finished network is run at; one_pass: on whole scans at once.
    """

    patients: int = 1
    pairs: int = 8
    views: int = 2
    virtual: bool = False
    shape: tuple[int, int, int] = (96, 96, 64)
    aspect: float = 1.0
    finest: tuple[float, float, float] = (1.0, 1.0, 1.5)
    coarsest: tuple[float, float, float] = (4.0, 4.0, 6.0)
    positives: int = 1024
    background: int = 1024
    equivariance: float = 1.0 / 3.0
    weight: float = 1.0
    position_unit_mm: float | None = None
    output: str = "scaled"
    intensity: str = "released"
    hidden_chance: float = 0.5
    hidden_share: float = 0.6
    hidden_block: tuple[int, int, int] = (24, 24, 16)
    stored: CacheSettings = field(default_factory=lambda: CacheSettings(PreparationConfig.published()))
    inference: PreparationConfig | None = None
    presets: Mapping[str, tuple[tuple[float, float, float], ...]] | None = None
    one_pass: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("output", OUTPUTS), ("intensity", INTENSITIES), ("views", (1, 2))):
            if getattr(self, name) not in allowed:
                raise TrainingError(f"“{name}” must be one of {allowed}, not {getattr(self, name)!r}.")
        if min(self.shape) < 8 or any(f > c for f, c in zip(self.finest, self.coarsest, strict=True)):
            raise TrainingError("Crops need at least 8 voxels per axis, and a finest spacing below the coarsest.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {
            "stored": asdict(self.stored) | {"preparation": self.stored.preparation.to_dict()},
            "inference": self.inference and self.inference.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PairSettings:
        """The inverse of `to_dict`. Raises ValueError for unknown settings."""
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"Unknown setting of pairs: {', '.join(sorted(unknown))}.")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        if isinstance(stored := values.get("stored"), dict):
            preparation = PreparationConfig.from_dict(stored["preparation"])
            values["stored"] = CacheSettings(preparation, tuple(stored["spacing"]), stored["kind"])
        if isinstance(values.get("inference"), dict):
            values["inference"] = PreparationConfig.from_dict(values["inference"])
        if values.get("presets"):
            values["presets"] = {
                name: tuple(tuple(float(mm) for mm in spacing) for spacing in spacings)
                for name, spacings in values["presets"].items()
            }
        return cls(**values)
