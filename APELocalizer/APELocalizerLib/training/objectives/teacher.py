"""Frames from a teacher: a network's own coordinates as further observations of a scan.

A first network, trained on the annotated scans, is quite right on average where annotations are far. Its predictions on
a coarse grid of body points, each with an uncertainty from how much two spacings disagree, are added to a scan's
observations and smoothed by the same Gaussian process; so scans without annotations can be used for training too.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from APELocalizerLib.core.base.errors import ModelError, TrainingError
from APELocalizerLib.core.base.torch_version import check_loads_safely
from APELocalizerLib.core.model.embedding_network import EmbeddingNetwork
from APELocalizerLib.core.model.networks import build_network, settings_from_dict
from APELocalizerLib.training.data.average_patient import AveragePatient, Frame, FrameModel, Observation, fit_frame
from APELocalizerLib.training.data.scans import TrainingScan, add_targets
from APELocalizerLib.training.data.training_set import TrainingSet, share_out
from APELocalizerLib.training.objectives.retrieval import embed

_LOG = logging.getLogger(__name__)
_GRID_MM = 36.0
"""Distance between two predicted points."""

PREDICTED_SHARE = 0.5
"""How often a scan whose frame is predicted alone is drawn, against the same scan with annotations."""


def load_teacher(path: Path) -> tuple[EmbeddingNetwork, torch.Tensor, torch.Tensor]:
    """Network, scale and offset of exported weights. Raises TrainingError for a file that holds none."""
    if not Path(path).is_file():
        raise TrainingError(f"The teacher's weights, “{path}”, do not exist.")
    check_loads_safely(Path(path).name, torch.__version__)
    try:
        exported = torch.load(path, weights_only=True, map_location="cpu")
        network = build_network(settings_from_dict(exported["network"])).eval()
        network.load_state_dict(exported["state"])
        scale, offset = torch.tensor(exported["scale"]), torch.tensor(exported["offset"])
    except ModelError as error:
        raise TrainingError(f"The teacher's weights, “{Path(path).name}”, cannot be used: {error}") from error
    except Exception as error:  # a damaged file can make the unpickler raise anything
        raise TrainingError(
            f"The teacher's weights, “{Path(path).name}”, are damaged or not those of a training; "
            "give the export.pt of a training."
        ) from error
    network.to(memory_format=torch.channels_last_3d)
    return network, scale, offset


def predicted_points(
    teacher: tuple[EmbeddingNetwork, torch.Tensor, torch.Tensor], scan: TrainingScan, least_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Body points (n, 3) in RAS, their predicted coordinates (n, 3), and 1-sigma (n, 3) of these, in mm."""
    maps = [embed(*_arguments(teacher, scan, spacing)) for spacing in ((4.0, 4.0, 6.0), (3.0, 3.0, 4.5))]
    step = np.maximum(1, np.round(_GRID_MM / np.linalg.norm(maps[0].to_ras[:3, :3], axis=0)).astype(int))
    body = maps[0].body.numpy()
    index = np.argwhere(body[tuple(slice(s // 2, None, s) for s in step)]) * step + step // 2
    values = [scan_map.values.numpy()[:, index[:, 0], index[:, 1], index[:, 2]].T for scan_map in maps]
    sigma = np.hypot(least_mm, np.abs(values[0] - values[1]))
    return index @ maps[0].to_ras[:3, :3].T + maps[0].to_ras[:3, 3], 0.5 * (values[0] + values[1]), sigma


def _arguments(teacher, scan: TrainingScan, spacing: tuple[float, float, float]) -> tuple:
    network, scale, offset = teacher
    return network, scan, spacing, scale, offset


def teacher_frame(
    points: np.ndarray,
    values: np.ndarray,
    sigma: np.ndarray,
    observations: Sequence[Observation],
    patient: AveragePatient,
    model: FrameModel,
) -> Frame:
    """A frame that follows the scan's own observations and, elsewhere, the predictions."""
    goals, combined = dict(patient.values), list(observations)
    for row, (point, value, width) in enumerate(zip(points, values, sigma, strict=True)):
        for axis in range(3):
            combined.append(Observation(f"teacher{row}", axis, tuple(point), float(width[axis])))
            goals[f"teacher{row}", axis] = float(value[axis])
    return fit_frame(combined, AveragePatient(goals), model)


def apply_teacher(
    data: TrainingSet,
    path: Path,
    model: FrameModel,
    synthetic_share: float,
    alone_mm: float = 20.0,
    beside_mm: float = 22.0,
) -> None:
    """Refine the frames of all real scans and take up those without annotations, in place.

    alone_mm, beside_mm: least 1-sigma of a predicted coordinate in a scan without and with annotations. They are
    wide, since neighboring predictions err together.
    """
    teacher = load_teacher(path)
    taken = []
    for scan in data.train + data.unlabelled:
        if scan.label_names is not None:
            continue
        annotated = data.observations.get(scan.name, [])
        predicted = predicted_points(teacher, scan, beside_mm if annotated else alone_mm)
        add_targets(scan, teacher_frame(*predicted, annotated, data.patient, model))
        if not annotated:
            taken.append(scan)
        _LOG.info(
            "%s: %d predicted points, median sigma %.1f mm", scan.name, len(predicted[0]), np.median(predicted[2])
        )
    painted = [scan for scan in data.train if scan.label_names is not None]
    real = [scan for scan in data.train if scan.label_names is None] + taken
    share_out(real, painted, synthetic_share)
    for scan in taken:
        scan.share *= PREDICTED_SHARE
    data.train, data.unlabelled = real + painted, []
