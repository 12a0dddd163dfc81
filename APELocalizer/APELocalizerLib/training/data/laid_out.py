"""A folder laid out as train/, labels/ and annotations/: its scans, label maps and observations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path

from APELocalizerLib.core.annotations.cases import table_of
from APELocalizerLib.core.annotations.tables import read_rows
from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.files import write_text
from APELocalizerLib.training.data.annotation_tables import PointsOfCase, annotation_observations, read_landmarks
from APELocalizerLib.training.data.average_patient import Observation, point_observations
from APELocalizerLib.training.data.cache import state_of
from APELocalizerLib.training.data.label_maps import label_observations
from APELocalizerLib.training.data.scans import ct_scan, organ_labels_of, painted_scan
from APELocalizerLib.training.data.settings import DataSettings
from APELocalizerLib.training.data.training_set import ListedScan, TrainingSet, assemble

_SCAN, _LABELS = ".nii.gz", "_seg.nii.gz"


def gather_observations(folder: Path) -> dict[str, list[Observation]]:
    """Observations of all annotated scans and label maps of a data folder."""
    scans = annotation_observations(folder / "annotations")
    for path in _label_maps(folder):
        scans[path.name.removesuffix(_LABELS)] = label_observations(organ_labels_of(path))
    return scans


def _label_maps(folder: Path) -> list[Path]:
    return sorted((folder / "labels").glob(f"*{_LABELS}"))


def _scan_files(folder: Path) -> dict[str, Path]:
    """Scans of a data folder by name."""
    return {path.name.removesuffix(_SCAN): path for path in sorted((folder / "train").glob(f"*{_SCAN}"))}


def read_patients(folder: Path) -> dict[str, str]:
    """Scan → patient of the table patients.csv (case,patient) in the data folder or in its folder annotations.

    A scan that the table does not name is the only one of a patient who is called as the scan is.
    """
    path = table_of(folder, "patients.csv")
    rows = read_rows(path, ("case", "patient")) if path is not None else []
    return {row["case"]: row["patient"] for row in rows if row["patient"]}


def _check_held_out(folder: Path, held_out: tuple[str, ...], patient_of: Mapping[str, str]) -> None:
    """Raise `TrainingError` for a held-out patient without a scan: the name may be wrong, and the scans trained on."""
    missing = sorted(set(held_out) - {patient_of.get(name, name) for name in _scan_files(folder)})
    if missing:
        raise TrainingError(
            f"There is no scan of the patient {missing[0]}, who is to be held out, in “{folder / 'train'}”. Correct "
            f"the name, or say whose scan each one is in “{folder / 'patients.csv'}” (columns: case,patient)."
        )


def load_training_set(settings: DataSettings, cache: Path | None = None, keep_unlabelled: bool = True) -> TrainingSet:
    """Read the scans of `settings.folder` into memory. `settings.held_out` names patients (see `read_patients`).

    Held-out patients have no part in the average patient. `cache` is a JSON file that keeps the observations until the
    tables or label maps change. Without `keep_unlabelled`, scans without annotations are not read. Raises
    `TrainingError` for a held-out patient without a scan, `AnnotationError` for a damaged table.
    """
    folder = Path(settings.folder)
    patient_of = read_patients(folder)
    _check_held_out(folder, settings.held_out, patient_of)
    landmarks, known = _annotations(settings, patient_of, cache)
    scans = [
        ListedScan(name, patient_of.get(name, name), partial(ct_scan, name, patient_of.get(name, name), path))
        for name, path in _scan_files(folder).items()
        if name not in settings.excluded
        and (keep_unlabelled or name in known or patient_of.get(name, name) in settings.held_out)
    ]
    names = {path.name.removesuffix(_LABELS): path for path in _label_maps(folder)}
    painted = [
        ListedScan(name, name, partial(painted_scan, name, path)) for name, path in names.items() if name in known
    ]
    return assemble(scans, painted, landmarks, known, settings)


def _annotations(
    settings: DataSettings, patient_of: Mapping[str, str], cache: Path | None
) -> tuple[dict[str, PointsOfCase], dict[str, list[Observation]]]:
    """Landmarks, and the observations of all scans and label maps that are neither excluded nor of held-out patients.

    Of `more_landmarks` those count that annotations/landmarks.csv lacks.
    """
    folder = Path(settings.folder)
    known = {
        name: list(observations)
        for name, observations in _cached(cache, folder).items()
        if patient_of.get(name, name) not in settings.held_out and name not in settings.excluded
    }
    landmarks = read_landmarks(folder / "annotations" / "landmarks.csv")
    more = Path(settings.more_landmarks) if settings.more_landmarks else None
    for name, points in (read_landmarks(more) if more else {}).items():
        new = {key: mark for key, mark in points.items() if key not in landmarks.get(name, {})}
        landmarks[name] = {**landmarks.get(name, {}), **new}
        for key, (point, sigma) in new.items():
            known.setdefault(name, []).extend(point_observations(key, point, sigma))
    return landmarks, known


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
