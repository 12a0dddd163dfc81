"""From a case's files to its places: landmarks, organ centers and extreme points, with its organs and its body.

A `Place` names something that can be looked for; the same place is learned on the supports and compared with on the
target. Positions are RAS mm.
"""

from collections.abc import Iterable
from fnmatch import fnmatch

import numpy as np

from APELocalizerLib.core.annotations.cases import Case
from APELocalizerLib.core.annotations.organ_marks import (
    OrganMarks,
    marks_of_box,
    marks_of_mask,
    side_centers,
)
from APELocalizerLib.core.scan.label_map import check_place, read_label_map
from APELocalizerLib.core.scan.scan import Scan
from APELocalizerLib.evaluation.protocol import Protocol
from APELocalizerLib.methods.annotated_case import AnnotatedCase, Place
from APELocalizerLib.methods.body_box import body_bounds

SKIPPED = ("*tumor*", "*cyst*", "*lesion*", "body")
"""Labels that are no anatomy to be found on other patients; patterns."""


def annotated_case(
    case: Case, scan: Scan, protocol: Protocol, organs: Iterable[str] | None = None, skipped: Iterable[str] = SKIPPED
) -> AnnotatedCase:
    """The case with its scan. `organs` keeps the organs named, `skipped` drops organs by pattern.

    Where a table and a label map both show an organ, the label map counts. Raises `EvaluationError` for a label map
    that cannot be read or lies elsewhere than the scan.
    """
    view = scan.bounds()
    marks = {
        name: marks_of_box(box, case.cut.get(name, ()), case.box_uncertainty_mm.get(name, 0.0), view, scan.spacing)
        for name, box in case.boxes.items()
    }
    wanted = None if organs is None else set(organs)

    def counts(name: str) -> bool:
        return name in wanted if wanted is not None else not any(fnmatch(name, pattern) for pattern in skipped)

    warnings = scan.warnings
    if case.label_map is not None:
        label_map = read_label_map(case.label_map)
        check_place(label_map, view, scan.voxels.shape, scan.ijk_to_ras)
        warnings += label_map.warnings
        for label, name in case.label_names.items():
            mask = label_map.labels == label
            organ = marks_of_mask(mask, label_map.ijk_to_ras, view, protocol) if counts(name) else None
            if organ is not None:
                marks[name] = organ
    marks = {name: organ for name, organ in marks.items() if counts(name)}
    points, places, notes = _places(case, marks, protocol)
    return AnnotatedCase(
        *(case.id, case.person, points, marks, case.uncertainty_mm, view, body_bounds(scan), scan.ijk_to_ras),
        *(places, (*warnings, *notes)),
    )


def _places(
    case: Case, marks: dict[str, OrganMarks], protocol: Protocol
) -> tuple[dict[str, np.ndarray], dict[Place, np.ndarray], tuple[str, ...]]:
    """Points that are certain enough, all places with their positions, and what was left out, in sentences."""
    limit = protocol.max_uncertainty_mm
    points = {name: point for name, point in case.points.items() if case.uncertainty_mm.get(name, 0.0) <= limit}
    places = {Place("landmark", "point", name): point[None] for name, point in points.items()}
    notes = []
    cut = sorted(name for name, organ in marks.items() if organ.cut)
    if cut and protocol.cut_organs == "skip":
        notes.append(f"{case.id}: the field of view cuts {', '.join(cut)}, left out.")
    dropped = sorted(set(case.points) - set(points))
    for name, organ in marks.items():
        if organ.cut and protocol.cut_organs == "skip":
            continue
        if organ.uncertainty_mm > limit:
            dropped.append(name)
            continue
        if organ.center is not None and organ.edges is not None and protocol.organ_points != "box":
            places[Place("center", "mask", name)] = organ.center[None]
            places[Place("organ", "mask", name)] = organ.edges
        if protocol.organ_points != "mask":
            places[Place("center", "box", name)] = organ.box.center[None]
            places[Place("organ", "box", name)] = side_centers(organ.box)
    if dropped:
        notes.append(f"{case.id}: {', '.join(dropped)} left out, annotated too uncertainly.")
    return points, places, tuple(notes)
