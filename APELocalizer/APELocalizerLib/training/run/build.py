"""From the settings of a run to its objective: scans are found, prepared, and turned into what training draws from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from APELocalizerLib.core.base.errors import TrainingError
from APELocalizerLib.core.base.geometry import triple
from APELocalizerLib.core.base.progress import CancelCheck, Progress
from APELocalizerLib.training.config import TrainingConfig
from APELocalizerLib.training.data.cache import PreparedFile, prepare_scans
from APELocalizerLib.training.data.laid_out import load_training_set
from APELocalizerLib.training.data.own_scans import (
    anchored_store,
    fitted_range,
    landmark_table,
    read_annotations,
    training_set,
)
from APELocalizerLib.training.data.scan_files import find_scans
from APELocalizerLib.training.data.training_set import TrainingSet
from APELocalizerLib.training.data.volumes import AnchoredSource, PreparedSource, VolumeSource
from APELocalizerLib.training.objectives.anchored import AnchoredObjective
from APELocalizerLib.training.objectives.objective import TrainingObjective
from APELocalizerLib.training.objectives.self_consistency import SelfConsistency
from APELocalizerLib.training.objectives.self_supervised import MixedObjective, PairObjective
from APELocalizerLib.training.objectives.teacher import apply_teacher
from APELocalizerLib.training.run.distributed import Processes

_LOG = logging.getLogger(__name__)
_VALIDATED = 6
"""Scans that validation looks at, at most."""


@dataclass(eq=False)
class Setup:
    """A run's objective and the settings with everything decided.

    scans: names of those trained on. left_out: why others cannot be used, by name. notes: sentences about annotations
    and scans that are not used. data: the scans of anchored training. largest_scan: bytes that
    the largest scan of self-supervised training takes while it is in use.
    """

    objective: TrainingObjective
    config: TrainingConfig
    scans: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    data: TrainingSet | None = None
    largest_scan: float = 0.0


def set_up(
    config: TrainingConfig,
    device: torch.device,
    processes: Processes,
    data: TrainingSet | None = None,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> Setup:
    """Read and prepare the scans of a run. `data` replaces the scans of anchored training.

    Raises `TrainingError` when the scans or landmarks do not suffice.
    """
    left_out: dict[str, str] = {}
    if not config.objective.kind.is_anchored:
        files, left_out = prepared_files(config, processes, progress, cancelled)
        pairs = pair_objective(config, files, device)
        largest = max(source.nbytes for source in pairs.sources if isinstance(source, PreparedSource))
        return Setup(pairs, config, tuple(source.name for source in pairs.sources), left_out, largest_scan=largest)
    notes: tuple[str, ...] = ()
    if data is None and config.data.scans:
        files, left_out = prepared_files(config, processes, progress, cancelled)
        annotations = read_annotations(config.data, [file.name for file in files], config.objective.takes_unlabelled)
        data, notes = training_set(files, annotations, config.data), annotations.notes
    elif data is None:
        data = _laid_out(config)
    if config.objective.teacher:
        apply_teacher(data, Path(config.objective.teacher), config.data.frame, config.data.synthetic_share)
    if config.objective.scale is None or config.objective.offset is None:
        scale, offset = fitted_range(data.train)
        config = config.changed(scale=scale, offset=offset)
    objective = _anchored_objective(config, data, device)
    trained = data.train + (data.unlabelled if config.objective.kind.is_self_supervised else [])
    return Setup(objective, config, tuple(scan.name for scan in trained), left_out, notes, data)


def _anchored_objective(config: TrainingConfig, data: TrainingSet, device: torch.device) -> TrainingObjective:
    """Anchored training, alone or beside the self-supervised one; some of its scans validate it."""
    plain: list[VolumeSource] = [
        AnchoredSource(scan) for scan in data.train + data.unlabelled if scan.label_names is None
    ]
    validation = SelfConsistency(plain[:_VALIDATED], config.crops.deformation, (4.0, 4.0, 6.0), device, config.seed)
    if not config.objective.kind.is_self_supervised:
        return AnchoredObjective(config, data, device, validation)
    return MixedObjective(AnchoredObjective(config, data, device), PairObjective(config, plain, device, validation))


def prepared_files(
    config: TrainingConfig,
    processes: Processes,
    progress: Progress | None = None,
    cancelled: CancelCheck | None = None,
) -> tuple[list[PreparedFile], dict[str, str]]:
    """The run's scans, prepared by the first process of each machine while the others wait."""
    scans = chosen_scans(config)
    settings = anchored_store() if config.objective.kind.is_anchored else config.objective.of_pairs.stored
    cache = Path(config.data.cache or Path(config.output) / "cache")
    if processes.first_here:
        files, problems = prepare_scans(scans, cache, settings, progress, cancelled)
    processes.wait()
    if not processes.first_here:
        files, problems = prepare_scans(scans, cache, settings)
    return files, problems


