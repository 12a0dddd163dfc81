"""Tiny scans, networks and settings, so that a training takes seconds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.cache import CacheSettings
from APELocalizerLib.training.data.volumes import Level, Volume
from APELocalizerLib.training.patients.settings import PairSettings
from APELocalizerLib.training.run.loop import train
from APELocalizerLib.training.run.trainer import Trainer
from made_up.models import TINY_NETWORK

TINY = replace(TINY_NETWORK, layer_scale_init=0.1)


def tiny_pairs(**changes) -> PairSettings:
    """Two pairs of small crops."""
    stored = CacheSettings(PreparationConfig.plain(), (5.0, 5.0, 5.0), "uint8")
    values = dict(
        pairs=2, shape=(32, 32, 32), finest=(4.0, 4.0, 4.0), coarsest=(6.0, 6.0, 6.0), positives=96, background=32,
        virtual=True, stored=stored,
    )  # fmt: skip
    return PairSettings(**{**values, **changes})


def tiny_config(folder: Path, scans=(), pairs=None, **changes) -> TrainingConfig:
    """A few steps of self-supervised training."""
    values = dict(
        output=str(folder), preset="tiny", scans=tuple(str(scan) for scan in scans), network=TINY, anchored=False,
        pairs=pairs or tiny_pairs(), scale=None, offset=None, learning_rate=3e-3, warm_up_steps=2, max_steps=6,
        validate_every=1000, checkpoint_every=2, log_every=1, threads=1,
    )  # fmt: skip
    return TrainingConfig.from_dict({**values, **changes})


def ramp_volume(direction=(1.0, 0.0, 0.0), shape=(60, 56, 52), spacing=(4.0, 4.0, 5.0)) -> Volume:
    """A volume whose brightness is a linear function of the place, 0 to 1 along `direction`; all of it is body."""
    spacing = np.array(spacing)
    last = (np.array(shape) - 1) * spacing
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    image = torch.from_numpy((index * spacing @ np.array(direction) / (last @ np.array(direction))).astype(np.float32))
    level = Level(image, float(spacing[:2].mean()), spacing, np.zeros(3))
    return Volume((level,), torch.ones(shape, dtype=torch.bool), spacing, 1.0, np.zeros(3), last)


class RampSource:
    """A source of `ramp_volume`."""

    def __init__(self, name: str = "ramp", **changes) -> None:
        self.name, self.share, self.volume = name, 1.0, ramp_volume(**changes)
        self.grid_to_ras = np.diag([*self.volume.spacing, 1.0])

    def load(self, device: torch.device) -> Volume:
        return self.volume


def save_settings(config: TrainingConfig, path: Path) -> Path:
    """Settings as a file for --config."""
    path.write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return path


def run(config: TrainingConfig, **keywords) -> tuple[Trainer, list[float]]:
    """The trainer and the losses, step by step."""
    rows = []
    trainer = train(config, on_step=rows.append, **keywords)
    return trainer, [row["loss"] for row in rows]
