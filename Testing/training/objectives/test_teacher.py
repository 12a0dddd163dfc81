"""Frames from a teacher: scans without annotations join the training, annotations keep the last word."""

import numpy as np
import pytest
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.model.network import APENetwork
from APELocalizerLib.training.data.average_patient import AveragePatient, FrameModel, point_observations
from APELocalizerLib.training.data.scans import scan_from_ct
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.objectives.retrieval import embed
from APELocalizerLib.training.objectives.teacher import apply_teacher, load_teacher, teacher_frame
from made_up.trainings import TINY

GRID = np.array([[0, -4.0, 0, 100], [-4.0, 0, 0, 90], [0, 0, -4.0, 80], [0, 0, 0, 1]])


def grid_points():
    return np.stack(np.meshgrid(*[np.arange(-100, 101, 50.0)] * 3, indexing="ij"), -1).reshape(-1, 3)


def test_annotations_win_where_the_teacher_disagrees():
    points = grid_points()
    predicted = points + (0, 0, 40.0)  # the teacher is 40 mm off
    patient = AveragePatient({("carina", axis): 0.0 for axis in range(3)})
    sigma = np.full(points.shape, 20.0)
    own = point_observations("carina", (0, 0, 0), 3.0)
    frame = teacher_frame(points, predicted, sigma, own, patient, FrameModel())
    alone = teacher_frame(points, predicted, sigma, [], patient, FrameModel())
    assert abs(alone(np.zeros((1, 3)))[0, 2] - 40) < 3
    assert abs(frame(np.zeros((1, 3)))[0, 2]) < 20
    assert abs(frame(np.array([[100.0, 100, 100]]))[0, 2] - 140) < 12


def test_a_scan_without_annotations_joins_with_the_teachers_coordinates(tmp_path):
    torch.manual_seed(3)
    network = APENetwork(TINY).eval()
    scale, offset = [300.0] * 3, [-150.0] * 3
    values = {"network": TINY.to_dict(), "state": network.state_dict(), "scale": scale, "offset": offset}
    torch.save(values, tmp_path / "teacher.pt")
    p, q, _ = np.meshgrid(np.arange(48), np.arange(50), np.arange(46), indexing="ij")
    scan = scan_from_ct("x", "x", np.where((p - 24) ** 2 + (q - 25) ** 2 < 400, 40.0, -1000.0), GRID)
    data = TrainingSet([], [], [scan], AveragePatient({}), {})
    apply_teacher(data, tmp_path / "teacher.pt", FrameModel(), synthetic_share=0.2)
    assert [s.name for s in data.train] == ["x"] and not data.unlabelled
    assert data.train[0].share > 0
    found = embed(network, scan, (4.0, 4.0, 6.0), torch.tensor(scale), torch.tensor(offset))
    middle = [n // 2 for n in scan.target.shape[2:]]
    there = [n // 2 for n in found.body.shape]
    difference = scan.target[0, :3, middle[0], middle[1], middle[2]] - found.values[:, there[0], there[1], there[2]]
    assert difference.abs().max() < 25


@pytest.mark.parametrize("content", [None, b"no weights", {"state": {}}])
def test_a_teacher_that_is_none_is_named(tmp_path, content):
    file = tmp_path / "teacher.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(TrainingError, match="teacher.pt"):
        load_teacher(file)
