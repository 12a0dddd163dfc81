"""Self-supervised training as an objective, alone or beside the anchored one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.volumes import VolumeSource
from APELocalizerLib.training.objectives.anchored import AnchoredObjective
from APELocalizerLib.training.objectives.heads import FixedHead, Head, NormalizedHead, ScaledHead, TrainedNetwork
from APELocalizerLib.training.objectives.losses import equivariance_loss, pair_loss, standardized
from APELocalizerLib.training.objectives.objective import Outcome
from APELocalizerLib.training.objectives.self_consistency import SelfConsistency
from APELocalizerLib.training.patients.pairs import PatientCrops, draw_patient
from APELocalizerLib.training.patients.virtual_patients import Crop


class PairObjective:
    """Every item is one virtual patient: distances between voxels of its crops, as in Eq. 1, and, for pairs of crops,
    the agreement of the two embeddings of a voxel. Physical positions mean something within one patient only, so
    that no two patients are compared."""

    def __init__(
        self,
        config: TrainingConfig,
        sources: Sequence[VolumeSource],
        device: torch.device | None = None,
        validation: SelfConsistency | None = None,
    ) -> None:
        self.config, self.settings, self.sources = config, config.objective.of_pairs, list(sources)
        self.device, self.validation = device or torch.device("cpu"), validation
        self.items = self.settings.patients * config.optimization.accumulate
        self.head: Head | None = _head(config).to(self.device)
        shares = np.array([source.share for source in self.sources], float)
        self.shares = shares / shares.sum()

    def draw(self, step: int, index: int) -> PatientCrops:
        """Virtual patient `index` of a step; depends on seed, step and index alone."""
        rng = np.random.default_rng((self.config.seed, step, index, 1))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        source = self.sources[int(rng.choice(len(self.shares), p=self.shares))]
        with torch.no_grad():
            return draw_patient(
                source, self.settings, self.config.crops.deformation, rng, generator, self.config.network.stride
            )

    def measure(
        self, model: TrainedNetwork | nn.Module, head: Head | None, item: PatientCrops, always_visible: bool
    ) -> Outcome:
        """Eq. 1 plus lambda times the equivariance term. Raises TypeError without a head."""
        if head is None:
            raise TypeError("Self-supervised training compares what a head gives.")
        embedding = model(item.images, item.visible)
        first = item.first.read(embedding)
        second = first if item.second is None else item.second.read(embedding)
        here = item.first.position
        there = here if item.second is None else item.second.position
        unit = self.settings.position_unit_mm
        if unit is None:
            here, there, deviation = standardized(here, there)
            unit_mm = float(deviation.square().mean().sqrt())
        else:
            here, there, unit_mm = here / unit, there / unit, unit
        if isinstance(head, FixedHead):
            first, second, unit_mm = first / unit_mm, second / unit_mm, 1.0
        pairs = pair_loss(first, second, here, there)
        loss, metrics = pairs, {"pair_loss": float(pairs.detach())}
        if item.second is not None:
            same = equivariance_loss(first[: item.shared], second[: item.shared])
            loss = loss + self.settings.equivariance * same
            metrics["equivariance"] = float(same.detach())
        return Outcome(loss, {"loss": float(loss.detach()), **metrics}, unit_mm, head.seen())

    def divisor(self, index: int) -> float:
        """The loss of a step is the mean over its patients."""
        return self.items / self.settings.weight

    def validate(self, model: TrainedNetwork) -> dict[str, float]:
        """Retrieval between virtual patients of one scan, and between scans where landmarks are known."""
        return {} if self.validation is None else self.validation.measure(model)

    def shape_of(self, item: PatientCrops) -> tuple[int, ...]:
        """All crops of the patient at once."""
        return tuple(item.images.shape)

    def describe(self, item: PatientCrops) -> str:
        """Shapes of a batch, and how many voxels are compared."""
        shape = " x ".join(str(n) for n in item.images.shape[2:])
        air = len(item.first) - item.shared
        return (
            f"a patient with {len(item.images)} crops of {shape} voxels, in which {item.shared} places in the body "
            f"and {air} in the air around it are compared"
        )


class MixedObjective:
    """An anchored objective and a self-supervised one: the first items of a step are of the former."""

    def __init__(self, anchored: AnchoredObjective, pairs: PairObjective) -> None:
        if not isinstance(pairs.head, FixedHead):
            raise TrainingError("Beside an anchored loss the output of “pairs” must be “fixed”: both share one map.")
        self.anchored, self.pairs, self.head = anchored, pairs, pairs.head
        anchored.take_millimeters()
        self.items = anchored.items + pairs.items

    def _part(self, index: int) -> tuple[AnchoredObjective | PairObjective, int]:
        turn, place_in_turn = divmod(index, self.items)  # with several processes, each has a turn of its own
        if place_in_turn < self.anchored.items:
            return self.anchored, place_in_turn + turn * self.anchored.items
        return self.pairs, place_in_turn - self.anchored.items + turn * self.pairs.items

    def draw(self, step: int, index: int) -> Crop | PatientCrops:
        """An item of either kind; see there."""
        part, number = self._part(index)
        return part.draw(step, number)

    def measure(self, model: TrainedNetwork | nn.Module, head: Head | None, item: Any, always_visible: bool) -> Outcome:
        """Loss of an item of either kind."""
        return self._owner(item).measure(model, head, item, always_visible)

    def divisor(self, index: int) -> float:
        """Each kind's mean over its items; the self-supervised one times its weight."""
        part, number = self._part(index)
        return part.divisor(number)

    def validate(self, model: TrainedNetwork) -> dict[str, float]:
        """Both validations."""
        return self.anchored.validate(model) | self.pairs.validate(model)

    def shape_of(self, item: Any) -> tuple[int, ...]:
        """Of either kind."""
        return self._owner(item).shape_of(item)

    def describe(self, item: Any) -> str:
        """Of either kind."""
        return self._owner(item).describe(item)

    def _owner(self, item: Any) -> AnchoredObjective | PairObjective:
        return self.pairs if isinstance(item, PatientCrops) else self.anchored


def _head(config: TrainingConfig) -> Head:
    kind = config.objective.of_pairs.output
    if kind == "fixed":
        return FixedHead(*config.objective.range_mm)
    return NormalizedHead() if kind == "normalized" else ScaledHead()
