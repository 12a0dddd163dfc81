"""The one way from scans and observations to a training set: average patient, frames, targets, and shares.

Laid-out folders and a user's own scans differ only in how scans are listed and read; both hand them in here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from APELocalizerLib.training.data.annotation_tables import PointsOfCase
from APELocalizerLib.training.data.average_patient import AveragePatient, Observation, fit_frame, robust_frames
from APELocalizerLib.training.data.scans import TrainingScan, add_landmarks, add_targets
from APELocalizerLib.training.data.settings import DataSettings

_LOG = logging.getLogger(__name__)

USUAL_LENGTH_MM = 300.0
"""Length of a scan that is drawn with a share of 1; others are drawn in proportion."""

SHORTEST_SHARE, LONGEST_SHARE = 0.4, 1.5
"""Bounds of the share that a scan gets by its length."""

PELVIS_BELOW_MM, PELVIS_SHARE = -230.0, 1.6
"""A scan that reaches below this height of the average patient shows the pelvis; few do, so it is drawn more often."""

NARROWEST_MM, NARROW_SHARE = 210.0, 0.4
"""A scan that is less deep from front to back is cropped to the spine or to a lung, and drawn less often."""


@dataclass
class TrainingSet:
    """Scans with targets for training, held-out scans, and the average patient they share."""

    train: list[TrainingScan]
    held_out: list[TrainingScan]
    unlabelled: list[TrainingScan]
    patient: AveragePatient
    observations: dict[str, list[Observation]]


@dataclass(frozen=True)
class ListedScan:
    """A scan that a training may use: its name, its patient's, and how to read it into memory."""

    name: str
    patient: str
    read: Callable[[], TrainingScan]


def assemble(
    scans: Iterable[ListedScan],
    painted: Iterable[ListedScan],
    landmarks: Mapping[str, PointsOfCase],
    known: Mapping[str, Sequence[Observation]],
    settings: DataSettings,
) -> TrainingSet:
    """Read scans (and label maps, which are painted) and give them targets in the average patient of all `known`.

    known: observations by scan; those of held-out patients must be left out. Scans without any stay unlabelled.
    """
    patient, kept = robust_frames(known, settings.frame)
    train, held_out, unlabelled = [], [], []
    for listed in scans:
        _LOG.info("reading %s", listed.name)
        scan = listed.read()
        add_landmarks(scan, {name: point for name, (point, _) in landmarks.get(listed.name, {}).items()}, patient)
        if listed.patient in settings.held_out:
            held_out.append(scan)
        elif listed.name in kept:
            add_targets(scan, fit_frame(kept[listed.name], patient, settings.frame))
            train.append(scan)
        else:
            unlabelled.append(scan)
    read = {scan.name for scan in train}
    filled = []
    for listed in painted:
        if listed.name in read:
            continue
        _LOG.info("filling %s", listed.name)
        scan = listed.read()
        add_targets(scan, fit_frame(kept[listed.name], patient, settings.frame))
        filled.append(scan)
    share_out(train, filled, settings.synthetic_share)
    return TrainingSet(train + filled, held_out, unlabelled, patient, kept)


def share_out(real: Sequence[TrainingScan], painted: Sequence[TrainingScan], synthetic_share: float) -> None:
    """How often each scan is drawn, by the constants on top; painted scans get `synthetic_share` of all draws."""
    for scan in (*real, *painted):
        length = scan.shape[2] * scan.spacing[2]
        scan.share = float(np.clip(length / USUAL_LENGTH_MM, SHORTEST_SHARE, LONGEST_SHARE))
        if float(scan.targets[0, 2].min()) < PELVIS_BELOW_MM:
            scan.share *= PELVIS_SHARE
        if scan.shape[0] * scan.spacing[0] < NARROWEST_MM:
            scan.share *= NARROW_SHARE
    total_real, total_painted = (sum(scan.share for scan in group) for group in (real, painted))
    for scan in painted:
        scan.share *= synthetic_share / max(1e-9, 1 - synthetic_share) * total_real / max(total_painted, 1e-9)
