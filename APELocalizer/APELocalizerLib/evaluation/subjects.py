"""A case, read: its places (landmarks, organ centers, extreme points), its organs, where its body is, and its crops.

A `Place` names something that can be looked for; the same place is learned on the supports and compared with on the
target. Positions are RAS mm.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np

from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.annotations.organ_marks import (
    OrganMarks,
    marks_of_box,
    marks_of_mask,
    read_label_map,
    side_centers,
)
from APELocalizerLib.core.base.errors import ScanError
from APELocalizerLib.core.base.geometry import apply_affine, subgrid_affine
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.methods.places import Place, Subject, body_of

SMALLEST_CROP_MM = 120.0
SKIPPED = ("*tumor*", "*cyst*", "*lesion*", "body")
"""Labels that are no anatomy to be found on other patients; patterns."""


def read_subject(
    case: Case, scan: Scan, protocol: Protocol, organs: Iterable[str] | None = None, skipped: Iterable[str] = SKIPPED
) -> Subject:
    """The case with its scan. `organs` keeps the organs named, `skipped` drops organs by pattern.

    Where a table and a label map both show an organ, the label map counts.
    """
    view = scan.bounds()
    marks = {
        name: marks_of_box(box, case.cut.get(name, ()), case.box_uncertainty_mm.get(name, 0.0), view, scan.spacing)
        for name, box in case.boxes.items()
    }
    wanted = None if organs is None else set(organs)

    def counts(name: str) -> bool:
        return name in wanted if wanted is not None else not any(fnmatch(name, each) for each in skipped)

    if case.label_map is not None:
        labels, ijk_to_ras = read_label_map(case.label_map)
        for label, name in case.label_names.items():
            found = marks_of_mask(labels == label, ijk_to_ras, view, protocol) if counts(name) else None
            if found is not None:
                marks[name] = found
    marks = {name: mark for name, mark in marks.items() if counts(name)}
    points, places, notes = _places(case, marks, protocol)
    return Subject(
        case.id, case.person, points, marks, case.uncertainty_mm, view, body_of(scan), scan.ijk_to_ras, places, notes
    )


def _places(case: Case, marks: dict[str, OrganMarks], protocol: Protocol) -> tuple[dict, dict, tuple[str, ...]]:
    limit = protocol.max_uncertainty_mm
    points = {name: point for name, point in case.points.items() if case.uncertainty_mm.get(name, 0.0) <= limit}
    places = {Place("landmark", "point", name): point[None] for name, point in points.items()}
    notes = []
    cut = sorted(name for name, mark in marks.items() if mark.cut)
    if cut and protocol.cut_organs == "skip":
        notes.append(f"{case.id}: the field of view cuts {', '.join(cut)}, left out.")
    dropped = sorted(set(case.points) - set(points))
    for name, mark in marks.items():
        if mark.cut and protocol.cut_organs == "skip":
            continue
        if mark.uncertainty_mm > limit:
            dropped.append(name)
            continue
        if mark.has_mask and protocol.organ_points != "box":
            places[Place("center", "mask", name)] = mark.center[None]
            places[Place("organ", "mask", name)] = mark.edges
        if protocol.organ_points != "mask":
            places[Place("center", "box", name)] = mark.box.center[None]
            places[Place("organ", "box", name)] = side_centers(mark.box)
    if dropped:
        notes.append(f"{case.id}: {', '.join(dropped)} left out, annotated too uncertainly.")
    return points, places, tuple(notes)


@dataclass(frozen=True)
class Crop:
    """A part of a target's scan, and the places that are certainly outside it."""

    id: str
    scan: Scan
    gone: tuple[Place, ...]


def crops_of(subject: Subject, scan: Scan, margin_mm: float) -> list[Crop]:
    """Up to two crops (head half, foot half), each with the places that lie at least `margin_mm` outside it."""
    middle, view = float(subject.field_of_view.center[2]), subject.field_of_view
    halves = {"head half": (middle, view.maximum[2]), "foot half": (view.minimum[2], middle)}
    crops = []
    for name, (low, high) in halves.items():
        gone = []
        for place, positions in subject.places.items():
            heights = positions[:, 2] if place.kind == "landmark" else _heights(subject.organs[place.name])
            if heights.max() < low - margin_mm or heights.min() > high + margin_mm:
                gone.append(place)
        if gone and high - low >= SMALLEST_CROP_MM:
            try:
                part = crop_superior_inferior(scan, low, high)
            except ScanError:
                continue
            crops.append(Crop(f"{subject.id} {name}", part, tuple(gone)))
    return crops


def _heights(organ: OrganMarks) -> np.ndarray:
    return np.array([organ.box.minimum[2], organ.box.maximum[2]])


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
