"""Settings of a training run; a run is reproduced from the JSON file that is saved with its weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.core.model.network import NetworkConfig
from APELocalizerLib.training.data.average_patient import FrameModel
from APELocalizerLib.training.data.settings import DataSettings
from APELocalizerLib.training.patients.pair_settings import PairSettings
from APELocalizerLib.training.patients.virtual_patients import CropKind, Deformation

SCHEDULES = ("cosine", "constant", "one_cycle")
PRECISIONS = ("fp32", "bf16", "auto")
STRIDES = (1, 2, 4)
"""Voxels along a cell of the network's output; crops are made of whole cells of 4."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run; the defaults are anchored training, see `presets` for the others.

    Scans are `data`, a folder laid out as train/, labels/ and annotations/, or `scans`, any files and folders, with
    `landmarks` and `boxes` (CSV) of some of them; these are prepared once into `cache`. Without `pairs` training is
    anchored: regress the coordinates of an average patient at every body cell. With `pairs` it is self-supervised,
    and also anchored if `anchored` is true.

    A step takes `crops_per_step` crops (anchored) and `pairs.patients` virtual patients (self-supervised) in every
    process, `accumulate` times as many with gradient accumulation. The run ends at `max_steps`, or when `max_minutes`
    of training time are spent; the schedule follows whichever is further, and warms up for at most half of the steps.
    `initial_weights` and `teacher` are exported weights of earlier runs: the one to start from, the other to complete
    the canonical frames of scans with few or no annotations. `scale` and `offset` (mm) turn the network's (0, 1) into
    coordinates, offset + scale * output; None to span those of the scans. `precision` is "fp32", "bf16", or
    "auto" for bf16 where the device computes it fast.
    """

    output: str
    data: str = ""
    held_out: tuple[str, ...] = ()
    network: NetworkConfig = field(default_factory=NetworkConfig.small)
    frame: FrameModel = field(default_factory=FrameModel)
    deformation: Deformation = field(default_factory=Deformation)
    kinds: tuple[CropKind, ...] = (
        CropKind((6.0, 6.0, 9.0), 0.40, 400_000),
        CropKind((4.0, 4.0, 6.0), 0.38, 700_000),
        CropKind((3.0, 3.0, 4.5), 0.22, 900_000),
    )
    scale: tuple[float, float, float] | None = (520.0, 420.0, 1100.0)
    offset: tuple[float, float, float] | None = (-260.0, -210.0, -640.0)
    synthetic_share: float = 0.22
    hidden_chance: float = 0.35
    crops_per_step: int = 6
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    warm_up_steps: int = 150
    clip_norm: float = 1.0
    huber_mm: float = 15.0
    ema_decay: float = 0.998
    max_steps: int = 20_000
    max_minutes: float | None = None
    validate_every: int = 500
    checkpoint_every: int = 100
    threads: int = 2
    seed: int = 1
    excluded: tuple[str, ...] = ()
    initial_weights: str | None = None
    teacher: str | None = None
    more_landmarks: str | None = None
    preset: str = "anchored"
    scans: tuple[str, ...] = ()
    landmarks: str | None = None
    boxes: str | None = None
    cache: str | None = None
    anchored: bool = True
    pairs: PairSettings | None = None
    adam_eps: float = 1e-8
    schedule: str = "cosine"
    accumulate: int = 1
    device: str = "cpu"
    precision: str = "fp32"
    log_every: int = 20

    def __post_init__(self) -> None:
        for name, allowed in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"“{name}” must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        if not (self.anchored or self.pairs):
            raise ValueError("A training needs “pairs”, or “anchored”, or both.")
        every = ("checkpoint_every", "validate_every", "log_every")
        counts = ("max_steps", "accumulate", "crops_per_step", "threads", *every)
        for name, least in (*((name, 1) for name in counts), ("seed", 0), ("warm_up_steps", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"“{name}” must be at least {least}, not {getattr(self, name)}.")
        if self.network.stem_stride not in STRIDES:
            allowed = ", ".join(map(str, STRIDES))
            raise ValueError(f"A network is trained with a stem stride of {allowed}, not {self.network.stem_stride}.")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"“learning_rate” must be a number above 0, not {self.learning_rate}.")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"“max_minutes” must be above 0, not {self.max_minutes}; leave it out for no limit.")

    @property
    def takes_unlabelled(self) -> bool:
        """Whether scans with few or no annotations are trained on, too."""
        return self.pairs is not None or self.teacher is not None

    @property
    def annotations(self) -> DataSettings:
        """What the data room needs to know."""
        return DataSettings(self.landmarks, self.boxes, self.held_out, self.frame, self.takes_unlabelled)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        pairs = self.pairs and self.pairs.to_dict()
        return asdict(self) | {"network": self.network.to_dict(), "pairs": pairs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingConfig:
        """The inverse of `to_dict`. Raises ValueError for unknown settings."""
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"Unknown training setting: {', '.join(sorted(unknown))}.")
        values = dict(values)
        nested = {
            "network": NetworkConfig.from_dict,
            "frame": lambda v: FrameModel(**v),
            "deformation": lambda v: Deformation(**v),
            "pairs": PairSettings.from_dict,
        }
        for name, build in nested.items():
            if isinstance(values.get(name), dict):
                values[name] = build(values[name])
        if "kinds" in values:
            values["kinds"] = tuple(
                kind
                if isinstance(kind, CropKind)
                else CropKind(**{k: tuple(v) if isinstance(v, list) else v for k, v in kind.items()})
                for kind in values["kinds"]
            )
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_text(path, json.dumps(self.to_dict(), indent=1))

    @classmethod
    def load(cls, path: Path) -> TrainingConfig:
        """Read what `save` wrote."""
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
