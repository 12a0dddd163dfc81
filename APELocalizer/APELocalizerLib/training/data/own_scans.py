"""A user's own scans for anchored training: prepared scans, and tables of landmarks and boxes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.preparation.config import PreparationConfig
from APELocalizerLib.training.data.annotation_tables import PointsOfCase, read_box_observations, read_landmarks
from APELocalizerLib.training.data.average_patient import Observation, point_observations
from APELocalizerLib.training.data.cache import CacheSettings, PreparedFile
from APELocalizerLib.training.data.scans import HU_LOW, HU_RANGE, TrainingScan, low_passed
from APELocalizerLib.training.data.settings import DataSettings
from APELocalizerLib.training.data.training_set import ListedScan, TrainingSet, assemble

BRIGHTEST = 1.6
"""Brightest stored value, in the unit of anchored training (0 at HU_LOW, 1 at HU_LOW + HU_RANGE)."""
_FEWEST = 3
"""Fewest observations along every axis (a landmark is one along each) for which a scan gets a canonical frame."""


def anchored_store() -> CacheSettings:
    """How scans are kept for anchored training: antialiased at 2 x 2 x 3 mm, bright bone kept."""
    window = (HU_LOW, HU_LOW + BRIGHTEST * HU_RANGE)
    return CacheSettings(PreparationConfig(None, window, 0.0, antialias=True), (2.0, 2.0, 3.0), "float16")


def landmark_table(path: str | None) -> dict[str, PointsOfCase]:
    """Landmarks by case and name; empty without a file. Raises `AnnotationError` for a table that is wrong."""
    return read_landmarks(Path(path)) if path else {}


@dataclass(frozen=True)
class Annotations:
    """What the tables say of a run's scans.

    points: landmarks, as `landmark_table` gives them. known: by case, observations of the scans that have enough for
    a canonical frame. notes: sentences about what is not used. takes_unlabelled: whether the run trains on scans with
    few or no annotations, too.
    """

    points: Mapping[str, PointsOfCase]
    known: Mapping[str, list[Observation]]
    notes: tuple[str, ...] = ()
    takes_unlabelled: bool = False

    def needs(self, name: str, settings: DataSettings) -> bool:
        """Whether a run trains on a scan, or validates on it."""
        if name in settings.held_out:
            return name in self.points
        return name in self.known or self.takes_unlabelled


def read_annotations(settings: DataSettings, names: Collection[str], takes_unlabelled: bool = False) -> Annotations:
    """Landmarks and boxes of the scans with these names; takes_unlabelled: scans without them are trained on, too.

    Raises `TrainingError` when no scan to train on has enough.
    """
    points = landmark_table(settings.landmarks)
    observations = _observations(points, settings.boxes)
    usable = {name: rows for name, rows in observations.items() if name in set(names) - set(settings.held_out)}
    known = {name: rows for name, rows in usable.items() if _suffice(rows)}
    if not known:
        raise TrainingError(
            "No scan has enough annotations for anchored training: at least three landmarks, in a table whose column "
            "“case” holds the scans' names. Without landmarks use --preset virtual."
        )
    notes = []
    if strangers := sorted(set(observations) - set(names)):
        notes.append(f"No scan is called {', '.join(strangers[:5])}, which the annotations name.")
    if few := sorted(set(usable) - set(known)):
        notes.append(f"The annotations of {', '.join(few)} are not used: they are fewer than three along an axis.")
    annotations = Annotations(points, known, takes_unlabelled=takes_unlabelled)
    return replace(annotations, notes=(*notes, *_unused(annotations, settings, names)))


def _unused(annotations: Annotations, settings: DataSettings, names: Collection[str]) -> list[str]:
    """Sentences about scans that a run does not need."""
    notes = []
    unused = {name for name in names if not annotations.needs(name, settings)}
    if blind := sorted(unused & set(settings.held_out)):
        notes.append(f"Nothing is validated on {', '.join(blind)}, for lack of landmarks.")
    if count := len(unused - set(settings.held_out)):
        have, are, them = ("scans have", "are", "them") if count > 1 else ("scan has", "is", "it")
        notes.append(f"{count} {have} too few landmarks and {are} not used; --preset mixed uses {them}.")
    return notes


def training_set(files: Sequence[PreparedFile], annotations: Annotations, settings: DataSettings) -> TrainingSet:
    """Scans, their canonical frames and landmarks. Scans with too few annotations along an axis stay unlabelled.

    All scans that the run needs are held in memory, each with 9 bytes per voxel of 2 x 2 x 3 mm (30 to 60 MB for
    a trunk); the others are not read.
    """
    scans = [
        ListedScan(file.name, file.name, partial(training_scan, file))
        for file in files
        if annotations.needs(file.name, settings)
    ]
    return assemble(scans, (), annotations.points, annotations.known, settings)


def _suffice(observations: Sequence[Observation]) -> bool:
    return all(sum(o.axis == axis for o in observations) >= _FEWEST for axis in range(3))


def _observations(points: Mapping, boxes: str | None) -> dict[str, list[Observation]]:
    observations: dict[str, list[Observation]] = {}
    for case, landmarks in points.items():
        for name, (point, sigma) in landmarks.items():
            observations.setdefault(case, []).extend(point_observations(name, point, sigma))
    for case, rows in (read_box_observations(Path(boxes)) if boxes else {}).items():
        observations.setdefault(case, []).extend(rows)
    return observations


def training_scan(file: PreparedFile) -> TrainingScan:
    """A prepared scan in memory, with its low-passed levels, in types that take little of it."""
    image = np.asarray(file.image(), np.float32) * (BRIGHTEST / file.unit)
    body = torch.from_numpy(np.array(file.body(), bool))[None, None]
    return TrainingScan(file.name, file.name, [level.half() for level in low_passed(image)], body, file.grid_to_ras)


def fitted_range(scans: Sequence[TrainingScan], margin: float = 0.15) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and offset (3,) in mm for which (0, 1) spans the canonical coordinates of the scans, with a margin.

    These are of all knots of a scan's volume, in the air around the body too.
    """
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for scan in scans:
        values = scan.targets[0, :3].reshape(3, -1).cpu().numpy()
        low, high = np.minimum(low, values.min(1)), np.maximum(high, values.max(1))
    scale = np.maximum(high - low, 100.0) * (1 + 2 * margin)
    offset = 0.5 * (low + high) - 0.5 * scale
    return tuple(np.round(scale, 1).tolist()), tuple(np.round(offset, 1).tolist())
