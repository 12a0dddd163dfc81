"""Retrieval study: every annotated landmark and organ of the targets, found from the supports, or rightly not found.

For absence the target is cropped so that the landmark is certainly outside, embedded anew, and searched again; a
missing annotation proves nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from APELocalizerLib.core.embedding_map import EmbeddingMap
from APELocalizerLib.core.errors import PreparationError, ScanError
from APELocalizerLib.core.geometry import apply_affine, subgrid_affine
from APELocalizerLib.core.landmark_library import LandmarkLibrary
from APELocalizerLib.core.localization import LocalizationSettings, localize
from APELocalizerLib.core.progress import Progress, report
from APELocalizerLib.core.scan import Scan
from APELocalizerLib.core.scan_io import read_scan
from APELocalizerLib.evaluation.cases import Case
from APELocalizerLib.evaluation.library_builder import joined, learn_case

Embed = Callable[[Scan], EmbeddingMap]
CROP_MARGIN_MM = 40.0
"""How far outside the cropped field of view a landmark lies in the not-found trial."""
SMALLEST_CROP_MM = 120.0


@dataclass(frozen=True)
class Retrieval:
    """One retrieval. `kind`: landmark, organ, or absent (cropped away). Error: of the point or the box's centre, mm."""

    target: str
    supports: tuple[str, ...]
    name: str
    kind: str
    error_mm: float
    edge_error_mm: float
    iou: float
    round_trip_mm: float
    distance: float
    found: bool


def run_study(
    targets: Sequence[Case],
    supports: Sequence[Case],
    embed: Embed,
    shots: int = 1,
    settings: LocalizationSettings | None = None,
    absent: bool = True,
    same_patient: Callable[[str, str], bool] = lambda a, b: a == b,
    progress: Progress | None = None,
) -> list[Retrieval]:
    """Retrieve every annotation of every target from every combination of `shots` supports of other patients.

    `shots` 0 takes all supports at once. Landmarks that only some of the supports have are learned from those.
    """
    settings = settings or LocalizationSettings()
    everyone = {case.id: case for case in (*supports, *targets)}
    scans = {name: read_scan(case.path) for name, case in everyone.items()}
    maps = {}
    for number, name in enumerate(everyone):
        report(progress, 0.5 * number / len(everyone), f"Embedding {name}")
        maps[name] = embed(scans[name])
    libraries = {}
    for case in supports:
        support_map = replace(maps[case.id], scan_fingerprint=case.id, scan_name=case.id)
        libraries[case.id], _ = learn_case(case, support_map)
    results: list[Retrieval] = []
    for number, target in enumerate(targets):
        report(progress, 0.5 + 0.5 * number / len(targets), f"Searching {target.id}")
        others = [case.id for case in supports if not same_patient(case.id, target.id)]
        groups = [tuple(others)] if shots == 0 else list(combinations(others, shots))
        crops = _crops(target, scans[target.id], maps[target.id], embed) if absent else []
        for group in groups:
            library = joined([libraries[name] for name in group])
            results += _present(target, group, library, maps[target.id], settings)
            for gone, cropped in crops:
                results += _absent(target, group, library, gone, cropped, settings)
    return results


def _present(
    target: Case,
    group: tuple[str, ...],
    library: LandmarkLibrary,
    embedding_map: EmbeddingMap,
    settings: LocalizationSettings,
) -> list[Retrieval]:
    known = library.subset([*target.points, *target.whole_boxes])
    if not known.entries:
        return []
    answer = localize(embedding_map, known, settings)
    rows = []
    for point in answer.points:
        error = float(np.linalg.norm(np.array(point.candidate_ras) - target.points[point.name]))
        rows.append(_row(target, group, point, "landmark", error))
    for organ in answer.organs:
        truth = target.boxes[organ.name]
        walls = np.array(organ.edge_points_ras)[np.arange(6), [0, 0, 1, 1, 2, 2]]
        wanted = np.array([truth.minimum, truth.maximum]).T.ravel()
        iou = organ.raw_box.iou(truth) if organ.raw_box else 0.0
        center = (walls[::2] + walls[1::2]) / 2
        row = _row(target, group, organ, "organ", float(np.linalg.norm(center - truth.center)))
        rows.append(replace(row, iou=iou, edge_error_mm=float(np.abs(walls - wanted).mean())))
    return rows


def _absent(
    target: Case,
    group: tuple[str, ...],
    library: LandmarkLibrary,
    gone: list[str],
    cropped: EmbeddingMap,
    settings: LocalizationSettings,
) -> list[Retrieval]:
    known = library.subset(gone)
    if not known.entries:
        return []
    return [
        _row(target, group, point, "absent", float("nan")) for point in localize(cropped, known, settings).points
    ]


def _row(target: Case, group: tuple[str, ...], result: object, kind: str, error: float) -> Retrieval:
    nan = float("nan")
    return Retrieval(
        target.id, group, result.name, kind, error, nan, nan, result.round_trip_mm, result.distance, result.found
    )


def _crops(target: Case, scan: Scan, whole: EmbeddingMap, embed: Embed) -> list[tuple[list[str], EmbeddingMap]]:
    """Up to two crops (head half, foot half), each with the landmarks that lie far outside it."""
    view = whole.field_of_view
    middle = float(view.center[2])
    crops = []
    for low, high in ((middle, view.maximum[2]), (view.minimum[2], middle)):
        gone = [
            name
            for name, point in target.points.items()
            if point[2] < low - CROP_MARGIN_MM or point[2] > high + CROP_MARGIN_MM
        ]
        if gone and high - low >= SMALLEST_CROP_MM:
            try:
                crops.append((gone, embed(crop_superior_inferior(scan, low, high))))
            except (ScanError, PreparationError):
                continue
    return crops


def crop_superior_inferior(scan: Scan, low: float, high: float) -> Scan:
    """The part of a scan between two heights (S, mm), cut along the grid axis nearest to superior-inferior."""
    axis = int(np.argmax(np.abs(scan.ijk_to_ras[2, :3])))
    count = scan.voxels.shape[axis]
    indices = np.zeros((count, 3))
    indices[:, axis] = np.arange(count)
    heights = apply_affine(scan.ijk_to_ras, indices)[:, 2]
    kept = np.flatnonzero((heights >= low) & (heights <= high))
    if len(kept) < 2:
        raise ScanError("The crop leaves no slices of the scan.")
    start = np.zeros(3)
    start[axis] = kept[0]
    voxels = np.take(scan.voxels, np.arange(kept[0], kept[-1] + 1), axis=axis)
    return Scan(voxels, subgrid_affine(scan.ijk_to_ras, start, np.ones(3)), f"{scan.name} cropped")
