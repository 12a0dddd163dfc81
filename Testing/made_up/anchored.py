"""A made-up scan with known targets, so that anchored training takes seconds."""

import numpy as np
import torch

from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.average_patient import AveragePatient
from APELocalizerLib.training.data.scans import add_targets, scan_from_ct
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.patients.virtual_patients import CropKind
from made_up.trainings import TINY

GRID = np.array([[0, -4.0, 0, 100], [-4.0, 0, 0, 90], [0, 0, -4.0, 80], [0, 0, 0, 1]])  # (P, L, I) -> RAS
KIND = CropKind((4.0, 4.0, 4.0), 1.0, 90_000, (44, 44, 44))


class Shifted:
    """A frame that is a translation, trusted everywhere."""

    def __call__(self, points):
        return np.asarray(points) + (10.0, -20.0, 30.0)

    def variance(self, points):
        return np.zeros((len(points), 3))


def made_up_scan(values=None):
    """A body with a bright ramp from feet to head in front of air; 48 x 50 x 46 voxels of 4 mm."""
    p, q, i = np.meshgrid(np.arange(48), np.arange(50), np.arange(46), indexing="ij")
    inside = ((p - 24) / 20) ** 2 + ((q - 25) / 21) ** 2 < 1
    voxels = (
        np.where(inside, 250.0 - 10 * i + 3 * q + 60 * ((p > 24) & (q > 25)), -1000.0) if values is None else values
    )
    scan = scan_from_ct("made up", "nobody", voxels, GRID)
    add_targets(scan, Shifted())
    scan.landmarks = torch.zeros(0, 3, dtype=torch.float64)
    scan.goals = torch.zeros(0, 3, dtype=torch.float64)
    return scan


def made_up_config(folder, **changes):
    values = dict(
        output=str(folder), data="", network=TINY, kinds=(KIND,), crops_per_step=2, max_steps=30, warm_up_steps=5,
        learning_rate=5e-3, checkpoint_every=3, scale=(300.0, 300.0, 300.0), offset=(-140.0, -170.0, -120.0),
    )  # fmt: skip
    return TrainingConfig.from_dict({**values, **changes})


def made_up_set():
    return TrainingSet([made_up_scan()], [], [], AveragePatient({}), {})