def chosen_scans(config: TrainingConfig) -> dict[str, Path]:
    """The run's scans by name, without the excluded ones.

    Raises `TrainingError` when there is none to train on, or when no scan has a name that is to be held out.
    """
    scans = {name: path for name, path in find_scans(scan_places(config)).items() if name not in config.data.excluded}
    if config.objective.kind.is_anchored and config.data.is_laid_out:
        return scans  # of laid-out data, patients are held out, not scans
    if absent := sorted(set(config.data.held_out) - set(scans)):
        raise TrainingError(f"No scan is called “{absent[0]}”, which was to be held out. Scans: {_some(scans)}.")
    if set(scans) <= set(config.data.held_out):
        raise TrainingError("All scans are held out; none is left to train on.")
    return scans


def scan_places(config: TrainingConfig) -> tuple[str, ...]:
    """Where the scans of a run are: as given, or the train folder of laid-out data."""
    if config.data.scans:
        return config.data.scans
    if config.data.folder:
        return (str(Path(config.data.folder) / "train"),)
    raise TrainingError("No scans were given. Name files or a folder with --scans.")


def pair_objective(config: TrainingConfig, files: list[PreparedFile], device: torch.device) -> PairObjective:
    """Self-supervised objective on prepared scans; held-out ones, or else some of all, validate it."""
    pairs = config.objective.of_pairs
    smooth = pairs.stored.preparation.antialias
    sources: list[VolumeSource] = [PreparedSource(file, smooth=smooth) for file in files]
    train = [source for source in sources if source.name not in config.data.held_out]
    if not train:
        raise TrainingError("All scans that can be read are held out; none is left to train on.")
    points = landmark_table(config.data.landmarks)
    landmarks = {case: {name: point for name, (point, _) in of_case.items()} for case, of_case in points.items()}
    held_out = [source for source in sources if source.name in config.data.held_out]
    annotated = [source for source in sources if source.name in landmarks]
    chosen = (held_out + [source for source in annotated if source not in held_out]) or train
    spacing = np.clip((4.0, 4.0, 6.0), pairs.finest, pairs.coarsest)
    validation = SelfConsistency(
        chosen[:_VALIDATED], config.crops.deformation, triple(spacing), device, config.seed, landmarks
    )
    return PairObjective(config, train, device, validation)


def _laid_out(config: TrainingConfig) -> TrainingSet:
    """The training set of a folder with train/, labels/ and annotations/."""
    settings, folder = config.data, Path(config.data.folder)
    if not settings.folder or not (folder / "annotations" / "landmarks.csv").is_file():
        raise TrainingError(
            "Anchored training needs scans with landmarks: give --scans and --landmarks, or in the settings “data”, "
            "a folder with train/, labels/ and annotations/landmarks.csv."
        )
    cache = Path(config.output) / "observations.json"
    return load_training_set(settings, cache, config.objective.takes_unlabelled)


def _some(names: dict) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
