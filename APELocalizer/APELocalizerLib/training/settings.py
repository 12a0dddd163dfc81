"""Settings of a run by group: what is learned, by which steps, on which machine, and what is kept of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.training.patients.settings import PairSettings

SCHEDULES = ("cosine", "constant", "one_cycle")
PRECISIONS = ("fp32", "bf16", "auto")


class Objective(Enum):
    """What a network learns."""

    ANCHORED = "anchored"
    """The coordinates of an average patient, from annotated scans."""
    SELF_SUPERVISED = "self-supervised"
    """Coordinates in which voxels of a scan are as far apart as in the patient, from scans alone."""
    BOTH = "both"
    """The sum of the two: annotated scans anchor the coordinates, all scans smooth them."""

    @property
    def is_anchored(self) -> bool:
        """Whether annotations are needed."""
        return self is not Objective.SELF_SUPERVISED

    @property
    def is_self_supervised(self) -> bool:
        """Whether scans without annotations are learned from."""
        return self is not Objective.ANCHORED

    @classmethod
    def of(cls, anchored: bool, pairs: PairSettings | None) -> Objective:
        """The objective that a settings file means by its keys “anchored” and “pairs”."""
        if not (anchored or pairs):
            raise ValueError("A training needs “pairs”, or “anchored”, or both.")
        if not pairs:
            return cls.ANCHORED
        return cls.BOTH if anchored else cls.SELF_SUPERVISED


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is learned in a step.

    Attributes:
        kind: see `Objective`. pairs: of the self-supervised part; None if there is none.
        crops_per_step: crops of the anchored part, per process and step.
        huber_mm: distance from which on an anchored error counts linearly.
        scale, offset: mm, turn the network's (0, 1) into coordinates, offset + scale * output; None to span those of
            the scans.
        teacher: exported weights of an earlier run, which complete the frames of scans with few or no annotations.
    """

    kind: Objective = Objective.ANCHORED
    pairs: PairSettings | None = None
    crops_per_step: int = 6
    huber_mm: float = 15.0
    scale: tuple[float, float, float] | None = (520.0, 420.0, 1100.0)
    offset: tuple[float, float, float] | None = (-260.0, -210.0, -640.0)
    teacher: str | None = None

    def __post_init__(self) -> None:
        if self.kind.is_self_supervised != (self.pairs is not None):
            raise ValueError("Settings of “pairs” belong to a training that is self-supervised, and to no other.")
        _at_least(self, 1, "crops_per_step")

    @property
    def of_pairs(self) -> PairSettings:
        """The settings of the self-supervised part; raises `TrainingError` if there is none."""
        if self.pairs is None:
            raise TrainingError("The settings have no “pairs”, which self-supervised training needs.")
        return self.pairs

    @property
    def range_mm(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Scale and offset; raises `TrainingError` as long as they are to be those of the scans."""
        if self.scale is None or self.offset is None:
            raise TrainingError("The settings have no “scale” and “offset”. Give both, in mm.")
        return self.scale, self.offset

    @property
    def takes_unlabelled(self) -> bool:
        """Whether scans with few or no annotations are trained on, too."""
        return self.kind.is_self_supervised or self.teacher is not None


@dataclass(frozen=True)
class OptimizationSettings:
    """Steps of AdamW and their length.

    The run ends at `max_steps`, or when `max_minutes` of training time are spent; the schedule follows whichever is
    further, and warms up for at most half of the steps. A step takes `accumulate` times as many items as the
    objective asks for. `ema_decay` is of the averaged weights, which are the result. `initial_weights` are exported
    weights or the model of an earlier run to start from.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    adam_eps: float = 1e-8
    clip_norm: float = 1.0
    schedule: str = "cosine"
    warm_up_steps: int = 150
    ema_decay: float = 0.998
    accumulate: int = 1
    max_steps: int = 20_000
    max_minutes: float | None = None
    initial_weights: str | None = None

    def __post_init__(self) -> None:
        _one_of(self, SCHEDULES, "schedule")
        _at_least(self, 1, "max_steps", "accumulate")
        _at_least(self, 0, "warm_up_steps")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"“learning_rate” must be a number above 0, not {self.learning_rate}.")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise ValueError(f"“max_minutes” must be above 0, not {self.max_minutes}; leave it out for no limit.")


@dataclass(frozen=True)
class MachineSettings:
    """Where and how precisely a run computes: `precision` is "fp32", "bf16", or "auto" for bf16 where it is fast."""

    device: str = "cpu"
    precision: str = "fp32"
    threads: int = 2

    def __post_init__(self) -> None:
        _one_of(self, PRECISIONS, "precision")
        _at_least(self, 1, "threads")


@dataclass(frozen=True)
class RecordSettings:
    """Steps between validations, between saves, and between rows of metrics.csv."""

    validate_every: int = 500
    checkpoint_every: int = 100
    log_every: int = 20

    def __post_init__(self) -> None:
        _at_least(self, 1, "validate_every", "checkpoint_every", "log_every")


def _one_of(group: Any, allowed: tuple[str, ...], name: str) -> None:
    if getattr(group, name) not in allowed:
        raise ValueError(f"“{name}” must be one of {', '.join(allowed)}, not {getattr(group, name)!r}.")


def _at_least(group: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(group, name) < least:
            raise ValueError(f"“{name}” must be at least {least}, not {getattr(group, name)}.")
