"""The training set of a folder laid out as train/, labels/ and annotations/: scans, canonical frames and shares."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from APELocalizerLib.core.annotations.cases import table_of
from APELocalizerLib.core.annotations.tables import read_rows
from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.training.data.annotation_tables import annotation_observations, read_landmarks
from APELocalizerLib.training.data.average_patient import (
    AveragePatient,
    FrameModel,
    Observation,
    fit_frame,
    point_observations,
    robust_frames,
)
from APELocalizerLib.training.data.cache import state_of
from APELocalizerLib.training.data.label_maps import label_observations
from APELocalizerLib.training.data.scans import (
    TrainingScan,
    add_landmarks,
    add_targets,
    organ_labels_of,
    read_ct,
    read_label_map,
    scan_from_ct,
    scan_from_labels,
)

_LOG = logging.getLogger(__name__)


@dataclass
class TrainingSet:
    """Scans with targets for training, held-out scans, and the average patient they share."""

    train: list[TrainingScan]
    held_out: list[TrainingScan]
    unlabelled: list[TrainingScan]
    patient: AveragePatient
    observations: dict[str, list[Observation]]


def gather_observations(folder: Path) -> dict[str, list[Observation]]:
    """Observations of all annotated scans and label maps of a data folder."""
    scans = annotation_observations(folder / "annotations")
    for path in sorted((folder / "labels").glob("*_seg.nii.gz")):
        scans[path.name.removesuffix("_seg.nii.gz")] = label_observations(organ_labels_of(path))
    return scans


def read_patients(folder: Path) -> dict[str, str]:
    """Scan → patient of the table patients.csv (case,patient) in the data folder or in its folder annotations.

    A scan that the table does not name is the only one of a patient who is called as the scan is.
    """
    path = table_of(folder, "patients.csv")
    rows = read_rows(path, ("case", "patient")) if path is not None else []
    return {row["case"].strip(): row["patient"].strip() for row in rows if row["patient"].strip()}


def _check_held_out(folder: Path, held_out: tuple[str, ...], patient_of: Mapping[str, str]) -> None:
    """Raise `TrainingError` for a held-out patient without a scan: the name may be wrong, and the scans trained on."""
    names = [path.name.removesuffix(".nii.gz") for path in (folder / "train").glob("*.nii.gz")]
    missing = sorted(set(held_out) - {patient_of.get(name, name) for name in names})
    if missing:
        raise TrainingError(
            f"There is no scan of the patient {missing[0]}, who is to be held out, in “{folder / 'train'}”. Correct "
            f"the name, or say whose scan each one is in “{folder / 'patients.csv'}” (columns: case,patient)."
        )


def load_training_set(
    folder: Path,
    held_out: tuple[str, ...],
    model: FrameModel,
    cache: Path | None = None,
    synthetic_share: float = 0.22,
    excluded: tuple[str, ...] = (),
    more_landmarks: Path | None = None,
    keep_unlabelled: bool = True,
) -> TrainingSet:
    """Read everything into memory. `held_out` names patients (see `read_patients`) that only validation may see.

    Held-out patients have no part in the average patient; `excluded` scans are not used at all.
    `more_landmarks` is a further table, of whose landmarks those count that annotations/landmarks.csv lacks. `cache` is
    a JSON file that keeps the observations until the tables or label maps change. Without `keep_unlabelled`, scans
    without annotations are not read. Raises `TrainingError` for a held-out patient without a scan, `AnnotationError`
    for a damaged table.
    """
    patient_of = read_patients(folder)
    _check_held_out(folder, held_out, patient_of)
    observations = _cached(cache, folder)
    known = {name: o for name, o in observations.items() if patient_of.get(name, name) not in held_out}
    known = {name: o for name, o in known.items() if name not in excluded}
    landmarks = read_landmarks(folder / "annotations" / "landmarks.csv")
    for name, points in (read_landmarks(more_landmarks) if more_landmarks else {}).items():
        new = {key: mark for key, mark in points.items() if key not in landmarks.get(name, {})}
        landmarks[name] = {**landmarks.get(name, {}), **new}
        for key, (point, sigma) in new.items():
            known.setdefault(name, []).extend(point_observations(key, point, sigma))
    patient, kept = robust_frames(known, model)
    train, validation, unlabelled = [], [], []
    for path in sorted((folder / "train").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        patient_name = patient_of.get(name, name)
        if name in excluded or not (keep_unlabelled or name in kept or patient_name in held_out):
            continue
        _LOG.info("reading %s", name)
        scan = scan_from_ct(name, patient_name, *read_ct(path))
        positions = {key: point for key, (point, _) in landmarks.get(name, {}).items()}
        add_landmarks(scan, positions, patient)
        if scan.patient in held_out:
            validation.append(scan)
        elif name in kept:
            add_targets(scan, fit_frame(kept[name], patient, model))
            train.append(scan)
        else:
            unlabelled.append(scan)
    painted = []
    for path in sorted((folder / "labels").glob("*_seg.nii.gz")):
        name = path.name.removesuffix("_seg.nii.gz")
        if name in excluded or name in {scan.name for scan in train}:
            continue
        _LOG.info("filling %s", name)
        scan = scan_from_labels(name, name, *read_label_map(path))
        add_targets(scan, fit_frame(kept[name], patient, model))
        painted.append(scan)
    share_out(train, painted, synthetic_share)
    _LOG.info(
        "%d scans, %d painted, %d held out, %d unlabelled", len(train), len(painted), len(validation), len(unlabelled)
    )
    return TrainingSet(train + painted, validation, unlabelled, patient, kept)


def share_out(real: list[TrainingScan], painted: list[TrainingScan], synthetic_share: float) -> None:
    """How often each scan is drawn: long scans and scans of the pelvis (which are few) more often."""
    for scan in real + painted:
        length = scan.shape[2] * scan.spacing[2]
        lowest = float(scan.targets[0, 2].min())
        scan.share = float(np.clip(length / 300.0, 0.4, 1.5)) * (1.6 if lowest < -230 else 1.0)
        if scan.shape[0] * scan.spacing[0] < 210:
            scan.share *= 0.4  # cropped to the spine or to a lung
    total_real, total_painted = (sum(scan.share for scan in group) for group in (real, painted))
    for scan in painted:
        scan.share *= synthetic_share / max(1e-9, 1 - synthetic_share) * total_real / max(total_painted, 1e-9)


def _cached(path: Path | None, folder: Path) -> dict[str, list[Observation]]:
    """Observations of label maps take half a minute: keep them in the run's own folder, with what they were made of."""
    if path is None:
        return gather_observations(folder)
    state = [state_of(folder / part) for part in ("annotations", "labels")]
    if (kept := _kept(path, state)) is not None:
        return kept
    observations = gather_observations(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {case: [astuple(observation) for observation in rows_of_case] for case, rows_of_case in observations.items()}
    write_text(path, json.dumps({"state": state, "observations": rows}))
    return observations


def _kept(path: Path, state: list[str]) -> dict[str, list[Observation]] | None:
    """Observations kept in a file, or None if it is missing, damaged, or made of other tables and label maps."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["state"] != state:
            return None
        return {
            case: [Observation(key, axis, tuple(point), sigma) for key, axis, point, sigma in rows]
            for case, rows in values["observations"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
