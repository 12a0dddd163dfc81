"""Validation without landmarks of the user: made-up patients tell a right model from a blind one."""

import numpy as np
import torch

from APELocalizerLib.training.objectives.self_consistency import SelfConsistency
from APELocalizerLib.training.patients.virtual_patients import Deformation
from made_up.trainings import RampSource

CPU = torch.device("cpu")


class Oracle(torch.nn.Module):
    """A model that answers every cell with its place on the grid: right for patients that are not deformed."""

    def forward(self, image, visible):
        shape = [n // 4 for n in image.shape[2:]]
        return torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij"))[None]


class Blind(torch.nn.Module):
    """A model that answers the same everywhere."""

    def forward(self, image, visible):
        return torch.zeros(1, 3, *(n // 4 for n in image.shape[2:]))


def test_self_consistency_tells_a_right_model_from_a_blind_one():
    still = Deformation(0, 0, 0, 0, 100, 0, 45)
    sources = [RampSource("one"), RampSource("two")]
    points = {"carina": np.array([100.0, 120.0, 90.0]), "apex": np.array([60.0, 80.0, 150.0])}
    validation = SelfConsistency(sources, still, (4.0, 4.0, 6.0), CPU, landmarks={"one": points, "two": points})
    right, blind = validation.measure(Oracle()), validation.measure(Blind())
    assert set(right) == {"self_median_mm", "self_mean_mm", "landmarks_median_mm", "landmarks_mean_mm"}
    assert right["self_mean_mm"] < 5 and right["landmarks_mean_mm"] < 5
    assert blind["self_mean_mm"] > 60 and blind["landmarks_mean_mm"] > 60
