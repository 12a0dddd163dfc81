"""Tiny scans, networks and settings, so that a training takes seconds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from APELocalizerLib.core.model.network import NetworkConfig
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.cache import CacheSettings
from APELocalizerLib.training.data.volumes import Level, Volume
from APELocalizerLib.training.patients.pair_settings import PairSettings
from made_up.torso import body_phantom, phantom_landmarks

TINY = NetworkConfig(channels=(8, 12, 16, 16), depths=((1, 1), (1, 1), (1, 1), 1), layer_scale_init=0.1)
SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "SampleData"


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
    return TrainingConfig(**{**values, **changes})


def write_phantom(path: Path, **changes) -> Path:
    """A torso of about 400 x 280 x 240 mm as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(body_phantom(**changes).to_sitk(), str(path))
    return path


def write_landmarks(path: Path, scans: dict[str, dict]) -> Path:
    """A table of the landmarks of phantoms; scans: case -> the phantom's scale and shift."""
    rows = ["case,name,r_mm,a_mm,s_mm"]
    for case, changes in scans.items():
        rows += [f"{case},{name},{p[0]},{p[1]},{p[2]}" for name, p in phantom_landmarks(**changes).items()]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


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
    path.write_text(json.dumps(replace(config).to_dict()), encoding="utf-8")
    return path
