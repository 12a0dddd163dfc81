"""Anchored training as an objective: regress the coordinates of an average patient at every body cell of a crop."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from APELocalizerLib.core.base.geometry import shape_of
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.synthetic import paint
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.objectives.heads import FixedHead, Head, TrainedNetwork
from APELocalizerLib.training.objectives.losses import anchored_loss
from APELocalizerLib.training.objectives.objective import Outcome
from APELocalizerLib.training.objectives.retrieval import embed, fuse, retrieval_errors
from APELocalizerLib.training.objectives.self_consistency import SelfConsistency
from APELocalizerLib.training.patients.augmentation import augment, random_visibility
from APELocalizerLib.training.patients.virtual_patients import Crop, draw_crop

_SPACINGS = (("6", (6.0, 6.0, 9.0)), ("4", (4.0, 4.0, 6.0)), ("3", (3.0, 3.0, 4.5)))


class AnchoredObjective:
    """Crops of virtual patients with canonical targets; every item is one crop of its own size and spacing."""

    head: Head | None = None

    def __init__(
        self,
        config: TrainingConfig,
        data: TrainingSet,
        device: torch.device | None = None,
        validation: SelfConsistency | None = None,
    ) -> None:
        """validation: what to measure where no held-out scan has landmarks."""
        self.config, self.data, self.device = config, data, device or torch.device("cpu")
        self.validation = validation
        for scan in data.train + data.held_out:
            scan.move(self.device)
        self.items = config.objective.crops_per_step * config.optimization.accumulate
        self.settings, self.crops = config.objective, config.crops
        self.scale, self.offset = (torch.tensor(values, device=self.device) for values in self.settings.range_mm)
        self._to_mm = self.scale, self.offset
        shares = np.array([scan.share for scan in data.train])
        self.shares = shares / shares.sum()
        kinds = np.array([kind.share for kind in self.crops.kinds])
        self.kinds = kinds / kinds.sum()

    def take_millimeters(self) -> None:
        """Expect a model whose head gives millimeters already."""
        self._to_mm = torch.ones_like(self.scale), torch.zeros_like(self.offset)

    def draw(self, step: int, index: int) -> Crop:
        """Crop `index` of a step; depends on seed, step and index alone."""
        begun = time.perf_counter()
        rng = np.random.default_rng((self.config.seed, step, index))
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        scan = self.data.train[int(rng.choice(len(self.shares), p=self.shares))]
        kind = self.crops.kinds[int(rng.choice(len(self.kinds), p=self.kinds))]
        with torch.no_grad():
            crop = draw_crop(scan, kind, self.crops.deformation, rng, generator, self.config.network.stride)
            if crop.label_names is not None:
                crop.image = paint(crop.image, crop.label_names, rng, generator)
            crop.image = augment(crop.image, crop.outside, rng, generator)
            crop.visible = random_visibility(shape_of(crop.image.shape[2:]), self.crops.hidden_chance, rng, generator)
        crop.seconds = {"data": 0.0, "augmentation": time.perf_counter() - begun}
        return crop

    def measure(
        self, model: TrainedNetwork | nn.Module, head: Head | None, item: Crop, always_visible: bool
    ) -> Outcome:
        """Robust distance to the canonical coordinates."""
        visible = item.visible
        if visible is None and always_visible:
            visible = torch.ones_like(item.image[:, 0])
        output = model(item.image, visible)
        loss, distance = anchored_loss(output, item, *self._to_mm, self.settings.huber_mm)
        return Outcome(loss, {"loss": float(loss.detach()), "distance_mm": distance})

    def divisor(self, index: int) -> float:
        """The loss of a step is the mean over its crops."""
        return self.items

    def validate(self, model: TrainedNetwork) -> dict[str, float]:
        """Retrieval between held-out patients and the annotated training scans, at three spacings and fused.

        Without landmarks of held-out patients: between virtual patients of the training scans ("self").
        """
        if not any(len(scan.landmark_names) for scan in self.data.held_out):
            return {} if self.validation is None else self.validation.measure(self._in_millimeters(model))
        supports = [scan for scan in self.data.train if scan.label_names is None and len(scan.landmark_names) >= 5]
        metrics: dict[str, float] = {}
        maps = {}
        for name, spacing in _SPACINGS:
            for group, scans in (("target", self.data.held_out), ("support", supports)):
                chosen = [s for s in scans if len(s.landmark_names)]
                maps[name, group] = [embed(model.network, s, spacing, self.scale, self.offset) for s in chosen]
        for group in ("target", "support"):
            maps["f", group] = [fuse(*passes) for passes in zip(*(maps[n, group] for n in "643"), strict=True)]
        for name in ("6", "4", "3", "f"):
            errors = retrieval_errors(maps[name, "target"], maps[name, "support"])
            unseen = retrieval_errors(maps[name, "target"], maps[name, "target"])
            for kind, values in {
                **{k: errors[k] for k in ("one", "several", "canonical")},
                "unseen": unseen["one"],
            }.items():
                if len(values):
                    metrics[f"{kind}_{name}_mean"] = float(values.mean())
                    metrics[f"{kind}_{name}_median"] = float(np.median(values))
        return metrics

    def _in_millimeters(self, model: TrainedNetwork) -> TrainedNetwork:
        """The same network with coordinates in mm as its output, whose axes can be compared with each other."""
        head = FixedHead(*self.settings.range_mm).to(self.device)
        return TrainedNetwork(model.network, head, model.precision).eval()

    def shape_of(self, item: Crop) -> tuple[int, ...]:
        """One image."""
        return tuple(item.image.shape)

    def describe(self, item: Crop) -> str:
        """Shape and spacing of a crop."""
        shape = " x ".join(str(n) for n in item.image.shape[2:])
        spacing = " x ".join(f"{mm:.1f}" for mm in item.spacing)
        counted = int((item.weight.mean(0) > 0).sum())
        return f"a crop of {shape} voxels at {spacing} mm, with targets at {counted} cells"
